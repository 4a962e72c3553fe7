// The text model of the predictor's file, as `poster_genres.words` and `poster_genres.lib.ngrams` have it: what a title adds to each genre's log-odds.
import { json } from "./archive.js";

const encoder = new TextEncoder();

// Words without accents and in lower case, at most 300 of at most 24 characters.
export function wordsOf(text) {
  const kept = [...[...text].slice(0, 10_000).join("").normalize("NFKD").toLowerCase()]
    .map(character => /[\p{L}\p{N}]/u.test(character) ? character : /\p{M}/u.test(character) ? "" : " ");
  return kept.join("").split(" ").filter(Boolean).slice(0, 300).map(word => [...word].slice(0, 24).join(""));
}

// FNV-1a of 32 bits, folded.
export function hashed(text) {
  let number = 2166136261;
  for (const byte of encoder.encode(text)) number = Math.imul(number ^ byte, 16777619);
  return (number ^ number >>> 15) >>> 0;
}

// The hashes of words and pairs of words, and those of 2 to 5 neighbouring characters of each word.
export function features(text) {
  const words = wordsOf(text), grams = [];
  for (const word of words) {
    const marked = [...`<${word}>`];
    for (let size = 2; size <= 5 && size < marked.length; size++)
      for (let start = 0; start + size <= marked.length; start++) grams.push(hashed(marked.slice(start, start + size).join("")));
  }
  const pairs = words.slice(1).map((word, place) => `${words[place]} ${word}`);
  return [[...words, ...pairs].map(one => hashed(`=${one}`)), grams];
}

const logOdds = probability => { const inside = Math.min(Math.max(probability, 1e-6), 1 - 1e-6); return Math.log(inside / (1 - inside)); };

export class TextModel {
  constructor(known, bytes) {
    const { features, genres, scales, combinations } = known;
    Object.assign(this, { size: features / 2, genres: genres.length, scales, combinations });
    this.inverse = new Float32Array(bytes.slice(0, 4 * features).buffer);
    this.weights = new Int8Array(bytes.buffer, bytes.byteOffset + 4 * features, features * genres.length);
  }

  // What the text adds to the log-odds of each genre.
  evidence(text) {
    const found = new Float64Array(this.genres);
    features(text).forEach((hashes, half) => {
      const counts = new Map();
      for (const hash of hashes) { const column = half * this.size + (hash & this.size - 1); counts.set(column, (counts.get(column) ?? 0) + 1); }
      const weighted = [...counts].map(([column, count]) => [column, count * this.inverse[column]]);
      const length = Math.max(Math.sqrt(weighted.reduce((sum, [, value]) => sum + value ** 2, 0)), 1e-9);
      for (const [column, value] of weighted)
        for (let genre = 0; genre < this.genres; genre++) found[genre] += value / length * this.weights[column * this.genres + genre] * this.scales[genre];
    });
    return found;
  }

  // The probabilities that picture and title give together, and the thresholds that belong to them, if there are such.
  together(probabilities, title) {
    const { slopes, shifts, thresholds } = this.combinations.picture_and_title, evidence = this.evidence(title);
    const sums = probabilities.map((probability, genre) => slopes[0][genre] * logOdds(probability) + slopes[1][genre] * evidence[genre] + shifts[genre]);
    return { probabilities: sums.map(sum => 1 / (1 + Math.exp(-sum))), thresholds };
  }
}

// The text model among the entries of a predictor's file; null when there is none that a title can be given to.
export function textModel(entries) {
  const known = entries["words.json"] && json(entries["words.json"]);
  return known?.combinations?.picture_and_title ? new TextModel(known, entries["words.bin"]) : null;
}
