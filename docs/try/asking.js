// Questions to the worker, and its answers.

export class Asking {
  #waiting = new Map();
  #count = 0;

  // `onProgress` is told how many bytes have arrived, and null when all have.
  constructor(onProgress) {
    this.worker = new Worker(new URL("worker.js", import.meta.url));
    this.worker.onmessage = ({ data: { id, result, error, progress } }) => {
      if (progress !== undefined) return onProgress(progress);
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      error === undefined ? resolve(result) : reject(new Error(error));
    };
    this.worker.onerror = event => {
      event.preventDefault?.();
      this.#waiting.forEach(({ reject }) => reject(new Error(event.message || "the computation stopped")));
      this.#waiting.clear();
    };
  }

  ask(kind, asked = {}) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#count, { resolve, reject });
      this.worker.postMessage({ id: this.#count, kind, ...asked });
    });
  }
}
