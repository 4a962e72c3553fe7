"""The content of a notebook as it stands on the site: links lead to pages, anchors are as Quarto writes them, pictures are files."""
import base64
import hashlib
import html
import posixpath
import re
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from bs4 import BeautifulSoup
from PIL import Image

from poster_genres.run.pages import notebook_body


class Place(NamedTuple):
    "Where a site is written, and what it consists of."
    out: Path
    base: str  # its address on the web
    names: dict[str, str]  # of its pages, by the files that they are made from

    def address(self, address: str, folder: str) -> str | None:
        "Where a link from a file in `folder` leads on the site, whose pages are all in one folder; None when it leads to no page of it."
        address = re.sub(re.escape(self.base) + r"/?(?:\w+/)?", "", address)
        if re.match(r"[a-z]+:", address):
            return address
        path, _, anchor = address.partition("#")
        path, anchor = path and posixpath.normpath(posixpath.join(folder, path)).removeprefix("../"), f"#{slug(anchor)}" if anchor else ""
        name = self.names.get(path) or ("index.html" if path.endswith(".ipynb") else posixpath.basename(path))
        return name + anchor if name in {"", "reference.html", *self.names.values()} else None

    def picture(self, address: str) -> dict:
        "Write a picture that a page holds into a file beside it; the attributes of its tag: size, and that it is loaded when it comes into sight."
        kind, data = re.fullmatch(r"data:image/(png|jpeg|webp);base64,(.+)", address, re.S).groups()
        data = base64.b64decode(data)
        name, (width, height) = f"pictures/{hashlib.sha256(data).hexdigest()[:16]}.{kind.replace('jpeg', 'jpg')}", Image.open(BytesIO(data)).size
        (self.out / name).write_bytes(data)
        return {"src": name, "width": width, "height": height, "loading": "lazy"}


def body_on_site(notebook, folder: str, place: Place) -> str:
    "The notebook's cells as HTML; in a worker process."
    soup = BeautifulSoup(notebook_body(notebook, fold=False), "html.parser")
    for heading in soup.select(":is(h1, h2, h3, h4, h5, h6)[id]"):
        heading["id"] = slug(heading["id"])
    for link in soup.select("a[href]"):
        address = place.address(link["href"], folder)
        if address is None:
            link.unwrap()
            continue
        link["href"] = address
        if link.get_text() == "source" and link.parent.name == "p" and len(link.parent.contents) == 1:
            link["class"] = "source"
    for image in soup.select('img[src^="data:image/"]'):
        image.attrs |= place.picture(image["src"])
    return str(soup)


def slug(anchor: str) -> str:
    "An anchor as Quarto and nbdev write it: lower case, words joined by dashes."
    return re.sub(r"[^\w\-.]+", "", html.unescape(anchor).lower().replace("%27", "").replace(" ", "-")).strip("-.") or "section"
