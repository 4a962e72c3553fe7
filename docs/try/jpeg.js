// A large JPEG, decoded at a half, a quarter or an eighth of its size, with the numbers that libjpeg gives Pillow's `draft`: averaging what the
// browser decodes comes close, and the network notices the difference. Usual JPEGs (grey or YCbCr, baseline or progressive, colours at full or
// half size); for others `decodeSmaller` returns null. Follows ITU T.81, and libjpeg's jidctint.c, jidctred.c and jdcolor.c for the arithmetic.

const ZIGZAG = Uint8Array.of(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
  57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63);

class Unusual extends Error {}

// The bits of a scan; a marker among them ends it.
class Bits {
  constructor(bytes, at) { Object.assign(this, { bytes, at, kept: 0, count: 0, beyond: 0 }); }

  fill() {
    while (this.count <= 16) {
      let byte = this.bytes[this.at];
      if (byte === undefined || byte === 0xff && this.bytes[this.at + 1] !== 0) { byte = 0; if (++this.beyond > 8) throw new Unusual("it ends early"); }
      else this.at += byte === 0xff ? 2 : 1;
      this.kept = this.kept << 8 | byte;
      this.count += 8;
    }
  }

  take(count) {
    if (!count) return 0;
    this.fill();
    this.count -= count;
    return this.kept >>> this.count & (1 << count) - 1;
  }

  // A number of so many bits, negative ones with a leading 0.
  signed(count) { const found = this.take(count); return count && found < 1 << count - 1 ? found - (1 << count) + 1 : found; }

  symbol(table) {
    this.fill();
    const found = table[this.kept >>> this.count - 16 & 0xffff];
    if (!found) throw new Unusual("an unknown code");
    this.count -= found >> 8;
    return found & 0xff;
  }

  restart() {
    this.count = this.kept = this.beyond = 0;
    if (this.bytes[this.at] === 0xff && this.bytes[this.at + 1] >= 0xd0 && this.bytes[this.at + 1] <= 0xd7) this.at += 2;
    else throw new Unusual("no restart marker where one is due");
  }
}

// For all 16 bits that may come: the length of the code that they begin with, and its symbol.
function huffman(lengths, symbols) {
  const table = new Uint16Array(65536);
  let place = 0, number = 0;
  for (let length = 1; length <= 16; length++) for (let count = lengths[length - 1]; count; count--, number++) {
    table.fill(length << 8 | symbols[number], place, place += 1 << 16 - length);
  }
  return table;
}

// How the coefficients of one block are read: by kind of scan.
const baseline = (bits, part, block, data) => {
  data[block] = part.last += bits.signed(bits.symbol(part.direct));
  for (let k = 1; k < 64; k++) {
    const code = bits.symbol(part.other), size = code & 15;
    if (size) data[block + ZIGZAG[k += code >> 4]] = bits.signed(size);
    else if (code < 0xf0) break;
    else k += 15;
  }
};
const firstDirect = (bits, part, block, data, { low }) => { data[block] = (part.last += bits.signed(bits.symbol(part.direct))) << low; };
const nextDirect = (bits, part, block, data, { low }) => { data[block] |= bits.take(1) << low; };
const firstOther = (bits, part, block, data, scan) => {
  if (scan.skip) { scan.skip--; return; }
  for (let k = scan.from; k <= scan.to; k++) {
    const code = bits.symbol(part.other), size = code & 15, run = code >> 4;
    if (size) data[block + ZIGZAG[k += run]] = bits.signed(size) * (1 << scan.low);
    else if (run < 15) { scan.skip = (1 << run) - 1 + bits.take(run); break; }
    else k += 15;
  }
};
const nextOther = (bits, part, block, data, scan) => {
  const one = 1 << scan.low;
  const refine = at => { if (bits.take(1) && !(data[at] & one)) data[at] += data[at] > 0 ? one : -one; };
  let k = scan.from;
  if (!scan.skip) for (; k <= scan.to; k++) {
    const code = bits.symbol(part.other), size = code & 15;
    let run = code >> 4, value = 0;
    if (size) value = bits.take(1) ? one : -one;
    else if (run < 15) { scan.skip = (1 << run) + bits.take(run); break; }
    for (; k <= scan.to; k++) {
      const at = block + ZIGZAG[k];
      if (data[at]) refine(at);
      else if (run-- === 0) { data[at] = value; break; }
    }
  }
  if (scan.skip) {
    for (; k <= scan.to; k++) if (data[block + ZIGZAG[k]]) refine(block + ZIGZAG[k]);
    scan.skip--;
  }
};

