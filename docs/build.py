"""Builds the documentation into _docs/ without Quarto and without the network: python docs/build.py

nbdev processes the notebooks (documentation of exported functions, links, directives), nbconvert turns them into HTML with the same
pieces as the reports, and nbs/_quarto.yml says what stands where, as it would to Quarto.
"""
import ast
import base64
import hashlib
import html
import inspect
import json
import posixpath
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from io import BytesIO
from pathlib import Path

import nbformat
import yaml
from execnb.nbio import read_nb
from fastcore.docments import docments, empty
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, Processor
from nbdev.processors import (add_links, add_show_docs, clean_magics, filter_stream_, hide_, hide_line, populate_language, rm_header_dash,
                              strip_ansi)
from PIL import Image

from poster_genres.run.pages import notebook_body, sections

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
MARKDOWN = {"model_card.md": "poster_genres/shipped/MODEL_CARD.md"}  # pages that no notebook makes: their name in the sidebar, and their text


class Documented(Processor):
    "Replaces `show_doc(name)` by the documentation of that object, folds exported code, and removes hidden cells."

    def begin(self):
        found = (re.search(r"#\|\s*default_exp\s+([\w.]+)", cell.source) for cell in self.nb.cells)
        name = next((match[1] for match in found if match), None)
        self.module = import_module(f"poster_genres.{name}") if name else None
        self.lookup = NbdevLookup()

    def cell(self, cell):
        if cell.cell_type != "code" or not cell.source:
            return
        if shown := re.match(r"show_doc\((\w+)\)", cell.source):
            cell.cell_type, cell.source = "markdown", documentation(getattr(self.module, shown[1]), shown[1], self.lookup)
            cell.metadata["documentation"] = True
            cell.pop("outputs", None)
        elif cell.directives_.keys() & {"hide", "default_exp"}:
            del cell["source"]
        elif cell.directives_.keys() & {"export", "exports"}:
            tree = ast.parse(cell.source).body
            if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree):
                del cell["source"]
            else:
                names = [node.name for node in tree if hasattr(node, "name")]
                cell.metadata["folded"] = " of " + ", ".join(f"<code>{name}</code>" for name in names) if names else " "


def documentation(thing, name, lookup):
    "Markdown for a function or class: heading, link to its source, docstring, a row for each parameter, and its methods."
    source = lookup.code(name)
    lines = [f"### {name}", "", f"[source]({source})" if source else "", "",
             f"```python\n{call_of(thing, name)}\n```", "", inspect.getdoc(thing) or "", "", *parameter_rows(thing)]
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            if inspect.isfunction(function) and (not method.startswith("_") or method == "__call__"):
                lines += ["", f"`{call_of(function, method)}`: {inspect.getdoc(function) or ''}"]
    return "\n".join(lines)


def call_of(thing, name):
    "How the thing is called, without types: name(a, b=1)."
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (ValueError, TypeError):
        return name
    written = [str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters if parameter.name != "self"]
    text = f"{name}({', '.join(written)})"
    return text if len(text) < 90 else f"{name}(\n    " + ",\n    ".join(written) + ",\n)"


def parameter_rows(thing):
    "A Markdown table of the parameters with their types, defaults and explanations; empty when there are none."
    if hasattr(thing, "_fields"):
        lines = re.findall(r"^    (\w+): ([^#=\n]+?)(?: = ([^#\n]+?))?(?:  # (.*))?$", inspect.getsource(thing), re.M)
        rows = [" | ".join(["", f"`{name}`", kind.replace("|", "\\|"), f"`{default}`" if default else "", words, ""]).strip() for name, kind, default, words in lines]
        return ["| field | type | default | what it is |", "|---|---|---|---|", *rows] if rows else []
    try:
        known = docments(thing, full=True, returns=False)
    except (ValueError, TypeError):
        return []
    rows = []
    for name, about in known.items():
        if name in ("self", "return") or not isinstance(about, dict):
            continue
        kind = about.get("anno", empty)
        kind = "" if kind is empty else getattr(kind, "__name__", str(kind)) if "[" not in str(kind) and "|" not in str(kind) else str(kind)
        default = "" if about.get("default", empty) is empty else f"`{about['default']!r}`"
        words = (about.get("docment") or "").replace("|", "\\|").replace("\n", " ")
        rows.append(f"| `{name}` | {kind.replace('|', chr(92) + '|')} | {default.replace('|', chr(92) + '|')} | {words} |")
    return ["| parameter | type | default | what it is |", "|---|---|---|---|", *rows] if rows else []


