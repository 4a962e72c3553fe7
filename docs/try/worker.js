// All the work of the page, beside it, so that it never freezes: { id, kind, ... } comes in, { id, result } or { id, error } goes out.
// A classic worker, since LiteRT.js loads its WebAssembly with importScripts.
let modules, predictor;

async function load({ runtime, network }) {
  const [archive, { download }, { Network }, { textModel }, decoding] = modules ??=
    await Promise.all(["archive", "download", "network", "words", "decode"].map(name => import(`./${name}.js`)));
  let arrived = 0;
  const onBytes = count => self.postMessage({ progress: arrived += count });
  const files = await Promise.allSettled([runtime, network].map(file => download(file, onBytes)));  // the one that arrives is kept when the other does not
  for (const { reason } of files) if (reason) throw reason;
  const [wasm, file] = files.map(({ value }) => value);
  self.postMessage({ progress: null });
  const entries = await archive.entries(file), known = archive.json(entries["genres.json"]);
  if ((known.fit ?? "stretch") !== "stretch") throw new Error(`the predictor wants posters fitted by ${known.fit}, which this page cannot do`);
  const explain = entries["explain.json"] && archive.json(entries["explain.json"]);
  predictor = { ...known, network: await Network.load(wasm, file, explain), text: textModel(entries), ...decoding };
  return { genres: known.genres, thresholds: known.thresholds, titles: Boolean(predictor.text), heat: Boolean(explain) };
}

const work = {
  load,
  async poster({ file }) {
    const { network, decode, thresholds } = predictor, pixels = await decode(file, network.width, network.height);
    return { probabilities: await network.ask(pixels), thresholds };
  },
  title({ probabilities, title }) {
    const found = predictor.text.together(probabilities, title);
    return { thresholds: predictor.thresholds, ...found, thresholds: found.thresholds ?? predictor.thresholds };
  },
  async where({ file, genre }) {
    const { network, decode } = predictor;
    return network.where(await decode(file, network.width, network.height), genre);
  },
};

self.onmessage = async ({ data: { id, kind, ...asked } }) => {
  try { self.postMessage({ id, result: await work[kind](asked) }); }
  catch (error) { self.postMessage({ id, error: error.message, kind: error.constructor.name }); }
};