// One scan: the blocks of its parts in their order. Returns where it ends.
function readScan(bytes, at, parts, scan, frame) {
  const bits = new Bits(bytes, at), alone = parts.length === 1;
  const read = !frame.progressive ? baseline : scan.from ? scan.high ? nextOther : firstOther : scan.high ? nextDirect : firstDirect;
  const across = alone ? Math.ceil(frame.width * parts[0].h / frame.h / 8) : frame.across, down = alone ? Math.ceil(frame.height * parts[0].v / frame.v / 8) : frame.down;
  for (let unit = 0; unit < across * down; unit++) {
    if (unit % frame.interval === 0) { if (unit) bits.restart(); scan.skip = 0; parts.forEach(part => { part.last = 0; }); }
    const x = unit % across, y = Math.floor(unit / across);
    for (const part of parts) for (let row = 0; row < (alone ? 1 : part.v); row++) for (let column = 0; column < (alone ? 1 : part.h); column++) {
      const block = alone ? y * part.across + x : (y * part.v + row) * part.across + x * part.h + column;
      read(bits, part, 64 * block, part.data, scan);
    }
  }
  return bits.at;
}

function readFrame(view, at, progressive) {
  const [height, width, count] = [view.getUint16(at + 1), view.getUint16(at + 3), view.getUint8(at + 5)];
  if (view.getUint8(at) !== 8 || count !== 1 && count !== 3 || !width || !height) throw new Unusual("depth or colours");
  const parts = Array.from({ length: count }, (_, number) => {
    const place = at + 6 + 3 * number, sampling = count === 1 ? 0x11 : view.getUint8(place + 1);
    return { id: view.getUint8(place), h: sampling >> 4, v: sampling & 15, quantisation: view.getUint8(place + 2) };
  });
  const [{ h, v }, ...colours] = parts;
  if (h !== v || h > 2 || colours.some(part => part.h !== 1 || part.v !== 1) || colours.length && String.fromCharCode(...parts.map(part => part.id)) === "RGB") throw new Unusual("sampling");
  const frame = { width, height, h, v, progressive, parts, across: Math.ceil(width / 8 / h), down: Math.ceil(height / 8 / v), interval: Infinity };
  for (const part of parts) Object.assign(part, { across: frame.across * part.h, data: new Int16Array(64 * frame.across * part.h * frame.down * part.v) });
  return frame;
}

