// Search over all sections of the site. The index is a script of its own, so that it also loads from a folder of files.
(() => {
  const input = document.getElementById("search"), results = document.getElementById("results");
  const plain = text => text.toLowerCase().normalize("NFD").replace(/[\u0300-\u036f]/g, "");
  const escape = text => text.replace(/[&<>"]/g, sign => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
  let index, loading;

  // The index is fetched when the search is first used. A fetch that failed is tried again at the next key.
  function load() {
    loading ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = "search.js";
      script.onload = () => { index = window.SEARCH.map(([page, heading, url, text]) => ({ page, heading, url, text, all: plain(`${page} ${heading} ${text}`) })); done(); };
      script.onerror = () => { loading = undefined; script.remove(); failed(new Error("the search index did not load")); };
      document.head.append(script);
    });
    return loading;
  }

  // All words must occur. A hit in a heading counts most, then in a title; a whole word more than a part of one.
  function score(entry, words) {
    let sum = 0;
    for (const word of words) {
      if (!entry.all.includes(word)) return 0;
      const heading = plain(entry.heading), page = plain(entry.page);
      sum += (heading === word ? 60 : heading.includes(word) ? 20 : 0) + (page === word && !heading ? 50 : page.includes(word) ? 4 : 0);
      sum += Math.min(entry.all.split(word).length - 1, 5);
    }
    return sum;
  }

  function snippet(entry, words) {
    const at = Math.max(0, plain(entry.text).indexOf(words[0]) - 60);
    let text = escape((at ? "…" : "") + entry.text.slice(at, at + 170));
    for (const word of words) text = text.replace(new RegExp(`(${word.replace(/[^\p{L}\p{N}]/gu, "\\$&")})(?![^<]*>)`, "giu"), "<mark>$1</mark>");
    return text;
  }

  async function search() {
    try { await load(); }
    catch { results.innerHTML = "<p>The search index did not load: type on to try again.</p>"; return; }
    const words = plain(input.value).split(/\s+/).filter(Boolean);
    const found = words.length ? index.map(entry => [score(entry, words), entry]).filter(([sum]) => sum).sort((a, b) => b[0] - a[0]).slice(0, 12) : [];
    results.innerHTML = found.map(([, entry]) => `<a href="${entry.url}"><b>${escape(entry.heading ? `${entry.page}: ${entry.heading}` : entry.page)}</b>${snippet(entry, words)}</a>`).join("")
      || (words.length ? "<p>Nothing found: try fewer or other words.</p>" : "");
  }

  input.addEventListener("focus", () => load().catch(() => {}));
  input.addEventListener("input", search);
  document.addEventListener("keydown", event => {
    const links = [...results.querySelectorAll("a")], place = links.indexOf(document.activeElement);
    if (event.key === "/" && !/input|textarea/i.test(document.activeElement.tagName)) { input.focus(); event.preventDefault(); }
    else if (event.key === "Escape") { results.innerHTML = ""; input.blur(); }
    else if (event.key === "ArrowDown" && links.length) { links[Math.min(place + 1, links.length - 1)].focus(); event.preventDefault(); }
    else if (event.key === "ArrowUp" && place >= 0) { (links[place - 1] ?? input).focus(); event.preventDefault(); }
  });
  document.addEventListener("click", event => { if (!event.target.closest(".search")) results.innerHTML = ""; });

  // Which section of the page is being read.
  const marks = new Map([...document.querySelectorAll(".toc a")].map(link => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver(entries => entries.forEach(entry => {
    if (entry.isIntersecting) { marks.forEach(link => link.classList.remove("now")); marks.get(entry.target.id)?.classList.add("now"); }
  }), { rootMargin: "0px 0px -75% 0px" });
  document.querySelectorAll("main h2[id]").forEach(heading => observer.observe(heading));
})();
