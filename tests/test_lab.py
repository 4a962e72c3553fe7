"""JupyterLab in a browser: notebooks open and run from first to last, a widget moves its picture, nothing is left behind."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import browser
import pytest
from browser import ROOT

NOTEBOOKS = sorted(path.relative_to(ROOT / "nbs").as_posix() for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
SAMPLE = ["06a_explore.ipynb"]

RUN_ALL = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  await panel.context.ready; await panel.sessionContext.ready;
  await app.commands.execute('notebook:run-all-cells');
  const cells = [...panel.content.model.cells].filter(cell => cell.type === 'code');
  return {
    tags: cells.filter(cell => (cell.getMetadata('tags') || []).includes('parameters')).length,
    unexecuted: cells.filter(cell => cell.executionCount === null && cell.sharedModel.source.trim()).length,
    errors: cells.flatMap(cell => cell.outputs.toJSON()).filter(output => output.output_type === 'error').map(output => output.ename + ': ' + output.evalue)};
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A copy of the notebooks, so that what a notebook leaves beside itself is seen."
    target = tmp_path_factory.mktemp("lab") / "nbs"
    shutil.copytree(ROOT / "nbs", target, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return target


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    "The address of JupyterLab on that folder, with the settings of a first start."
    browser.chromium()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("jupyter")
    own = {name: value for name, value in os.environ.items() if name != "POSTER_GENRES_STRICT"}  # as a reader has it
    environment = own | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
                                "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    options, settings = (makefile.split(f"LAB_{name} = ")[1].splitlines()[0] for name in ("OPTIONS", "SETTINGS"))
    (home / "app" / "settings").mkdir(parents=True)
    (home / "app" / "settings" / "overrides.json").write_text(settings)
    with open(home / "log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options.split(), f"--LabApp.app_settings_dir={home / 'app' / 'settings'}", "--no-browser", *root, f"--port={port}", "--ServerApp.port_retries=0",
                                   "--IdentityProvider.token=lab", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"],
                                  stdout=log, stderr=log, env=environment)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api?token=lab", timeout=1)
            break
        except OSError:
            assert server.poll() is None, (home / "log").read_text()[-2000:]
            time.sleep(0.5)
    yield address
    server.terminate()
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()


@pytest.fixture(scope="module")
def page(lab):
    with browser.browsing() as chrome:
        page = chrome.new_page(viewport={"width": 1400, "height": 1000})
        page.away = set()
        page.on("request", lambda request: page.away.add(request.url) if request.url.startswith("http") and not request.url.startswith(lab) else None)
        yield page


def opened(page, lab, notebook):
    "Open a notebook and wait until it is there."
    page.goto(f"{lab}/lab/tree/{notebook}?token=lab&reset")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.context?.model && window.jupyterapp.shell.currentWidget.sessionContext", timeout=90_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    asked = page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts()
    assert not asked, asked


def run_all(page, lab, notebook):
    "Run all cells of a notebook; what is wrong with it."
    opened(page, lab, notebook)
    page.set_default_timeout(600_000)
    result = page.evaluate(RUN_ALL)
    saved = json.loads((ROOT / "nbs" / notebook).read_text(encoding="utf-8"))
    expected = sum("parameters" in cell["metadata"].get("tags", []) for cell in saved["cells"])
    assert result["errors"] == [] and result["unexecuted"] == 0 and result["tags"] == expected, (notebook, result)


def closed(page):
    "Close the notebook with its kernel, without saving."
    page.evaluate("async () => { const panel = window.jupyterapp.shell.currentWidget; await panel.sessionContext.shutdown(); await panel.context.revert(); panel.dispose(); }")


def files(folder):
    "The names of all files below the folder, apart from Jupyter's own checkpoints."
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and ".ipynb_checkpoints" not in path.parts)


@pytest.mark.parametrize("notebook", SAMPLE)
def test_notebook_runs_and_widgets_move_their_pictures(page, lab, folder, notebook):
    before = files(folder)
    run_all(page, lab, notebook)
    slider = page.locator(".widget-slider .noUi-handle").first
    slider.scroll_into_view_if_needed()
    picture = page.locator(".jupyter-widgets.widget-image").first
    source = picture.get_attribute("src")
    words = page.locator(".widget-html-content", has_text="rightly for").first.inner_text()
    slider.focus()
    for _ in range(3):
        slider.press("PageDown")
    page.wait_for_function("words => [...document.querySelectorAll('.widget-html-content')].some(box => box.innerText.includes('rightly for') && box.innerText !== words)",
                           arg=words, timeout=30_000)
    page.wait_for_function("source => document.querySelector('.jupyter-widgets.widget-image').src !== source", arg=source, timeout=30_000)
    maps = page.locator(".jupyter-widgets.widget-image").last
    source = maps.get_attribute("src")
    page.locator(".widget-dropdown select").last.select_option(index=1)
    page.wait_for_function("source => [...document.querySelectorAll('.jupyter-widgets.widget-image')].at(-1).src !== source", arg=source, timeout=30_000)
    maps.scroll_into_view_if_needed()
    if shot := os.environ.get("LAB_SHOT"):
        page.screenshot(path=shot)
    closed(page)
    assert files(folder) == before and not page.away


@pytest.mark.slow
@pytest.mark.parametrize("notebook", [name for name in NOTEBOOKS if name not in SAMPLE])
def test_every_notebook_runs(page, lab, folder, notebook):
    before = files(folder)
    run_all(page, lab, notebook)
    closed(page)
    assert files(folder) == before and not page.away


