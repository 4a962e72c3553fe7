// From a file to the pixels that the network takes: upright, on white, without colour management, resized as `poster_genres.lib.images` does it.
import { decodeSmaller } from "./jpeg.js";
import { Resizer } from "./resize.js";

export const MOST_BYTES = 110_000_000, MOST_PIXELS = 25_000_000;  // as in Python; a JPEG may have four times as many pixels, since it is read smaller
const STRIP = 64;  // rows that are looked at together

export class BadImage extends Error {}

const find = (bytes, ...pattern) => {
  for (let at = 0; at < Math.min(bytes.length, 65536) - pattern.length; at++) if (pattern.every((byte, place) => bytes[at + place] === byte)) return at;
  return -1;
};
const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

// Width and height that the frame header of a JPEG claims.
function jpegSize(view, at) {
  for (at += 2; at + 9 < view.byteLength;) {
    const marker = view.getUint8(at + 1);
    if (view.getUint8(at) !== 0xff) return null;
    if (marker === 0xff) at++;
    else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [view.getUint16(at + 7), view.getUint16(at + 5)];
    else at += 2 + view.getUint16(at + 2);
  }
  return null;
}

function webpSize(bytes, view) {
  const kind = text(bytes, 12, 16);
  if (kind === "VP8X") return [1 + (view.getUint32(24, true) & 0xffffff), 1 + (view.getUint32(27, true) & 0xffffff)];
  if (kind === "VP8L") return [1 + (view.getUint32(21, true) & 0x3fff), 1 + (view.getUint32(21, true) >> 14 & 0x3fff)];
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

// What a file claims to be, before a browser decodes it: its format, its size in pixels if the format is known, and where it begins.
export function look(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), start = text(bytes, 0, 4);
  try {
    if (start === "\x89PNG") return { format: "PNG", size: [view.getUint32(16), view.getUint32(20)], at: 0 };
    if (start.startsWith("GIF")) return { format: "GIF", size: [view.getUint16(6, true), view.getUint16(8, true)], at: 0 };
    if (start === "RIFF" && text(bytes, 8, 12) === "WEBP") return { format: "WebP", size: webpSize(bytes, view), at: 0 };
    if (start.startsWith("BM")) return { format: "BMP", size: [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))], at: 0 };
    if (text(bytes, 4, 8) === "ftyp") {
      const box = find(bytes, 0x69, 0x73, 0x70, 0x65);  // ispe: the size of an AVIF's picture
      return { format: "AVIF", size: box < 0 ? null : [view.getUint32(box + 8), view.getUint32(box + 12)], at: 0 };
    }
    const at = find(bytes, 0xff, 0xd8, 0xff);
    if (at >= 0 && !/^(II\*|MM\0)/.test(start)) return { format: "JPEG", size: jpegSize(view, at), at };
  } catch (error) { if (!(error instanceof RangeError)) throw error; }
  return { format: /^(II\*|MM\0)/.test(start) ? "TIFF" : "", size: null, at: 0 };
}

// Why the bytes are not worth decoding, or an empty text.
function refusal(bytes, { format, size }) {
  const start = text(bytes, 0, 512).trimStart().toLowerCase();
  if (!bytes.length) return "empty file";
  if (/^(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml|svg)/.test(start)) return "a web page or drawing, not an image of pixels";
  if (size && size[0] * size[1] > MOST_PIXELS * (format === "JPEG" ? 4 : 1)) return `${size[0].toLocaleString("en")} x ${size[1].toLocaleString("en")} pixels are more than this page decodes (25 million, in a JPEG 100 million)`;
  return format ? "" : "no image in a format that browsers know";
}

async function bitmapOf(blob, format) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "default" });
  } catch { throw new BadImage(format === "TIFF" ? "a TIFF, which this browser cannot open: save it as PNG or JPEG" : `damaged ${format}, or one that this browser cannot open`); }
}

