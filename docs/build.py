"""Builds the documentation into _docs/ without Quarto and without the network: python docs/build.py [FOLDER] [--predictor FILE] [--only PAGE ...]

nbdev processes the notebooks (documentation of exported functions, links, directives), nbconvert turns them into HTML with the same
pieces as the reports, and nbs/_quarto.yml says what stands where, as it would to Quarto. The pages are templates/*.html.
"""
import argparse
import html
import inspect
import json
import posixpath
import re
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import yaml
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from nbdev.config import get_config
from notebooks import from_markdown, processed
from on_site import Place, body_on_site
from try_page import write_try_page

from poster_genres.prediction import shipped_predictor
from poster_genres.run.pages import sections

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
MARKDOWN = {"model_card.md": "poster_genres/shipped/MODEL_CARD.md"}  # pages that no notebook makes: their name in the sidebar, and their text
TRY = "Try it in your browser", "The genres of a poster, named on your own machine by the network that comes with the package."
TEMPLATES = Environment(loader=FileSystemLoader(ROOT / "docs" / "templates"), autoescape=True)


class Page(NamedTuple):
    "A page of the site: its name, what stands above it, and its content."
    name: str
    title: str
    about: str
    body: Markup


def notebooks_of(only):
    "The processed notebook and its front matter for each page of a notebook or a Markdown file, by its name in the sidebar."
    paths = sorted(path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    readers = {path.relative_to(NBS).as_posix(): partial(processed, path) for path in paths}
    readers |= {name: partial(from_markdown, (ROOT / path).read_text(encoding="utf-8")) for name, path in MARKDOWN.items()}
    return {name: read() for name, read in readers.items() if name in only or not only}


def page_names(read):
    "The name of each page, all in one folder: a guide with the name of a module, whose page nbdev's links lead to, gets its folder in front."
    found = {}
    for file in sorted(read, key=lambda file: (file.startswith("guides/"), file)):
        name = read[file][1].get("output-file") or re.sub(r"^\d+[a-z]*_", "", Path(file).stem) + ".html"
        found[file] = name if name not in found.values() else f"{posixpath.dirname(file)}_{name}"
    return found


class Site:
    "All pages of the site, from the notebooks, the files in `MARKDOWN` and the sidebar of _quarto.yml."

    def __init__(self, out, predictor, only):
        self.out, self.predictor, self.only, self.settings = ROOT / out, predictor, only, get_config()
        self.website = yaml.safe_load((NBS / "_quarto.yml").read_text(encoding="utf-8"))["website"]

    def start(self):
        "An empty folder with the files that all pages need."
        shutil.rmtree(self.out, ignore_errors=True)
        (self.out / "pictures").mkdir(parents=True)
        for file in (NBS / "styles.css", NBS / "page.js", ROOT / "docs" / "site.css", ROOT / "docs" / "site.js"):
            shutil.copy(file, self.out)
        for folder, name in ((NBS / "images", "images"), (ROOT / "outputs" / "example", "example")):
            if folder.exists():
                shutil.copytree(folder, self.out / name)

    def read(self):
        "Make the content of all pages; a page of the sidebar that is not there is left out, one that is not in it goes to its end."
        read, tried = notebooks_of(self.only), write_try_page(self.out / "try", self.predictor)
        files = page_names(read) | ({"try.html": "try.html"} if tried else {})
        linked = files | {path: files[name] for name, path in MARKDOWN.items() if name in files}
        place = Place(self.out, self.settings.doc_host.rstrip("/") + self.settings.doc_baseurl, linked)
        with ProcessPoolExecutor() as pool:
            bodies = pool.map(partial(body_on_site, place=place), [notebook for notebook, _ in read.values()], map(posixpath.dirname, read))
            self.pages = {file: Page(files[file], about.get("title") or Path(file).stem, about.get("description") or "", Markup(body))
                          for (file, (_, about)), body in zip(read.items(), bodies)}
        if tried:
            self.pages["try.html"] = Page("try.html", *TRY, Markup(TEMPLATES.get_template("try.html").render(tried)))
        self.sidebar = {section["section"]: [self.pages[name] for name in section["contents"] if name in self.pages]
                        for section in self.website["sidebar"]["contents"]}
        if left := [name for name, page in self.pages.items() if not any(page in pages for pages in self.sidebar.values())]:
            print(f"not in the sidebar of _quarto.yml, put at its end: {', '.join(left)}")
            self.sidebar["More"] = [self.pages[name] for name in left]

    def links(self):
        "Title and address of each page by the sections of the sidebar, and the two that no notebook makes."
        found = {section: [(page.title, page.name) for page in pages] for section, pages in self.sidebar.items()}
        if (self.out / "example").exists():
            found["Results"].append(("A run's report", "example/index.html"))
        return found | {"Reference": [("All functions", "reference.html")]}

    def write(self):
        "Write all pages and the search index."
        order = [page for pages in self.sidebar.values() for page in pages]
        around = {page.name: (before, after) for before, page, after in zip([None, *order], order, [*order[1:], None])}
        frame, links = TEMPLATES.get_template("frame.html"), self.links()
        for page in [*order, *([] if self.only else [self.reference()])]:
            text = frame.render(page=page, name=self.website["title"], sidebar=links, sections=sections(page.body), around=around.get(page.name))
            (self.out / page.name).write_text(text, encoding="utf-8")
        index = [entry for page in order for entry in search_entries(page)]
        (self.out / "search.js").write_text(f"window.SEARCH = {json.dumps(index, ensure_ascii=False)};\n", encoding="utf-8")

    def reference(self):
        "The page with every public name of each module."
        modules = {}
        for module, symbols in sorted(import_module(f"{self.settings.lib_name}._modidx").d["syms"].items()):
            named = [(full.removeprefix(module + "."), address.rpartition("/")[2]) for full, (address, _) in symbols.items()]
            public = [(name, address) for name, address in named if not name.startswith("_") and "." not in name]
            if public:
                rows = [(name, address, first_line(getattr(import_module(module), name))) for name, address in public]
                modules[module.removeprefix("poster_genres.")] = rows
        body = TEMPLATES.get_template("reference.html").render(modules=modules)
        return Page("reference.html", "All functions", "Every public function and class, module by module.", Markup(body))


def search_entries(page):
    "Title, heading, address and words of each section of the page."
    parts = re.split(r'<h([23])[^>]*\bid="([^"]+)"[^>]*>(.*?)</h\1>', page.body, flags=re.S)
    yield [page.title, "", page.name, words_of(page.about + " " + parts[0])[:8000]]
    for anchor, heading, text in zip(parts[2::4], parts[3::4], parts[4::4]):
        yield [page.title, words_of(re.sub(r'<a class="anchor.*?</a>', "", heading)), f"{page.name}#{anchor}", words_of(text)[:8000]]


def first_line(thing):
    "The first line of a docstring."
    return (inspect.getdoc(thing) or "").split("\n")[0]


def words_of(text):
    "The words of a piece of HTML."
    text = re.sub(r"<(style|script|svg)\b.*?</\1>|<summary>.*?</summary>|<[^>]+>", " ", text, flags=re.S)
    return " ".join(html.unescape(text).split())


def main(words=None):
    "Build the site that the command line asks for."
    parser = argparse.ArgumentParser(description="Build the documentation.")
    parser.add_argument("folder", nargs="?", default="_docs", help="of the site; what it holds is deleted")
    parser.add_argument("--predictor", type=Path, default=shipped_predictor(), help="the .tflite file that runs in the reader's browser")
    parser.add_argument("--only", nargs="+", default=[], metavar="PAGE", help="only these pages, such as try.html or lib/runs.ipynb")
    asked, started = parser.parse_args(words), time.monotonic()
    site = Site(asked.folder, asked.predictor, asked.only)
    site.start()
    site.read()
    site.write()
    size = sum(path.stat().st_size for path in site.out.rglob("*") if path.is_file())
    print(f"{len(list(site.out.glob('*.html')))} pages, {size / 1e6:.1f} MB, {time.monotonic() - started:.0f} s: {(site.out / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