def split_title(path):
    "A copy of the notebook in which title and subtitle have a cell of their own: nbdev drops the whole cell that they are in."
    notebook = nbformat.read(path, 4)
    for place, cell in enumerate(notebook.cells):
        if found := cell.cell_type == "markdown" and re.match(r"# .*\n+(?:>.*(?:\n|$))*", cell.source):
            notebook.cells.insert(place + 1, nbformat.v4.new_markdown_cell(cell.source[found.end():].strip()))
            cell.source = found[0]
            break
    copy = Path(tempfile.mkdtemp(), path.name)
    nbformat.write(notebook, copy)
    return copy


def processed(path):
    "The notebook after nbdev's processing, and its front matter: title, description, name of its page."
    steps = [FrontmatterProc, populate_language, add_show_docs, strip_ansi, hide_line, filter_stream_, rm_header_dash, Documented, clean_magics,
             hide_, add_links]
    processor = NBProcessor(nb=read_nb(split_title(path)), procs=steps)
    processor.process()
    about = dict(processor.nb.frontmatter_)
    cells = [{key: value for key, value in cell.items() if not key.endswith("_")} for cell in processor.nb.cells if cell.source and cell.cell_type != "raw"]
    notebook = nbformat.from_dict({"cells": json.loads(json.dumps(cells, default=str)), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
        cell.pop("idx_", None), cell.pop("has_sd", None)
        for output in cell.get("outputs", []):
            output.update({key: "".join(output[key]) for key in ("text",) if key in output})
            output.get("data", {}).update({kind: "".join(data) for kind, data in output.get("data", {}).items() if isinstance(data, list)})
        if cell.cell_type == "code":
            cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
            cell.setdefault("outputs", []), cell.setdefault("execution_count", None)
            if all(line.startswith(("import ", "from ", " ")) or not line for line in cell.source.splitlines()) and not cell.outputs:
                cell.metadata["folded"] = ": imports"
    notebook.cells = in_order(notebook.cells)
    return notebook, about


def from_markdown(text):
    "The text as a notebook, and its front matter: the first line is `# title` or `# title: description`."
    heading, _, rest = text.partition("\n")
    title, _, description = heading.removeprefix("# ").partition(": ")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(rest.strip())])
    return notebook, {"title": title, "description": description[:1].upper() + description[1:]}


def in_order(cells):
    "The cells with the documentation of what a cell exports before its code, and in the order of the code."
    kept, code, documented = [], None, []
    for cell in [*cells, None]:
        if cell is not None and cell.metadata.get("documentation"):
            documented.insert(0, cell)
            continue
        kept, code, documented = [*kept, *documented, *([code] if code else [])], None, []
        if cell is not None and cell.metadata.get("folded"):
            code = cell
        elif cell is not None:
            kept.append(cell)
    return kept


