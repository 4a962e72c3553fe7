// What is in a predictor's file: a network for LiteRT, and behind it a zip archive, read from its end as every reader of zip files does.

// The bytes without their gzip or zip compression ("gzip", "deflate-raw").
export async function inflate(bytes, kind) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream(kind))).arrayBuffer());
}

// The entries of the archive at the end of these bytes: name -> content. Sizes are those of the directory at the end, which are always right.
export async function entries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), text = new TextDecoder(), found = {};
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("the predictor's file has no archive at its end");
  const size = view.getUint32(end + 12, true), start = end - size, shift = start - view.getUint32(end + 16, true);
  for (let at = start; at < end; at += 46 + view.getUint16(at + 28, true) + view.getUint16(at + 30, true) + view.getUint16(at + 32, true)) {
    const name = text.decode(bytes.subarray(at + 46, at + 46 + view.getUint16(at + 28, true)));
    const local = view.getUint32(at + 42, true) + shift;
    const data = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const content = bytes.subarray(data, data + view.getUint32(at + 20, true));
    found[name] = view.getUint16(at + 10, true) === 8 ? await inflate(content, "deflate-raw") : content;
  }
  return found;
}

export const json = bytes => JSON.parse(new TextDecoder().decode(bytes));
