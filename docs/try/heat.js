// Where in a poster the evidence for a genre lies. The last layer is linear in means over places (and in how far they spread about their mean), so a
// logit is a sum over places; explain.json in the predictor's file says which tensors these are. See `poster_genres.lib.explanations`.

const follow = (view, at) => at + view.getUint32(at, true);

// Where a field of a FlatBuffers table lies; 0 when it is not there.
function field(view, table, number) {
  const layout = table - view.getInt32(table, true), entry = 4 + 2 * number;
  return entry < view.getUint16(layout, true) && view.getUint16(layout + entry, true) ? table + view.getUint16(layout + entry, true) : 0;
}

// The network's file with further tensors among its results: a longer list of results at its end, and the reference to it. Weights stay as they are.
export function withResults(file, tensors) {
  const old = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const graph = follow(old, follow(old, field(old, follow(old, 0), 2)) + 4), results = field(old, graph, 2), list = follow(old, results);
  const known = Array.from({ length: old.getUint32(list, true) }, (_, number) => old.getInt32(list + 4 + 4 * number, true));
  const all = [...known, ...tensors], at = file.length + 3 & ~3, longer = new Uint8Array(at + 4 + 4 * all.length), view = new DataView(longer.buffer);
  longer.set(file);
  [all.length, ...all].forEach((number, place) => view.setInt32(at + 4 * place, number, true));
  view.setUint32(results, at - results, true);
  return longer;
}

// How a cell of a coarse grid is shared out over the cells of a fine one, bilinearly: fine x coarse, each column adds up to 1.
function shares(coarse, fine) {
  const found = Array.from({ length: fine }, (_, cell) => {
    const place = Math.min(Math.max((cell + 0.5) * coarse / fine - 0.5, 0), coarse - 1);
    return Array.from({ length: coarse }, (_, other) => Math.max(0, 1 - Math.abs(place - other)));
  });
  const sums = found[0].map((_, other) => found.reduce((sum, row) => sum + row[other], 0));
  return found.map(row => row.map((share, other) => share / sums[other]));
}

// What each place of one level adds to the genre's logit.
function terms(places, { shape: [rows, columns, channels], mean, spread }, weights) {
  const count = rows * columns, found = new Float64Array(count);
  for (let channel = 0; channel < channels; channel++) {
    let sum = 0;
    for (let at = channel; at < places.length; at += channels) sum += places[at];
    const middle = sum / count, first = weights[mean + channel], second = spread === undefined ? 0 : weights[spread + channel];
    for (let place = 0, at = channel; place < count; place++, at += channels) found[place] += places[at] * first + Math.max(0, places[at] - middle) * second;
  }
  return found.map(term => term / count);
}

// The sum of all levels on the grid of the finest: rows, columns, and what each place adds to the logit, beside the constant that is added for all posters.
export function exactMap(explain, file, levels, genre) {
  const start = explain.weights + 4 * explain.features * genre, weights = new Float32Array(file.slice(start, start + 4 * explain.features).buffer);
  const rows = Math.max(...explain.levels.map(level => level.shape[0])), columns = Math.max(...explain.levels.map(level => level.shape[1]));
  const map = new Float64Array(rows * columns);
  explain.levels.forEach((level, number) => {
    const found = terms(levels[number], level, weights), [height, width] = level.shape, down = shares(height, rows), across = shares(width, columns);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let row = 0; row < rows; row++) {
      const part = down[row][y] * found[y * width + x];
      if (part) for (let column = 0; column < columns; column++) map[row * columns + column] += part * across[column][x];
    }
  });
  return { rows, columns, map, constant: new DataView(file.buffer, file.byteOffset).getFloat32(explain.bias + 4 * genre, true) };
}

// The map from 0 (adds no more than the average place) to 1, as `heat_maps` in Python.
export function heat({ map }) {
  const middle = map.reduce((sum, value) => sum + value, 0) / map.length, above = map.map(value => Math.max(value - middle, 0));
  const sorted = above.slice().sort(), at = 0.98 * (sorted.length - 1), low = Math.floor(at);
  const quantile = sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  const top = Math.max(quantile, sorted.at(-1) / 3, 1e-9);
  return above.map(value => Math.min(value / top, 1));
}