// All coefficients, and how the picture is turned.
function readFile(bytes, at) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), quantisation = [], direct = [], other = [];
  let frame, interval = Infinity, turn = 1;
  for (at += 2; at + 4 <= bytes.length;) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff) throw new Unusual("no marker where one is due");
    if (marker === 0xff) { at++; continue; }
    if (marker === 0xd9) break;
    const start = at + 4, end = at + 2 + view.getUint16(at + 2);
    at = end;
    if (marker === 0xdb) for (let place = start; place < end;) {
      const kind = view.getUint8(place++), wide = kind >> 4;
      quantisation[kind & 15] = Int32Array.from({ length: 64 }, (_, k) => wide ? view.getUint16(place + 2 * k) : view.getUint8(place + k));
      place += wide ? 128 : 64;
    } else if (marker === 0xc4) for (let place = start; place < end;) {
      const kind = view.getUint8(place), lengths = bytes.subarray(place + 1, place + 17), count = lengths.reduce((sum, length) => sum + length, 0);
      (kind >> 4 ? other : direct)[kind & 15] = huffman(lengths, bytes.subarray(place + 17, place + 17 + count));
      place += 17 + count;
    } else if (marker >= 0xc0 && marker <= 0xc2) { if (frame) throw new Unusual("two frames"); frame = readFrame(view, start, marker === 0xc2); }
    else if (marker > 0xc2 && marker <= 0xcf) throw new Unusual("kind of compression");
    else if (marker === 0xdd) interval = view.getUint16(start) || Infinity;
    else if (marker === 0xe1) turn = orientation(view, start, end) ?? turn;
    else if (marker === 0xee && end - start >= 12 && view.getUint32(start) === 0x41646f62 && view.getUint8(start + 11) === 0) throw new Unusual("RGB of Adobe");
    else if (marker === 0xda) {
      if (!frame) throw new Unusual("no frame");
      const parts = Array.from({ length: view.getUint8(start) }, (_, number) => {
        const part = frame.parts.find(({ id }) => id === view.getUint8(start + 1 + 2 * number)), tables = view.getUint8(start + 2 + 2 * number);
        if (!part) throw new Unusual("an unknown component");
        return Object.assign(part, { direct: direct[tables >> 4], other: other[tables & 15], table: part.table ?? quantisation[part.quantisation] });
      });
      const [from, to, shifts] = [view.getUint8(end - 3), view.getUint8(end - 2), view.getUint8(end - 1)];
      at = readScan(bytes, end, parts, { from, to, high: shifts >> 4, low: shifts & 15, skip: 0 }, Object.assign(frame, { interval }));
    }
  }
  if (!frame || frame.parts.some(part => !part.table)) throw new Unusual("no picture");
  return { ...frame, turn };
}

// How a camera was held, as EXIF says it: 1 to 8; undefined where it does not.
function orientation(view, start, end) {
  if (end - start < 20 || view.getUint32(start) !== 0x45786966) return undefined;
  const head = start + 6, little = view.getUint16(head) === 0x4949, first = head + view.getUint32(head + 4, little);
  for (let at = first + 2, left = view.getUint16(first, little); left && at + 12 <= end; left--, at += 12)
    if (view.getUint16(at, little) === 0x0112) { const found = view.getUint16(at + 8, little); return found >= 1 && found <= 8 ? found : 1; }
  return undefined;
}

// One line of 8 coefficients as 8, 4, 2 or 1 averages, `shift` bits too large at first. In integers of 13 bits behind the point.
const LINE = {
  8(s, at, step, out, to, next, shift) {
    const round = 1 << shift - 1;
    let z1 = (s[at + 2 * step] + s[at + 6 * step]) * 4433;
    const t2 = z1 - s[at + 6 * step] * 15137, t3 = z1 + s[at + 2 * step] * 6270, t0 = (s[at] + s[at + 4 * step]) * 8192, t1 = (s[at] - s[at + 4 * step]) * 8192;
    const a = t0 + t3 + round, d = t0 - t3 + round, b = t1 + t2 + round, c = t1 - t2 + round;
    let o0 = s[at + 7 * step], o1 = s[at + 5 * step], o2 = s[at + 3 * step], o3 = s[at + step];
    const z5 = (o0 + o2 + o1 + o3) * 9633, y1 = (o0 + o3) * -7373, y2 = (o1 + o2) * -20995, y3 = (o0 + o2) * -16069 + z5, y4 = (o1 + o3) * -3196 + z5;
    o0 = o0 * 2446 + y1 + y3; o1 = o1 * 16819 + y2 + y4; o2 = o2 * 25172 + y2 + y3; o3 = o3 * 12299 + y1 + y4;
    out[to] = a + o3 >> shift; out[to + 7 * next] = a - o3 >> shift; out[to + next] = b + o2 >> shift; out[to + 6 * next] = b - o2 >> shift;
    out[to + 2 * next] = c + o1 >> shift; out[to + 5 * next] = c - o1 >> shift; out[to + 3 * next] = d + o0 >> shift; out[to + 4 * next] = d - o0 >> shift;
  },
  4(s, at, step, out, to, next, shift) {
    const round = 1 << shift, even = s[at] * 16384 + round, more = s[at + 2 * step] * 15137 - s[at + 6 * step] * 6270;
    const z1 = s[at + 7 * step], z2 = s[at + 5 * step], z3 = s[at + 3 * step], z4 = s[at + step];
    const inner = z1 * -1730 + z2 * 11893 - z3 * 17799 + z4 * 8697, outer = z1 * -4176 - z2 * 4926 + z3 * 7373 + z4 * 20995;
    out[to] = even + more + outer >> shift + 1; out[to + 3 * next] = even + more - outer >> shift + 1;
    out[to + next] = even - more + inner >> shift + 1; out[to + 2 * next] = even - more - inner >> shift + 1;
  },
  2(s, at, step, out, to, next, shift) {
    const even = s[at] * 32768 + (2 << shift), odd = s[at + 7 * step] * -5906 + s[at + 5 * step] * 6967 - s[at + 3 * step] * 10426 + s[at + step] * 29692;
    out[to] = even + odd >> shift + 2; out[to + next] = even - odd >> shift + 2;
  },
};

