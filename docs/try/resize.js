// Pillow's resize with Hamming's filter, in Pillow's arithmetic: the network has learned from such pixels, and other filters change its answer.
// Follows https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c

const BITS = 22;  // of a weight after the point

const hamming = x => x === 0 ? 1 : x >= 1 ? 0 : Math.sin(x * Math.PI) / (x * Math.PI) * (Math.fround(0.54) + Math.fround(0.46) * Math.cos(x * Math.PI));

// For each pixel of the result the first pixel that it is made of, and the weights of that one and those after it, as integers.
function weights(from, to) {
  const scale = from / to, support = Math.max(1, scale);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5)), last = Math.min(from, Math.trunc(centre + support + 0.5));
    const exact = Array.from({ length: last - first }, (_, step) => hamming(Math.abs((step + first - centre + 0.5) / support)));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    return { first, whole: Int32Array.from(exact, weight => Math.trunc(weight / sum * 2 ** BITS + 0.5)) };
  });
}

// One line of `count` pixels of three bytes, `step` bytes apart, from `source` at `at` to `target` at `to`.
function line(source, at, step, target, to, stride, plan) {
  for (const { first, whole } of plan) {
    let red = 2 ** (BITS - 1), green = red, blue = red;
    for (let number = 0, from = at + first * step; number < whole.length; number++, from += step) {
      const weight = whole[number];
      red += source[from] * weight; green += source[from + 1] * weight; blue += source[from + 2] * weight;
    }
    target[to] = red >> BITS; target[to + 1] = green >> BITS; target[to + 2] = blue >> BITS;
    to += stride;
  }
}

// A picture that takes its rows as they come, at most some at a time, and gives the resized pixels: a large one is never in memory twice.
export class Resizer {
  constructor(width, height, toWidth, toHeight) {
    Object.assign(this, { width, height, toWidth, toHeight, rows: 0 });
    this.across = width === toWidth ? null : weights(width, toWidth);
    this.narrow = new Uint8ClampedArray(toWidth * height * 3);
  }

  // `pixels` holds whole rows, with `channels` bytes a pixel.
  add(pixels, channels) {
    const count = pixels.length / channels / this.width;
    for (let row = 0; row < count; row++, this.rows++) {
      const to = this.rows * this.toWidth * 3, at = row * this.width * channels;
      if (this.across) line(pixels, at, channels, this.narrow, to, 3, this.across);
      else for (let x = 0; x < this.width; x++) this.narrow.set(pixels.subarray(at + x * channels, at + x * channels + 3), to + 3 * x);
    }
  }

  finish() {
    if (this.height === this.toHeight) return this.narrow;
    const found = new Uint8ClampedArray(this.toWidth * this.toHeight * 3), down = weights(this.height, this.toHeight), row = this.toWidth * 3;
    for (let x = 0; x < row; x += 3) line(this.narrow, x, row, found, x, row, down);
    return found;
  }
}
