// What a page of a report or of the site does for its reader: sort tables, fold long ones, light or dark, all code at once.
(() => {
  const make = (tag, text, properties) => Object.assign(document.createElement(tag), { textContent: text, ...properties });
  const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const remember = value => { try { localStorage.setItem("theme", value); } catch { /* a page that may keep nothing */ } };
  const root = document.documentElement;
  if (remembered()) root.dataset.theme = remembered();

  // A cell as a number where it is one ("1,766", "37 %", "1.28 to 1.43"), else as text.
  const key = cell => {
    const text = (cell.dataset.sort ?? cell.textContent).trim().replace("−", "-");
    const number = parseFloat(text.replace(/(\d),(?=\d{3})/g, "$1"));
    return /^[-+]?[\d.]/.test(text) && !isNaN(number) ? number : text === "–" ? -Infinity : text.toLowerCase();
  };

  const FOLD = 15;
  function fold(table, rows) {
    if (rows.length <= FOLD + 3) return;
    let open = false;
    const button = make("button", "", { className: "fold", type: "button" });
    const show = () => {
      [...table.tBodies[0].rows].forEach((row, i) => row.classList.toggle("folded", !open && i >= FOLD));
      button.textContent = open ? `show the first ${FOLD} rows` : `show all ${rows.length} rows`;
      button.setAttribute("aria-expanded", open);
    };
    button.onclick = () => { open = !open; show(); };
    table.after(button);
    table.addEventListener("sorted", show);
    show();
  }

  function sortable(table) {
    const head = table.tHead && table.tHead.rows[table.tHead.rows.length - 1], body = table.tBodies[0];
    if (!head || !body || body.rows.length < 3 || table.querySelector("tbody [rowspan], thead [colspan]")) return;
    [...head.cells].forEach((cell, column) => {
      if (!cell.textContent.trim() || cell.querySelector("button")) return;
      const button = make("button", "", { type: "button", title: "sort" });
      button.append(...cell.childNodes);
      cell.append(button);
      button.onclick = () => {
        const up = cell.getAttribute("aria-sort") !== "ascending";
        [...head.cells].forEach(other => other.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map(row => [key(row.cells[column]), row]);
        rows.sort(([a], [b]) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1) * (up ? 1 : -1));
        body.append(...rows.map(([, row]) => row));
        table.dispatchEvent(new Event("sorted"));
      };
    });
    fold(table, body.rows);
  }

  // pandas gives the names of an index a row of their own, below a row that is empty there: one row holds both.
  function join(table) {
    const [titles, names, ...more] = table.tHead?.rows ?? [];
    if (!names || more.length || titles.cells.length !== names.cells.length || table.tHead.querySelector("[colspan], [rowspan]")) return;
    const written = row => [...row.cells].map(cell => cell.textContent.trim() !== "");
    const above = written(titles), below = written(names);
    if (above.some((has, column) => has && below[column])) return;
    below.forEach((has, column) => has && titles.cells[column].append(...names.cells[column].childNodes));
    names.remove();
  }

  // pandas does not say which columns hold figures; they stand to the right. (A row may lack cells at its left, where one above spans it.)
  const align = table => table.tBodies[0] && table.tHead && [...table.tHead.rows].at(-1).cells.length === table.tBodies[0].rows[0]?.cells.length
    && [...table.tBodies[0].rows[0].cells].forEach((cell, column, { length }) => {
      const cells = [...table.tBodies[0].rows].map(row => [...row.cells].at(column - length));
      if (cell.tagName === "TD" && cells.every(each => each && /^([-+−]?[\d.,]+( ?%)?|[-–]|NaN|None|<NA>)$/.test(each.textContent.trim())))
        [[...table.tHead.rows].at(-1).cells[column], ...cells].forEach(each => each.classList.add("number"));
    });

  function ready() {
    document.querySelectorAll("table.dataframe").forEach(table => { join(table); align(table); });
    document.querySelectorAll("table").forEach(sortable);
    const reachable = () => document.querySelectorAll(".output, .scroll, pre").forEach(box => {
      if (box.scrollWidth > box.clientWidth + 1 && !box.parentElement.closest("[tabindex]")) {
        box.tabIndex = 0; box.setAttribute("role", "region"); box.setAttribute("aria-label", "scrolls sideways");
      }
    });
    reachable();
    addEventListener("resize", reachable);
    document.querySelectorAll("details").forEach(details => details.addEventListener("toggle", reachable));

    const bar = document.querySelector(".bar-top");
    if (bar) {
      const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      const button = make("button", "\u25d0", { className: "theme", type: "button", title: "light or dark" });
      button.setAttribute("aria-label", "light or dark");
      button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; remember(root.dataset.theme); };
      bar.append(button);
    }
    const code = document.querySelectorAll("details.code"), tools = document.querySelector(".tools");
    if (code.length && tools) {
      const button = make("button", "show all code", { type: "button" });
      button.onclick = () => {
        const open = button.textContent.startsWith("show");
        code.forEach(details => { details.open = open; });
        button.textContent = open ? "hide all code" : "show all code";
      };
      tools.append(button);
    }
  }
  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", ready) : ready();
})();