// The samples of one component at `size` eighths of its own size: width and bytes.
function samples(part, size, frame) {
  const { across, data, table } = part, rows = data.length / 64 / across, width = across * size, found = new Uint8ClampedArray(width * rows * size);
  const block = new Int32Array(64), between = new Int32Array(64), last = new Int32Array(64), line = LINE[size];
  const factors = new Int32Array(64);
  ZIGZAG.forEach((place, k) => { factors[place] = table[k]; });
  for (let number = 0, from = 0; number < across * rows; number++, from += 64) {
    const to = Math.floor(number / across) * size * width + number % across * size;
    if (size === 1) { found[to] = (data[from] * factors[0] + 4 >> 3) + 128; continue; }
    for (let k = 0; k < 64; k++) block[k] = data[from + k] * factors[k];
    for (let column = 0; column < 8; column++) line(block, column, 8, between, column, 8, 11);
    for (let row = 0; row < size; row++) {
      line(between, 8 * row, 1, last, 0, 1, 18);
      for (let column = 0; column < size; column++) found[to + row * width + column] = last[column] + 128;
    }
  }
  return { width, found };
}

// Where a pixel of the upright picture lies in the stored one, by orientation.
const TURNS = [null, (x, y) => [x, y], (x, y, w) => [w - 1 - x, y], (x, y, w, h) => [w - 1 - x, h - 1 - y], (x, y, w, h) => [x, h - 1 - y],
  (x, y) => [y, x], (x, y, w, h) => [y, h - 1 - x], (x, y, w, h) => [w - 1 - y, h - 1 - x], (x, y, w) => [w - 1 - y, x]];

// Width, height and RGBA of the picture, upright and smaller by what `choose` says for its upright size; null when that is not 2, 4 or 8, and when
// it is no usual JPEG or not whole.
export function decodeSmaller(bytes, choose, at = 0) {
  let frame;
  try { frame = readFile(bytes, at); } catch (error) { if (error instanceof Unusual || error instanceof RangeError) return null; throw error; }
  const factor = frame.turn > 4 ? choose(frame.height, frame.width) : choose(frame.width, frame.height);
  if (![2, 4, 8].includes(factor)) return null;
  const size = 8 / factor, stored = [Math.ceil(frame.width * size / 8), Math.ceil(frame.height * size / 8)];
  const [light, blue, red] = frame.parts.map(part => samples(part, part === frame.parts[0] ? size : size * frame.h, frame));
  const [width, height] = frame.turn > 4 ? [stored[1], stored[0]] : stored, pixels = new Uint8ClampedArray(4 * width * height), turn = TURNS[frame.turn];
  for (let y = 0, to = 0; y < height; y++) for (let x = 0; x < width; x++, to += 4) {
    const [column, row] = turn(x, y, ...stored), value = light.found[row * light.width + column];
    const b = blue ? blue.found[row * blue.width + column] - 128 : 0, r = red ? red.found[row * red.width + column] - 128 : 0;
    pixels[to] = value + (91881 * r + 32768 >> 16);
    pixels[to + 1] = value + (-22554 * b - 46802 * r + 32768 >> 16);
    pixels[to + 2] = value + (116130 * b + 32768 >> 16);
    pixels[to + 3] = 255;
  }
  return { width, height, pixels };
}
