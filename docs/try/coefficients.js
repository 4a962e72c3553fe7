// What stands in a JPEG before its pixels are computed: the coefficients of its blocks of 8 x 8, their factors, and how the picture is turned.
// Usual JPEGs: grey or YCbCr, baseline or progressive, colours at full or half size. Follows ITU T.81.

// The place of each coefficient in its block, in the order in which they are stored.
export const ZIGZAG = Uint8Array.of(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56,
  57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63);

// A JPEG that is no usual one, or not whole.
export class Unusual extends Error {}

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

// Size, orientation and parts (each with its blocks' coefficients and factors) of the JPEG that begins at `at`.
export function readJpeg(bytes, at) {
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
