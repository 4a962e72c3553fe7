// Several posters as a table: a line for each, with its genres or with the reason why it has none.
import { summary } from "./answers.js";

const make = (tag, properties = {}, ...children) => { const made = Object.assign(document.createElement(tag), properties); made.append(...children); return made; };

export class List {
  #lines = new Map();

  // `onChoose` gets the poster whose line was chosen.
  constructor(root, onChoose) { Object.assign(this, { root, onChoose, body: root.querySelector("tbody") }); }

  fill(posters) {
    this.#lines.clear();
    this.body.replaceChildren(...posters.map(poster => {
      const button = make("button", { type: "button", textContent: poster.name, disabled: true, onclick: () => this.onChoose(poster) });
      const line = { button, picture: make("td"), said: make("td", { textContent: "…" }) };
      this.#lines.set(poster, line);
      return line.row = make("tr", {}, line.picture, make("th", { scope: "row" }, button), line.said);
    }));
    this.root.hidden = posters.length < 2;
  }

  draw(poster, genres) {
    const line = this.#lines.get(poster);
    if (!line) return;
    line.row.classList.toggle("bad", Boolean(poster.error));
    line.said.textContent = poster.error ? `no answer: ${poster.error}` : poster.answer ? summary(genres, poster.answer) : "not asked";
    line.button.disabled = !poster.answer;
    if (poster.answer && !line.picture.firstChild) line.picture.append(make("img", { src: poster.address, alt: "", loading: "lazy", decoding: "async", width: 34, height: 50 }));
  }

  mark(poster) { this.#lines.forEach(({ button }, other) => other === poster ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current")); }
}
