"""The pages of a run's report in a browser: on a phone and on a desk, light and dark, on paper, with tables that sort and fold."""
import shutil

import browser
import nbformat
import pandas as pd
import pytest
from browser import ROOT

from poster_genres.lib.runs import STEPS, TABLES, update_run, write_json, write_table
from poster_genres.run.report import write_comparison, write_report

SCORE = {"value": 1.36, "low": 1.28, "high": 1.43, "floor": 0.92, "skill": 0.37}
GENRES = ("Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy", "History", "Horror", "Music",
          "Mystery", "Romance", "Science Fiction", "Thriller", "War", "Western", "Film-Noir", "Sport")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    "The report of a run whose executed notebooks are those of the project, as they are saved, and a comparison of it with itself."
    run = tmp_path_factory.mktemp("runs") / "demo"
    update_run(run, state="done", profile="demo", parameters={"limit": 300, "reading": "words", "archive": str(run / "archive")}, versions={"python": "3.11"})
    for step, entry in STEPS.items():
        shutil.copy(ROOT / "nbs" / f"{entry.notebook}.ipynb", run)
        update_run(run, step, state="done", seconds=3.0, notebook_seconds=8.0, peak_memory_mb=300.0, made_from={"parameters": {"seed": 0}}, out=280, **{"in": 300})
    update_run(run, scores={"test": {"movies": 352} | {name: SCORE for name in ("hits_at_3", "any_at_3", "mean_average_precision", "macro_f1", "log_loss")},
                            "genres": {genre: SCORE | {"value": 0.9 - 0.02 * i, "low": 0.3, "high": 0.95, "floor": 0.1, "skill": 0.5 - 0.02 * i, "movies": 90 - i}
                                       for i, genre in enumerate(GENRES)}})
    write_json(run / "dataset" / "failed.json", {f"tt{i:07}": "damaged image: cut off" for i in range(3)})
    write_report(run)
    write_comparison([run, run], run / "report" / "compared.html")
    return run / "report"


HOSTILE = "<img src=styles.css onerror=document.title='owned'><script>document.title='owned'</script>${7*7}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    "The report of a run in which every text from outside is markup, its name too, and a comparison of two of them."
    runs = [tmp_path_factory.mktemp("hostile") / HOSTILE.replace("/", "") for _ in "ab"]
    for run in runs:
        update_run(run, state="failed", name=HOSTILE, profile=HOSTILE, commit=HOSTILE, parameters={HOSTILE: HOSTILE}, versions={HOSTILE: HOSTILE})
        update_run(run, "scraping", state="done", notebook_seconds=1.0, out=3, notes=[HOSTILE], made_from={"parameters": {HOSTILE: HOSTILE}}, **{"in": 3})
        update_run(run, "download", state="failed", error=HOSTILE)
        scores = {"movies": 9} | {name: SCORE for name in ("hits_at_3", "mean_average_precision")}
        update_run(run, scores={"test": scores, HOSTILE: scores, "genres": {HOSTILE: SCORE | {"movies": 9}}, "constancy": {"constant_three": [HOSTILE] * 3}})
        write_json(run / "dataset" / "failed.json", {HOSTILE: HOSTILE})
        movie = dict.fromkeys(TABLES["movies"].names, HOSTILE) | {"row": 1, "year": 1999, "genres": [HOSTILE]}
        write_table(pd.DataFrame([movie]), run / "movies.parquet")
        outputs = [nbformat.v4.new_output("display_data", {kind: HOSTILE}) for kind in ("text/plain", "text/html", "text/markdown", "image/svg+xml", "text/latex")]
        outputs += [nbformat.v4.new_output("display_data", {"text/markdown": "![x](styles.css) [y](javascript:alert(1))"}),
                    nbformat.v4.new_output("stream", name="stderr", text=HOSTILE), nbformat.v4.new_output("stream", name="stdout", text=HOSTILE)]
        cells = [nbformat.v4.new_markdown_cell("# Scraping"), nbformat.v4.new_code_cell(f"title = {HOSTILE!r}", outputs=outputs)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), run / "01_scraping.ipynb")
        write_report(run)
    write_comparison(runs, runs[1] / "report" / "compared.html")
    return runs[1] / "report"


