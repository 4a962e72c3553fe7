// The network in LiteRT.js: https://ai.google.dev/edge/litert/web. It computes on one core, in WebAssembly, without a graphics processor.
import { withResults, exactMap, heat } from "./heat.js";

// LiteRT.js writes its remarks to the console as errors, and looks for a graphics processor that is not asked for: both are kept from it.
async function quietly(work) {
  const { warn, error } = console;
  Object.assign(console, { warn() {}, error() {} });
  if ("gpu" in navigator) Object.defineProperty(navigator, "gpu", { value: undefined, configurable: true });
  try { return await work(); } finally { Object.assign(console, { warn, error }); }
}

export class Network {
  // `wasm`: the runtime; `file`: the network; `explain`: what explain.json says, if the file has it.
  static async load(wasm, file, explain) {
    const made = new Network(), runtime = new URL("runtime/", import.meta.url);
    self.Module = { wasmBinary: wasm, print() {}, printErr() {} };
    Object.assign(made, { file, explain });
    await quietly(async () => {
      made.litert = await import(new URL("core.js", runtime));
      await made.litert.loadLiteRt(new URL("litert.js", runtime).href);
      const all = explain ? withResults(file, explain.levels.map(level => level.tensor)) : file;
      made.model = await made.litert.loadAndCompile(all, { accelerator: "wasm" });
    });
    const [, height, width] = made.model.getInputDetails()[0].shape;
    return Object.assign(made, { height, width });
  }

  // What `use` makes of the network's results for these pixels.
  async #run(pixels, use) {
    const poster = new this.litert.Tensor(new Uint8Array(pixels), [1, this.height, this.width, 3]);
    let results = [];
    try {
      results = await this.model.run([poster]);
      return use(results);
    } finally { [poster, ...results].forEach(tensor => tensor.delete()); }
  }

  // A calibrated probability for each genre.
  ask(pixels) { return this.#run(pixels, ([answer]) => Array.from(answer.toTypedArray())); }

  // Where the evidence for the genre lies.
  async where(pixels, genre) {
    const exact = await this.#run(pixels, ([, ...levels]) => exactMap(this.explain, this.file, levels.map(level => level.toTypedArray()), genre));
    return { ...exact, heat: heat(exact) };
  }
}
