// The page: what happens from the first poster to the last.
import { Asking } from "./asking.js";
import { asJson } from "./answers.js";
import { Details } from "./details.js";
import { intake } from "./intake.js";
import { List } from "./list.js";

const LANES = 2;  // posters in work at a time: one is decoded while the network looks at the other
const files = JSON.parse(document.getElementById("files").textContent), total = files.runtime.bytes + files.network.bytes;
const root = document.getElementById("try"), part = name => root.querySelector(`[data-part=${name}]`);
const [status, progress, count, retry, stop, tools, size] = ["status", "progress", "count", "retry", "stop", "tools", "size"].map(part);
const megabytes = bytes => (bytes / 1e6).toFixed(1);

const say = text => { status.textContent = text; count.textContent = ""; };  // what goes on counting stands beside it and is not read aloud
const asking = new Asking(arrived => {
  progress.hidden = arrived === null;
  progress.value = arrived ?? 0;
  if (arrived === null) return say("Starting the network …");
  if (!status.textContent) say(`Loading the network, ${megabytes(total)} MB`);
  count.textContent = `${megabytes(Math.min(arrived, total))} MB`;
});
const ask = (kind, asked) => asking.ask(kind, asked);
const details = new Details(part("details"), ask, poster => list.draw(poster, known.genres), text => { part("spoken").textContent = text; });
const list = new List(part("list"), choose);
let posters = [], known, loading, run = 0;

function choose(poster) {
  details.show(poster);
  list.mark(poster);
  if (posters.length > 1) part("details").scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

// The network, loaded once; after a failure once more at the next call.
async function ready() {
  loading ??= ask("load", files);
  try { known ?? details.know(known = await loading); } catch (error) { loading = undefined; throw error; }
  size.textContent = "The network is loaded, and your browser keeps it.";
}

function clear() {
  run++;
  posters.forEach(poster => URL.revokeObjectURL(poster.address));
  posters = [];
  details.hide();
  list.fill(posters);
  [tools, stop, retry, progress].forEach(each => { each.hidden = true; });
  root.classList.remove("busy");
  say("");
}

function take(taken) {
  clear();
  posters = taken.map(({ file, name }) => ({ file, name, title: "", address: URL.createObjectURL(file) }));
  list.fill(posters);
  root.classList.add("busy");
  return work();
}

async function work() {
  const mine = run;
  retry.hidden = true;
  say("");
  try { await ready(); } catch (error) {
    if (mine !== run) return;
    progress.hidden = true;
    retry.hidden = false;
    return say(`The network did not load (${error.message}).`);
  }
  if (mine !== run) return;
  say(posters.length > 1 ? `Asking about ${posters.length} posters` : "");
  const waiting = posters.slice();
  stop.hidden = waiting.length < 2;
  stop.onclick = () => { waiting.length = 0; };
  const lane = async () => { while (waiting.length && mine === run) await answer(waiting.shift(), mine); };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (mine === run) finish();
}

async function answer(poster, mine) {
  try { poster.answer = poster.picture = await ask("poster", { file: poster.file }); } catch (error) { poster.error = error.message; }
  if (mine !== run) return;
  list.draw(poster, known.genres);
  const done = posters.filter(each => each.answer || each.error).length;
  if (posters.length > 1) count.textContent = `${done} of ${posters.length}`;
  const first = posters.find(each => !each.error);
  if (first?.answer && details.root.hidden) choose(first);
}

// What the reader is told in the end.
function finish() {
  const good = posters.filter(poster => poster.answer), bad = posters.filter(poster => poster.error), left = posters.length - good.length - bad.length;
  stop.hidden = true;
  if (good.length && details.root.hidden) choose(good[0]);
  tools.hidden = !good.length && !bad.length;
  posters.forEach(poster => list.draw(poster, known.genres));
  if (posters.length === 1) return say(good.length ? "" : `${posters[0].name} has no answer: ${bad[0].error}`);
  say([`${good.length} ${good.length === 1 ? "poster" : "posters"} answered`, bad.length && `${bad.length} ${bad.length > 1 ? "files" : "file"} without an answer`, left && `stopped before the other ${left}`].filter(Boolean).join(", "));
}

retry.onclick = work;
part("clear").onclick = () => { clear(); root.querySelector("input[type=file]").focus(); };
part("copy").onclick = () => navigator.clipboard.writeText(asJson(known.genres, posters)).then(() => say("Copied."), () => say("The browser lets nothing be copied: save it instead."));
part("save").onclick = () => {
  const address = URL.createObjectURL(new Blob([asJson(known.genres, posters)], { type: "application/x-ndjson" }));
  Object.assign(document.createElement("a"), { href: address, download: "genres.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
};
intake(root, take, say);

// Files that were kept at an earlier visit are not loaded again.
globalThis.caches?.has("poster-genres").then(async () => {
  const kept = await Promise.all([files.runtime, files.network].map(file => caches.match(new URL(`try/${file.address}`, location))));
  if (kept.every(Boolean) && !known) size.textContent = "The network is still in your browser from an earlier visit: nothing more is loaded.";
}).catch(() => {});
