"""Chromium without a screen, for the tests of pages: pages are opened, looked at and judged."""
import functools
import os
import shutil
import threading
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
AXE = Path(os.environ.get("AXE", ROOT / ".venv" / "browser" / "node_modules" / "axe-core" / "axe.min.js"))
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def chromium():
    "The path of Chromium and Playwright's entry; skips the tests in one line where either is missing."
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if not found:
        pytest.skip("no Chromium or no Playwright here, so no page was opened in a browser: `make browser` installs them", allow_module_level=True)
    return found, sync_playwright


@contextmanager
def browsing():
    "A browser."
    path, playwright = chromium()
    with playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words): pass


class Patient(ThreadingHTTPServer):
    "A server whose queue holds all that a browser asks for at once."
    request_queue_size = 128


@contextmanager
def served(folder):
    "The address of a folder on a loopback port."
    server = Patient(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


SIZES = {"phone": (390, 844), "desk": (1400, 1000)}
STATE = """() => ({wide: document.scrollingElement.scrollWidth - innerWidth,
  pictures: [...document.images].filter(image => image.loading !== 'lazy' && !(image.complete && image.naturalWidth)).map(image => image.src.slice(0, 80)),
  unnamed: [...document.images].filter(image => !image.alt).length,
  past: [...document.querySelectorAll('main *')].filter(box => box.getBoundingClientRect().right > innerWidth + 1
        && !box.closest('.output, .scroll, pre, svg, .gallery, nav')).slice(0, 3).map(box => box.outerHTML.slice(0, 120))})"""
LOAD_ALL = "async () => { for (const image of document.images) { image.loading = 'eager'; await image.decode().catch(() => {}); } }"


def look(browser, address, size, scheme, shot=None):
    "What is wrong with the page at this size and in this colour scheme, as lines; empty when it is fine."
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    wrong, home = [], address.split("/", 3)[2]
    page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url[:120]}"))
    page.on("request", lambda request: wrong.append(f"asks elsewhere: {request.url[:120]}")
            if request.url.startswith("http") and request.url.split("/", 3)[2] != home else None)
    page.on("response", lambda response: wrong.append(f"{response.status}: {response.url}") if response.status >= 400 else None)
    page.goto(address)
    page.evaluate(LOAD_ALL)
    state = page.evaluate(STATE)
    if state["wide"] > 0:
        wrong.append(f"scrolls sideways by {state['wide']} pixels: {state['past']}")
    wrong += [f"picture not loaded: {source}" for source in state["pictures"]]
    if state["unnamed"]:
        wrong.append(f"{state['unnamed']} pictures without an alternative text")
    if shot:
        page.screenshot(path=shot)
    page.close()
    return [f"{address} {size} {scheme}: {line}" for line in wrong]


def accessibility(browser, address, scheme="light"):
    "The serious and critical violations that axe-core finds, as lines. Skips where axe-core is missing."
    if not AXE.exists():
        pytest.skip("no axe-core here, so accessibility was not judged: `make browser` installs it")
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme=scheme)
    page.goto(address)
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("async () => (await axe.run()).violations")
    page.close()
    return [f"{violation['id']}: {violation['help']}: {violation['nodes'][0]['html'][:160]} ({len(violation['nodes'])})"
            for violation in found if violation["impact"] in ("serious", "critical")]
