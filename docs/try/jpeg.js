// A large JPEG, decoded at a half, a quarter or an eighth of its size, with the numbers that libjpeg gives Pillow's `draft`: averaging what the
// browser decodes comes close, and the network notices the difference. Follows libjpeg's jidctint.c, jidctred.c and jdcolor.c.
import { readJpeg, Unusual, ZIGZAG } from "./coefficients.js";

// One line of 8 coefficients as 8, 4, 2 or 1 averages, `shift` bits too large at first. In integers of 13 bits behind the point.
const LINE = {
  8(s, at, step, out, to, next, shift) {
    const round = 1 << shift - 1;
    const z1 = (s[at + 2 * step] + s[at + 6 * step]) * 4433;
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
  try { frame = readJpeg(bytes, at); } catch (error) { if (error instanceof Unusual || error instanceof RangeError) return null; throw error; }
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
