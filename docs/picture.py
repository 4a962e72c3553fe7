"""A picture of the top of a page, for the README: python docs/picture.py PAGE.html PICTURE.png"""
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import browsing  # noqa: E402

page_file, picture = map(Path, sys.argv[1:])
with browsing() as browser:
    page = browser.new_page(viewport={"width": 1200, "height": 960}, color_scheme="light")
    page.goto(page_file.resolve().as_uri())
    shot = Image.open(BytesIO(page.screenshot())).convert("RGB")
shot.save(picture, optimize=True)
print(f"{picture}: {picture.stat().st_size // 1000} KB")