def test_no_text_from_outside_becomes_markup(hostile, chrome):
    "No script runs, nothing is asked for, no file is taken in, and the words are still there."
    for path in sorted(hostile.glob("*.html")):
        page, asked = chrome.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        assert page.title() != "owned" and "onerror" in page.inner_text("main"), path.name
        assert page.evaluate("() => document.querySelectorAll('[onerror], main script, main [src]:not([src^=\"data:\"]), main style, main a[href^=javascript]').length") == 0, path.name
        assert len(asked) == 1, asked
        page.close()


@pytest.fixture(scope="module")
def chrome():
    with browser.browsing() as one:
        yield one


@pytest.fixture(scope="module")
def address(report):
    with browser.served(report) as one:
        yield one


def test_pages_name_no_folder_of_this_machine(report):
    for page in report.glob("*.html"):
        assert str(report.parent) not in page.read_text(encoding="utf-8"), page.name


@pytest.mark.parametrize("size, scheme", [("phone", "dark"), ("desk", "light"), pytest.param("phone", "light", marks=pytest.mark.slow),
                                          pytest.param("desk", "dark", marks=pytest.mark.slow)])
def test_pages_are_whole(report, address, chrome, size, scheme):
    pages = sorted(page.name for page in report.glob("*.html"))
    assert len(pages) == len(STEPS) + 2
    wrong = [line for page in pages for line in browser.look(chrome, f"{address}/{page}", size, scheme)]
    assert not wrong, "\n".join(wrong)


def test_report_opens_from_a_folder_of_files(report, chrome):
    page = chrome.new_page()
    failed = []
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.goto((report / "index.html").as_uri())
    assert page.locator(".card").count() == 4 and not failed
    page.close()


def test_tables_sort_and_fold(address, chrome):
    page = chrome.new_page()
    page.goto(f"{address}/index.html")
    genres = page.locator("table", has=page.get_by_role("columnheader", name="genre"))
    shown = genres.locator("tbody tr:not(.folded)")
    assert shown.count() == 15 and page.get_by_role("button", name="show all 20 rows").count() == 1
    page.get_by_role("button", name="show all 20 rows").click()
    assert shown.count() == 20 and shown.first.locator("td").first.inner_text() == "Action"
    genres.get_by_role("columnheader", name="test movies").get_by_role("button").click()
    assert shown.first.locator("td").first.inner_text() == "Sport", "the fewest movies on top"
    genres.get_by_role("columnheader", name="test movies").get_by_role("button").click()
    assert shown.first.locator("td").first.inner_text() == "Action"
    page.close()


def test_code_is_one_click_away_and_the_reader_chooses_the_light(address, chrome):
    page = chrome.new_page(color_scheme="light")
    page.goto(f"{address}/06_evaluation.html")
    assert page.locator("details.code[open]").count() == 0
    page.get_by_role("button", name="show all code").click()
    assert page.locator("details.code:not([open])").count() == 0
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="light or dark").click()
    assert page.evaluate(paper) != light
    page.goto(f"{address}/index.html")
    assert page.evaluate(paper) != light, "the choice is remembered"
    page.close()


def test_on_paper_all_rows_and_no_buttons(address, chrome):
    page = chrome.new_page()
    page.goto(f"{address}/index.html")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("header.bar-top").is_visible() and not page.get_by_role("button", name="show all 20 rows").is_visible()
    assert page.evaluate("() => [...document.querySelectorAll('tr.folded')].every(row => getComputedStyle(row).display === 'table-row')")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


@pytest.mark.parametrize("page, scheme", [("index.html", "light"), ("02_download.html", "dark"), pytest.param("compared.html", "light", marks=pytest.mark.slow),
                                          pytest.param("index.html", "dark", marks=pytest.mark.slow)])
def test_report_is_accessible(address, chrome, page, scheme):
    wrong = browser.accessibility(chrome, f"{address}/{page}", scheme)
    assert not wrong, "\n".join(wrong)


