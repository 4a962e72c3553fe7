"""The pictures of pages in the README: python docs/picture.py REPORT.html SITE FOLDER

report.png is the top of a report's front page, try.jpg the site's page that names genres in the browser, with an example and a heat map,
read.jpg four synthetic posters with the lines that are read on them.
"""
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import browsing, served  # noqa: E402

from poster_genres.demo.archive import poster_file  # noqa: E402
from poster_genres.demo.posters import made_up_movies  # noqa: E402
from poster_genres.lib.images import decode  # noqa: E402
from poster_genres.lib.recogniser import read_lines  # noqa: E402
from poster_genres.reading import reading_sheet  # noqa: E402


def shot(page, picture, **options):
    "Save what is seen of the page."
    Image.open(BytesIO(page.screenshot())).convert("RGB").save(picture, optimize=True, **options)
    print(f"{picture}: {picture.stat().st_size // 1000} KB")


report, site, folder = map(Path, sys.argv[1:])
with browsing() as browser, served(site) as address:
    page = browser.new_page(viewport={"width": 1200, "height": 960}, color_scheme="light")
    page.goto(report.resolve().as_uri())
    shot(page, folder / "report.png")
    page = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme="light")
    page.goto(f"{address}/try.html")
    page.click("button[data-example] >> nth=1")
    page.wait_for_selector("[data-part=said]:has-text('%')", timeout=120_000)
    page.click("button.where >> nth=0")
    page.wait_for_selector("canvas:not([hidden])", timeout=60_000)
    page.evaluate("document.activeElement.blur(); document.querySelector('#try').scrollIntoView(); scrollBy(0, -70)")
    shot(page, folder / "try.jpg", quality=82)
posters = [poster_file(movie) for movie in made_up_movies(4)]
reading_sheet(posters, [read_lines(decode(poster)) for poster in posters]).save(folder / "read.jpg", quality=88, optimize=True)