// How many pixels of a JPEG become one in each direction when Pillow decodes it for a picture of this size: its `draft`.
function shrinking(width, height, toWidth, toHeight) {
  let factor = [8, 4, 2, 1].find(factor => Math.min(Math.trunc(width / (2 * toWidth)), Math.trunc(height / (2 * toHeight))) >= factor) ?? 1;
  while (width * height / factor ** 2 > MOST_PIXELS) factor *= 2;
  return factor;
}

// Rows of RGBA, `factor` x `factor` pixels averaged to one: nearly what `draft` does.
function average(pixels, width, rows, factor) {
  const toWidth = Math.ceil(width / factor), toRows = Math.ceil(rows / factor), found = new Uint8ClampedArray(4 * toWidth * toRows);
  for (let y = 0; y < toRows; y++) for (let x = 0; x < toWidth; x++) {
    const down = Math.min(factor, rows - y * factor), across = Math.min(factor, width - x * factor);
    let red = 0, green = 0, blue = 0;
    for (let row = 0; row < down; row++) for (let column = 0, at = 4 * ((y * factor + row) * width + x * factor); column < across; column++, at += 4) {
      red += pixels[at]; green += pixels[at + 1]; blue += pixels[at + 2];
    }
    const count = down * across, to = 4 * (y * toWidth + x);
    found[to] = red / count; found[to + 1] = green / count; found[to + 2] = blue / count;  // the array rounds
  }
  return found;
}

// The pixels of a decoded picture at the size that the network takes, three bytes each.
function pixelsOf(bitmap, factor, toWidth, toHeight) {
  const { width, height } = bitmap, resizer = new Resizer(Math.ceil(width / factor), Math.ceil(height / factor), toWidth, toHeight);
  const canvas = new OffscreenCanvas(width, Math.min(STRIP, height)), brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.fillStyle = "white";
  for (let top = 0; top < height; top += STRIP) {
    const rows = Math.min(STRIP, height - top);
    brush.fillRect(0, 0, width, rows);
    brush.drawImage(bitmap, 0, top, width, rows, 0, 0, width, rows);
    const { data } = brush.getImageData(0, 0, width, rows);
    resizer.add(factor > 1 ? average(data, width, rows, factor) : data, 4);
  }
  return resizer.finish();
}

// The pixels of a large JPEG, which Pillow decodes smaller; null for all others, and for JPEGs that only the browser can decode.
function smallerPixels(bytes, { format, size, at }, toWidth, toHeight) {
  const factor = (width, height) => shrinking(width, height, toWidth, toHeight);
  if (format !== "JPEG" || !size || size[0] * size[1] > MOST_PIXELS || Math.max(factor(...size), factor(size[1], size[0])) < 2) return null;
  const found = decodeSmaller(bytes, factor, at);
  if (!found) return null;
  const resizer = new Resizer(found.width, found.height, toWidth, toHeight);
  resizer.add(found.pixels, 4);
  return resizer.finish();
}

// The pixels of a poster file (a Blob). Throws `BadImage` with the reason when there is no picture in it.
export async function decode(file, toWidth, toHeight) {
  if (file.size > MOST_BYTES) throw new BadImage("more than 110 MB, which no poster needs");
  let bytes;
  try { bytes = new Uint8Array(await file.arrayBuffer()); } catch { throw new BadImage("cannot be read: a folder, or it has changed since"); }
  const about = look(bytes), wrong = refusal(bytes, about), smaller = wrong ? null : smallerPixels(bytes, about, toWidth, toHeight);
  if (wrong) throw new BadImage(wrong);
  if (smaller) return smaller;
  const bitmap = await bitmapOf(about.at ? new Blob([bytes.subarray(about.at)]) : file, about.format);
  try {
    return pixelsOf(bitmap, about.format === "JPEG" ? shrinking(bitmap.width, bitmap.height, toWidth, toHeight) : 1, toWidth, toHeight);
  } finally { bitmap.close(); }
}
