"""The documentation: built offline, whole, without a broken link; found, read and judged in a browser; in step with an edited notebook."""
import os
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote, urlsplit

import browser
import nbformat
import pytest
import yaml
from browser import ROOT, SIZES
from bs4 import BeautifulSoup


def build(project, out, **environment):
    "Build the site of a project."
    done = subprocess.run([sys.executable, "docs/build.py", str(out)], cwd=project, capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PYTHONPATH": str(project), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, built without a way to the network."
    out = tmp_path_factory.mktemp("site") / "_docs"
    build(ROOT, out, http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {page.name: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in sorted(site.glob("*.html"))}


def test_every_notebook_has_a_page_with_its_pictures(site, pages):
    notebooks = [path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    assert len(pages) == len(notebooks) + 2 + ("try.html" in pages), "one more for the functions, one for the model card, one to try it where it can be built"
    for name, page in pages.items():
        assert page.h1.get_text(strip=True) and page.title.get_text(strip=True), name
        for picture in page.select("img"):
            assert picture.get("alt"), f"{name}: a picture without an alternative text"
            assert (site / picture["src"]).exists(), f"{name}: {picture['src']}"
    assert len(pages["evaluation.html"].select("main img")) >= 6


def test_model_card_is_a_page_that_is_linked(pages):
    card = (ROOT / "poster_genres" / "shipped" / "MODEL_CARD.md").read_text(encoding="utf-8")
    page = pages["model_card.html"]
    assert page.h1.get_text(strip=True) == "Model card" and "comes with the package" in page.select_one("p.lead").get_text()
    rows = [[cell.get_text(strip=True) for cell in row.select("th, td")] for row in page.select("main tr")]
    assert rows == [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line.startswith("| ")]
    assert not [name for name, other in pages.items() if not other.select_one('nav a[href="model_card.html"]')], "in the sidebar of every page"
    for name in ("index.html", "prediction.html"):
        links = [link for link in pages[name].select('main a[href="model_card.html"]') if not link.find_parent("nav")]
        assert links, f"{name}: the text does not link the model card"


def test_sidebar_lists_every_notebook():
    sections = yaml.safe_load((ROOT / "nbs" / "_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"]
    listed = {name for section in sections for name in section["contents"]}
    missing = {path.relative_to(ROOT / "nbs").as_posix() for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts} - listed
    assert not missing, f"put into the sidebar of nbs/_quarto.yml: {missing}"


def test_no_link_is_broken_and_nothing_is_loaded_from_elsewhere(site, pages):
    anchors = {name: {tag["id"] for tag in page.select("[id]")} for name, page in pages.items()}
    wrong = []
    for name, page in pages.items():
        wrong += [f"{name} loads {tag.get('src') or tag.get('href')}" for tag in page.select("[src], link[href]")
                  if re.match(r"(https?:)?//", tag.get("src") or tag.get("href"))]
        for link in page.select("a[href]"):
            target = urlsplit(link["href"])
            if target.scheme in ("http", "https", "mailto"):
                continue
            file = unquote(target.path) or name
            if not (site / file).exists() and not (file.startswith("example/") and not (ROOT / "outputs" / "example").exists()):
                wrong.append(f"{name}: no file {link['href']}")
            elif target.fragment and file in anchors and unquote(target.fragment) not in anchors[file]:
                wrong.append(f"{name}: no anchor {link['href']}")
        prose = " ".join(words for words in page.select_one("main").find_all(string=re.compile(r"\]\(")) if not words.find_parent(["code", "pre"]))
        wrong += [f"{name}: a link that is no link: {prose[:80]}"] if prose else []
    assert not wrong, "\n".join(wrong[:40])


def test_reference_documents_every_public_function(pages):
    from poster_genres._modidx import d
    page = pages["reference.html"].get_text()
    names = [name.split(".")[-1] for module in d["syms"].values() for name in module if not name.split(".")[-1].startswith("_") and name.count(".") == 2]
    assert len(names) > 100 and not [name for name in names if name not in page]
    assert "listener=lambda" in pages["execution.html"].get_text()
    assert not [name for name, other in pages.items() if re.search(r"<function .* at 0x", other.get_text())], "a default that is a function has no name"
    runs = pages["runs.html"]
    heading = runs.select_one("#atomic_path")
    assert heading and "lib/runs.py#L" in heading.find_next("a", class_="source")["href"]
    assert "where the file is to appear" in heading.find_next("table").get_text()


@pytest.fixture(scope="module")
def chrome():
    with browser.browsing() as one:
        yield one


@pytest.fixture(scope="module")
def address(site):
    with browser.served(site) as one:
        yield one


SAMPLE = ["index.html", "evaluation.html", "runs.html", "parameters.html", "reference.html", "model_card.html"]


@pytest.mark.parametrize("size, scheme", [("phone", "dark"), ("desk", "light")])
def test_sampled_pages_are_whole(address, chrome, size, scheme):
    wrong = [line for page in SAMPLE for line in browser.look(chrome, f"{address}/{page}", size, scheme)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_all_pages_are_whole(address, chrome, pages, size, scheme):
    wrong = [line for page in pages for line in browser.look(chrome, f"{address}/{page}", size, scheme)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("words, where", [("atomic_path", "runs.html#atomic_path"), ("how results are measured", "measuring.html"),
                                          ("calibration limits model card", "model_card.html"), ("run the step download", "download.html#run-the-step")])
def test_search_finds(address, chrome, words, where):
    page = chrome.new_page()
    page.goto(f"{address}/index.html")
    page.bring_to_front()
    page.keyboard.press("/")
    page.wait_for_function("document.activeElement.id === 'search'")
    page.keyboard.type(words)
    page.wait_for_selector("#results a")
    found = page.eval_on_selector_all("#results a", "links => links.slice(0, 5).map(link => link.getAttribute('href'))")
    assert where in found, found
    page.locator(f'#results a[href="{where}"]').click()
    page.wait_for_url(f"**/{where}")
    page.close()


def test_a_table_has_one_row_of_titles_and_sorts_by_each(address, chrome):
    "The name of an index has a row of its own in what pandas writes."
    page = chrome.new_page()
    page.goto(f"{address}/results.html")
    choices = page.locator("table", has=page.get_by_role("columnheader", name="choice"))
    assert choices.locator("thead tr").count() == 1
    choices.get_by_role("columnheader", name="mean AP").get_by_role("button").click()
    assert choices.locator("tbody tr").first.inner_text().startswith("mixup"), "the lowest of them on top"
    page.close()


@pytest.mark.parametrize("page, scheme", [("index.html", "dark"), ("download.html", "light"), pytest.param("index.html", "light", marks=pytest.mark.slow),
                                          pytest.param("evaluation.html", "dark", marks=pytest.mark.slow)])
def test_site_is_accessible(address, chrome, page, scheme):
    wrong = browser.accessibility(chrome, f"{address}/{page}", scheme)
    assert not wrong, "\n".join(wrong)


def greeting(word, expected=None):
    "A notebook that exports one function and tests it."
    cell = nbformat.v4.new_code_cell
    return nbformat.v4.new_notebook(cells=[
        cell("#| default_exp lib.greeting"), nbformat.v4.new_markdown_cell("# Greeting\n\n> One function."),
        cell(f'#| export\ndef greet(\n    name: str,  # who is greeted\n) -> str:\n    "Return {word} in one word."\n    return f"{word}, {{name}}"'),
        cell(f'assert greet("you") == "{expected or word}, you", "the old words"', metadata={"tags": ["test"]})])


@pytest.mark.slow
def test_a_change_to_a_notebook_reaches_package_tests_and_site(tmp_path):
    "The four commands of CONTRIBUTING, in a copy with one more notebook, before and after its function is changed."
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".venv", ".git", "outputs", "_docs", "*.egg-info", "__pycache__"))
    (project / ".venv").symlink_to(sys.prefix)
    (project / "nbs" / "lib" / "greeting.ipynb").write_text(nbformat.writes(greeting("Hello")), encoding="utf-8")

    def make(*words):
        return subprocess.run(["make", "-o", ".venv/.ready", *words], cwd=project, capture_output=True, text=True, timeout=900,
                              env=os.environ | {"PYTHONPATH": str(project)})

    assert make("export").returncode == 0
    assert "Hello" in (project / "poster_genres" / "lib" / "greeting.py").read_text(encoding="utf-8"), "the package follows"
    assert make("test-notebook", "NB=lib/greeting").returncode == 0
    (project / "nbs" / "lib" / "greeting.ipynb").write_text(nbformat.writes(greeting("Good day", expected="Hello")), encoding="utf-8")
    failed = make("export", "test-notebook", "NB=lib/greeting")
    assert failed.returncode != 0 and "the old words" in failed.stdout + failed.stderr, "the notebook's own test notices"
    assert "Good day" in (project / "poster_genres" / "lib" / "greeting.py").read_text(encoding="utf-8")
    built = make("docs")
    assert built.returncode == 0, built.stderr[-3000:]
    assert "Return Good day in one word" in (project / "_docs" / "greeting.html").read_text(encoding="utf-8"), "the site follows"
