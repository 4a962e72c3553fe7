// The two large files of the page: fetched once, with progress, and kept by the browser; they are compressed, whatever the server does.
import { inflate } from "./archive.js";

const SHELF = "poster-genres";

async function shelf() { try { return await caches.open(SHELF); } catch { return null; } }  // a page that may keep nothing

async function received(response, onBytes) {
  const parts = [], reader = response.body.getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) { parts.push(value); onBytes(value.length); }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

// Earlier versions of the file are thrown away.
async function keep(store, address, bytes) {
  try {
    for (const { url } of await store.keys()) if (url.split("?")[0] === address.split("?")[0]) await store.delete(url);
    await store.put(address, new Response(bytes));
  } catch { /* no room: it is fetched again the next time */ }
}

// The file's content. Throws when the download breaks off. `onBytes` is told of each piece.
export async function download({ address, bytes }, onBytes) {
  const store = await shelf(), kept = await store?.match(address), response = kept ?? await fetch(address);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  const data = await received(response, onBytes), packed = data[0] === 0x1f && data[1] === 0x8b;  // some servers unpack what ends in .gz
  if (packed && data.length !== bytes) throw new Error(`${data.length} of ${bytes} bytes arrived`);
  const content = packed ? await inflate(data, "gzip") : data;
  if (!kept && store) await keep(store, address, data);
  return content;
}