class Site:
    "All pages of the site, from the notebooks, the files in `MARKDOWN` and the sidebar of _quarto.yml."

    def __init__(self, out):
        self.out, self.config, self.settings = Path(out), yaml.safe_load((NBS / "_quarto.yml").read_text(encoding="utf-8")), get_config()
        self.website = self.config["website"]
        self.base = self.settings.doc_host.rstrip("/") + self.settings.doc_baseurl
        self.pages, self.index = {}, []

    def read(self):
        "Process all notebooks; a page of the sidebar that is not there is left out, one that is not in it goes to its end."
        paths = sorted(path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
        read = {path.relative_to(NBS).as_posix(): processed(path) for path in paths}
        read |= {name: from_markdown((ROOT / path).read_text(encoding="utf-8")) for name, path in MARKDOWN.items()}
        for file, (notebook, about) in read.items():
            stem = Path(file).stem
            name = about.get("output-file") or re.sub(r"^\d+[a-z]*_", "", stem) + ".html"
            self.pages[file] = {"name": name, "title": about.get("title") or stem, "about": about.get("description") or "", "notebook": notebook}
        listed, self.sidebar = set(), []
        for section in self.website["sidebar"]["contents"]:
            names = [name for name in section["contents"] if name in self.pages]
            listed |= set(names)
            self.sidebar.append([section["section"], names])
        if left := [name for name in self.pages if name not in listed]:
            print(f"not in the sidebar of _quarto.yml, put at its end: {', '.join(left)}")
            self.sidebar.append(["More", left])
        self.order = [name for _, names in self.sidebar for name in names]

    def links(self, text, folder=""):
        "HTML with links to notebooks (from one in `folder`), to Markdown files and to the site itself as they are on the site: all in one folder."
        text = re.sub(re.escape(self.base) + r"/?(?:\w+/)?", "", text)
        text = re.sub(r'<p><a (href="[^"]+")>source</a></p>', r'<p><a class="source" \1>source</a></p>', text)
        at = lambda address: posixpath.normpath(posixpath.join(folder, address))
        text = re.sub(r'href="([\w./]+\.ipynb)(#[^"]*)?"', lambda link: f'href="{self.pages[at(link[1])]["name"]}{(link[2] or "").lower()}"'
                      if at(link[1]) in self.pages else 'href="index.html"', text)
        for name, path in MARKDOWN.items():
            text = re.sub(rf'href="(?:\.\./)*{re.escape(path)}"', f'href="{self.pages[name]["name"]}"', text)
        text = re.sub(r'(<h[1-6][^>]*\bid=")([^"]+)(")', lambda heading: heading[1] + slug(heading[2]) + heading[3], text)
        text = re.sub(r'href="#([^"]+)"', lambda link: f'href="#{slug(link[1])}"', text)
        known = {page["name"] for page in self.pages.values()} | {"reference.html"}
        leads = lambda address: re.match(r"[a-z]+:|#", address) or address.split("#")[0] in known
        return re.sub(r'<a\b[^>]*?href="([^"]*)"[^>]*>(.*?)</a>', lambda link: link[0] if leads(link[1]) else link[2], text, flags=re.S)

    def pictures(self, text):
        "HTML whose pictures are files beside it, with their sizes, loaded when they come into sight."
        def to_file(match):
            data = base64.b64decode(match[2])
            image = Image.open(BytesIO(data))
            name = f"pictures/{hashlib.sha256(data).hexdigest()[:16]}.{match[1].replace('jpeg', 'jpg')}"
            (self.out / name).write_bytes(data)
            return f'src="{name}" width={image.width} height={image.height} loading="lazy" '
        return re.sub(r'src="data:image/(png|jpeg|webp);base64,([^"]+)"', to_file, text.replace("\n\"", '"'))

    def side(self, here):
        "The list of all pages by section."
        parts = []
        for section, names in self.sidebar:
            items = "".join(f'<li><a href="{self.pages[name]["name"]}"{" aria-current=page" if self.pages[name]["name"] == here else ""}>'
                            f'{html.escape(self.pages[name]["title"])}</a></li>' for name in names)
            extra = self.extra(section, here)
            if items or extra:
                parts.append(f"<h2>{html.escape(section)}</h2><ul>{items}{extra}</ul>")
        return "".join(parts)

    def extra(self, section, here):
        "Pages that no notebook makes: the list of all functions, and the report of an example run."
        link = lambda address, words: f'<li><a href="{address}"{" aria-current=page" if address == here else ""}>{words}</a></li>'
        if section == "Reference":
            return link("reference.html", "All functions")
        return link("example/index.html", "A run's report") if section == "Results" and (ROOT / "outputs" / "example").exists() else ""

    def frame(self, here, title, about, body, around=""):
        "The whole page."
        toc = "".join(f'<li><a href="#{anchor}">{words}</a></li>' for anchor, words in sections(body))
        toc = f'<aside class="toc"><nav aria-label="on this page"><h2>On this page</h2><ul>{toc}</ul></nav></aside>' if toc.count("<li>") > 1 else "<div></div>"
        name = html.escape(self.website["title"])
        return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)} · {name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="description" content="{html.escape(about)}">
<link rel="icon" href="data:,"><link rel="stylesheet" href="styles.css"><link rel="stylesheet" href="site.css"></head>
<body class="on-site"><a class=skip href=#content>to the content</a>
<header class="bar-top"><strong><a href="index.html">{name}</a></strong><div class="search" role="search"><input type="search" id="search"
 placeholder="Search" aria-label="Search" autocomplete="off"><div id="results" aria-live="polite"></div></div></header>
<div class="columns"><aside class="side"><nav aria-label="all pages">{self.side(here)}</nav></aside>
<main id="content"><details class="menu"><summary>All pages</summary><nav aria-label="all pages, folded">{self.side(here)}</nav></details>
<h1>{html.escape(title)}</h1>{f"<p class=lead>{html.escape(about)}</p>" if about else ""}<div class="tools"></div>
{body}{around}</main>{toc}</div><script src="page.js"></script><script src="site.js"></script></body></html>
"""

    def around(self, name):
        "Links to the pages before and after."
        place = self.order.index(name)
        before, after = self.order[place - 1] if place else None, self.order[place + 1] if place + 1 < len(self.order) else None
        link = lambda other, arrow: f'<a href="{self.pages[other]["name"]}">{arrow.format(html.escape(self.pages[other]["title"]))}</a>' if other else "<span></span>"
        return f'<nav class="around" aria-label="before and after">{link(before, "← {}")}{link(after, "{} →")}</nav>'

    def remember(self, name, title, about, body):
        "Put the page's sections into the search index."
        parts = re.split(r'<h([23])[^>]*\bid="([^"]+)"[^>]*>(.*?)</h\1>', body, flags=re.S)
        self.index.append([title, "", name, words_of(about + " " + parts[0])[:3000]])
        for anchor, heading, text in zip(parts[2::4], parts[3::4], parts[4::4]):
            self.index.append([title, words_of(re.sub(r'<a class="anchor.*?</a>', "", heading)), f"{name}#{anchor}", words_of(text)[:3000]])

    def write(self):
        "Write all pages, the reference, the search index, style and script."
        shutil.rmtree(self.out, ignore_errors=True)
        (self.out / "pictures").mkdir(parents=True)
        with ProcessPoolExecutor() as pool:
            bodies = list(pool.map(body_of, [page["notebook"] for page in self.pages.values()]))
        for (name, page), body in zip(self.pages.items(), bodies):
            body = self.pictures(self.links(body, posixpath.dirname(name)))
            self.remember(page["name"], page["title"], page["about"], body)
            (self.out / page["name"]).write_text(self.frame(page["name"], page["title"], page["about"], body, self.around(name)), encoding="utf-8")
        body = self.reference()
        (self.out / "reference.html").write_text(self.frame("reference.html", "All functions", "Every public function and class, module by module.", body),
                                                 encoding="utf-8")
        (self.out / "search.js").write_text(f"window.SEARCH = {json.dumps(self.index, ensure_ascii=False)};\n", encoding="utf-8")
        for file in (NBS / "styles.css", NBS / "page.js", ROOT / "docs" / "site.css", ROOT / "docs" / "site.js"):
            shutil.copy(file, self.out)
        for folder, name in ((NBS / "images", "images"), (ROOT / "outputs" / "example", "example")):
            if folder.exists():
                shutil.copytree(folder, self.out / name)

    def reference(self):
        "A table of every public name for each module, linked to its documentation."
        symbols, parts = import_module(f"{self.settings.lib_name}._modidx").d["syms"], []
        for module in sorted(symbols):
            rows = []
            for full, (address, _) in symbols[module].items():
                name = full.removeprefix(module + ".")
                if not name.startswith("_") and "." not in name:
                    thing = getattr(import_module(module), name)
                    rows.append(f'<tr><td><a href="{address.rpartition("/")[2]}"><code>{name}</code></a></td><td>{html.escape(first_line(thing))}</td></tr>')
            if rows:
                short = module.removeprefix("poster_genres.")
                parts.append(f'<h2 id="{short}">{short}</h2><div class="scroll"><table><thead><tr><th>name</th><th>what it returns or is</th></tr></thead>'
                             f"<tbody>{''.join(rows)}</tbody></table></div>")
        return "\n".join(parts)


def body_of(notebook):
    "The notebook's cells as HTML; in a worker process."
    return notebook_body(notebook, fold=False)


def first_line(thing):
    "The first line of a docstring."
    return (inspect.getdoc(thing) or "").split("\n")[0]


def slug(anchor):
    "An anchor as Quarto and nbdev write it: lower case, words joined by dashes."
    return re.sub(r"[^\w\-.]+", "", html.unescape(anchor).lower().replace("%27", "").replace(" ", "-")).strip("-.") or "section"


def words_of(text):
    "The words of a piece of HTML."
    text = re.sub(r"<(style|script|svg)\b.*?</\1>|<summary>.*?</summary>|<[^>]+>", " ", text, flags=re.S)
    return " ".join(html.unescape(text).split())


def main(out="_docs"):
    started = time.monotonic()
    site = Site(out if Path(out).is_absolute() else ROOT / out)
    site.read()
    site.write()
    size = sum(path.stat().st_size for path in site.out.rglob("*") if path.is_file())
    print(f"{len(list(site.out.glob('*.html')))} pages, {size / 1e6:.1f} MB, {time.monotonic() - started:.0f} s: {(site.out / 'index.html').as_uri()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
