// What an answer says: which genres in which order, as words and as the JSON of `poster-genres predict --json`.

// Name, probability and whether it is predicted, of each genre, most probable first.
export const ranked = (genres, { probabilities, thresholds }) => genres
  .map((name, place) => ({ name, place, probability: probabilities[place], threshold: thresholds[place], predicted: probabilities[place] >= thresholds[place] }))
  .sort((one, other) => other.probability - one.probability || one.place - other.place);

export const percent = share => `${Math.round(100 * share)} %`;

// The predicted genres, or else the most probable one, as one line.
export function summary(genres, answer) {
  const found = ranked(genres, answer), predicted = found.filter(genre => genre.predicted);
  const words = list => list.map(genre => `${genre.name} ${percent(genre.probability)}`).join(", ");
  return predicted.length ? words(predicted) : `none above its threshold; most probable: ${words(found.slice(0, 1))}`;
}

const quoted = text => JSON.stringify(text).replace(/[\u007f-\uffff]/g, sign => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
const rounded = share => { const text = String(Number(share.toFixed(4))); return text.includes(".") ? text : `${text}.0`; };

// One line for each poster that was answered, then one for each that could not be opened.
export function asJson(genres, posters) {
  const good = posters.filter(poster => poster.answer).map(poster => {
    const list = ranked(genres, poster.answer).map(({ name, probability, predicted }) =>
      `{"name": ${quoted(name)}, "probability": ${rounded(probability)}, "predicted": ${predicted}}`);
    const title = poster.title.trim() ? `, "title": ${quoted(poster.title)}` : "";
    return `{"file": ${quoted(poster.name)}, "genres": [${list.join(", ")}]${title}}`;
  });
  const bad = posters.filter(poster => poster.error).map(poster => `{"file": ${quoted(poster.name)}, "error": ${quoted(poster.error)}}`);
  return [...good, ...bad].map(line => `${line}\n`).join("");
}

const ROWS = ["upper", "middle", "lower"], COLUMNS = ["left", "centre", "right"];

// A heat map in a sentence: in which ninths of the poster most of it lies.
export function whereInWords(name, { rows, columns, heat }) {
  const parts = new Map();
  heat.forEach((value, at) => {
    const part = `${ROWS[Math.floor(3 * Math.floor(at / columns) / rows)]} ${COLUMNS[Math.floor(3 * (at % columns) / columns)]}`;
    parts.set(part, (parts.get(part) ?? 0) + value);
  });
  const sum = heat.reduce((total, value) => total + value, 0) || 1, sorted = [...parts].sort(([, one], [, other]) => other - one);
  const named = [];
  for (let share = 0; named.length < 3 && share < 0.5; share += sorted[named.length - 1][1] / sum) named.push(sorted[named.length]);
  const words = named.map(([part, value]) => `the ${part} (${percent(value / sum)})`);
  return `What speaks for ${name} lies mostly in ${words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0]} of the poster.`;
}
