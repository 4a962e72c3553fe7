"""Ways of reading posters side by side: posters a second of CPU time, and the share of title words that was read.

    python benchmarks/reading.py settings ARCHIVE [--posters N]     the settings of lib/recogniser beside others, and RapidOCR as it comes
    python benchmarks/reading.py workers ARCHIVE [--posters N]      posters a second of wall-clock time with one and with two processes

ARCHIVE is a folder with movies_metadata.csv and posters/. The posters are drawn by the hash of their ids. All ways read each
poster in turn, with one thread, so that a busy machine disturbs all of them alike. A title word has three letters or more and
counts as read when it stands in the text.
"""
import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from poster_genres.lib.archives import find_catalogue, scan_posters

from poster_genres.lib.catalogue import read_catalogue
from poster_genres.lib.images import decode
from poster_genres.lib.recogniser import Settings, load_recogniser, read_lines
from poster_genres.lib.ngrams import clean_line
from poster_genres.lib.runs import notebooks_folder
from poster_genres.reading import map_posters, title_words_read

WAYS = {
    "settings of step 4a": Settings(),
    "enlarged three times": Settings(shorter_side=546, longer_side=2184),
    "enlarged one and a half times": Settings(shorter_side=273, longer_side=1092),
    "small print, too": Settings(least_height=0.0),
    "doubtful regions left out": Settings(box_confidence=0.5),
    "one line at a time": Settings(batch=1),
}


def posters_with_titles(archive, count):
    "Paths and titles of `count` posters of the archive, by the hash of their ids."
    have, movies = scan_posters(archive)[0], read_catalogue(find_catalogue(archive)).dropna(subset=["imdb_id", "title"])
    movies = movies[movies.imdb_id.isin(have)].drop_duplicates("imdb_id")
    order = movies.imdb_id.map(lambda imdb_id: hashlib.sha1(f"reading {imdb_id}".encode()).hexdigest()).sort_values().index[:count]
    return [Path(archive, "posters", f"{imdb_id}.jpg") for imdb_id in movies.imdb_id[order]], list(movies.title[order])


def as_it_comes():
    "A function that reads a picture with RapidOCR's own settings, with one thread."
    from rapidocr import RapidOCR
    engine = RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1})

    def read(picture):
        return [clean_line(text) for text in engine(np.asarray(picture)[..., ::-1]).txts or ()]
    return read


def compare_settings(archive, count):
    "Write results/reading.csv, a row a way: posters a second of CPU time, and the share of title words."
    paths, titles = posters_with_titles(archive, count)
    loaders = {settings: load_recogniser.__wrapped__(settings) for settings in WAYS.values()}
    ways = {name: lambda picture, settings=settings: [line.text for line in read_lines(picture, settings, loaders[settings])]
            for name, settings in WAYS.items()}
    ways["RapidOCR as it comes"] = as_it_comes()
    seconds, found, wanted = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0), 0
    for path, title in zip(paths, titles):
        picture = decode(path)
        for name, read in ways.items():
            start = time.process_time()
            texts = read(picture)
            seconds[name] += time.process_time() - start
            found[name] += title_words_read(title, texts)[0]
        wanted += title_words_read(title, [])[1]
    table = pd.DataFrame([{"settings": name, "posters_a_second": len(paths) / seconds[name], "share_of_title_words": found[name] / wanted,
                           "title_words": wanted, "posters": len(paths)} for name in ways])
    print(table.to_string())
    table.to_csv(notebooks_folder() / "results" / "reading.csv", index=False, lineterminator="\n", float_format="%.4g")


def compare_workers(archive, count):
    "Print posters a second of wall-clock time with one and with two processes, start-up included."
    paths, _ = posters_with_titles(archive, count)
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            read = sum(len(task) for task in map_posters([str(path) for path in paths], folder, workers))
            took = time.perf_counter() - start
        print(f"{workers} processes: {read / took:.1f} posters/s ({read} posters in {took:.0f} s)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["settings", "workers"])
    parser.add_argument("archive")
    parser.add_argument("--posters", type=int, default=300)
    given = parser.parse_args()
    {"settings": compare_settings, "workers": compare_workers}[given.what](given.archive, given.posters)
