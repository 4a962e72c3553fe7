"""How fast the site's page names genres in Chromium on this machine: `python benchmarks/try_page.py` after `make docs` and `make browser`.

Writes nbs/results/browser.csv, which the small print of the page shows. Posters are synthetic, JPEGs of 500 x 750 pixels.
"""
import base64
import csv
import io
import os
import platform
import statistics
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import browser  # noqa: E402

from poster_genres.demo.archive import poster_file  # noqa: E402
from poster_genres.demo.posters import made_up_movies  # noqa: E402

# Drops files on the page; the milliseconds until the answers are seen, and until the next picture is painted after them.
DROP = """async files => {
    const given = new DataTransfer();
    files.forEach((data, number) => given.items.add(new File([Uint8Array.from(atob(data), sign => sign.charCodeAt(0))], `${number}.jpg`)));
    const tools = document.querySelector('[data-part=tools]');
    const seen = new Promise(done => new MutationObserver(() => tools.hidden || done()).observe(tools, { attributes: true }));
    tools.hidden = true;
    const start = performance.now();
    dispatchEvent(new DragEvent('drop', { dataTransfer: given, cancelable: true }));
    await seen;
    await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""


def posters(count):
    "Synthetic posters as JPEG files in base64."
    for movie in made_up_movies(count, seed=1):
        file = io.BytesIO()
        Image.open(io.BytesIO(poster_file(movie))).resize((500, 750), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
        yield base64.b64encode(file.getvalue()).decode()


class Counting(browser.Quiet):
    "A server that counts the bytes of the files that it sends."
    sent = 0

    def copyfile(self, source, target):
        data = source.read()
        Counting.sent += len(data)
        target.write(data)


def processor():
    "The name of this machine's processor, and how many cores there are."
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor() or platform.machine())
    return f"{os.cpu_count()} cores of {name}"


def main(site):
    browser.Quiet = Counting
    files = list(posters(100))
    with browser.served(site) as address, browser.browsing() as chrome:
        first = []
        for file in files[:3]:
            page = chrome.new_context().new_page()  # keeps nothing of an earlier visit
            page.goto(f"{address}/try.html")
            page.wait_for_selector("#try:not([hidden])")
            Counting.sent = 0
            first.append(page.evaluate(DROP, [file]))
        megabytes = Counting.sent / 1e6
        later = [page.evaluate(DROP, [file]) for file in files[3:23]]
        hundred = [page.evaluate(DROP, files) for _ in range(2)]
        name = f"Chromium {chrome.version.split('.')[0]}"
    found = {"browser": name, "processor": processor(), "megabytes": f"{megabytes:.1f}", "first_ms": f"{statistics.median(first):.0f}",
             "later_ms": f"{statistics.median(later):.0f}", "posters_a_second": f"{100_000 / min(hundred):.0f}"}
    with (ROOT / "nbs" / "results" / "browser.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "value"), *found.items()])
    print("\n".join(f"{what}: {value}" for what, value in found.items()))


if __name__ == "__main__":
    site = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "_docs")
    if not (site / "try.html").exists():
        sys.exit(f"{site} has no try.html: run `make docs` first, where npm can install LiteRT.js")
    main(site)
