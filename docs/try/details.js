// One poster and its answer: bars, title, heat maps.
import { percent, ranked, summary, whereInWords } from "./answers.js";
import { overlay } from "./overlay.js";

const make = (tag, properties = {}, ...children) => { const made = Object.assign(document.createElement(tag), properties); made.append(...children); return made; };

export class Details {
  #poster;
  #rows = [];
  #asked = 0;

  // `ask` puts questions to the worker; `onChange` is told of a poster whose answer has changed; `speak` says something to those who do not see it.
  constructor(root, ask, onChange, speak) {
    Object.assign(this, { root, ask, onChange, speak });
    this.image = make("img");
    for (const name of ["canvas", "caption", "where", "title", "said", "genres"]) this[name] = root.querySelector(`[data-part=${name}]`);
    this.title.oninput = () => this.#retitle();
    addEventListener("resize", () => this.seen && overlay(this.canvas, this.image, this.seen));
  }

  // What the loaded predictor knows decides what there is to be seen.
  know(known) {
    this.known = known;
    this.title.closest("label").hidden = !known.titles;
    this.#rows = known.genres.map((name, place) => this.#row(name, place));
    this.genres.replaceChildren(...this.#rows.map(row => row.line));
  }

  #row(name, place) {
    const star = make("span", { className: "star" }), number = make("td", { className: "number" });
    const bar = make("span", { className: "level" });
    bar.append(make("i"), make("b"));
    const button = make("button", { type: "button", className: "where", textContent: "where?", onclick: () => this.#where(place) });
    button.setAttribute("aria-label", `where is ${name}?`);
    button.setAttribute("aria-pressed", "false");
    const head = make("th", { scope: "row" }, star, name), cells = [make("td", { className: "bars" }, bar), number];
    if (this.known.heat) cells.push(make("td", {}, button));
    return { name, line: make("tr", {}, head, ...cells), star, bar, number, button };
  }

  // Show the poster; it has an answer.
  show(poster) {
    this.#poster = poster;
    this.root.hidden = false;
    Object.assign(this.image, { src: poster.address, alt: `the poster ${poster.name}` });
    this.canvas.before(this.image);
    this.caption.textContent = poster.name;
    this.title.value = poster.title;
    this.#hide();
    this.#draw();
  }

  hide() { this.speak(""); this.#poster = null; this.root.hidden = true; this.image.remove(); this.#hide(); }

  #draw() {
    const order = ranked(this.known.genres, this.#poster.answer);
    for (const { place, probability, threshold, predicted } of order) {
      const { line, star, bar, number } = this.#rows[place];
      line.classList.toggle("yes", predicted);
      star.textContent = predicted ? "★" : "";
      star.setAttribute("aria-label", predicted ? "predicted" : "");
      star.toggleAttribute("role", predicted);
      if (predicted) star.setAttribute("role", "img"); else star.removeAttribute("aria-label");
      bar.style.setProperty("--share", probability);
      bar.style.setProperty("--threshold", threshold);
      number.textContent = percent(probability);
      number.title = `predicted from ${percent(threshold)} on`;
    }
    this.genres.replaceChildren(...order.map(({ place }) => this.#rows[place].line));
    this.said.textContent = `${this.#poster.name}: ${summary(this.known.genres, this.#poster.answer)}`;
    this.speak(this.said.textContent);
  }

  async #retitle() {
    const poster = this.#poster, title = poster.title = this.title.value, asked = ++this.#asked;
    const answer = title.trim() ? await this.ask("title", { probabilities: poster.picture.probabilities, title }) : poster.picture;
    if (asked !== this.#asked) return;
    poster.answer = answer;
    if (poster === this.#poster) this.#draw();
    this.onChange(poster);
  }

  async #where(place) {
    const { button, name } = this.#rows[place], poster = this.#poster;
    if (button.getAttribute("aria-pressed") === "true") return this.#hide();
    this.#hide();
    button.setAttribute("aria-pressed", "true");
    try {
      const where = await this.ask("where", { file: poster.file, genre: place });
      if (poster !== this.#poster || button.getAttribute("aria-pressed") !== "true") return;
      await this.image.decode();
      this.seen = where;
      overlay(this.canvas, this.image, where);
      this.canvas.hidden = false;
      this.canvas.setAttribute("aria-label", `where the evidence for ${name} lies`);
      this.where.textContent = whereInWords(name, where);
      this.canvas.closest("figure").scrollIntoView({ block: "nearest" });
    } catch (error) { this.where.textContent = `No heat map: ${error.message}`; }
  }

  #hide() {
    this.seen = null;
    this.canvas.hidden = true;
    this.where.textContent = "";
    this.#rows.forEach(({ button }) => button.setAttribute("aria-pressed", "false"));
  }
}
