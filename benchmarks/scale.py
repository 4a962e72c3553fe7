"""Past one machine: Dask beside the process pool, memory by the number of posters, and steps 1 and 3 on a million movies.

    python benchmarks/scale.py workers ARCHIVE [--posters N]   reading and preprocessing: pool, one and two Dask workers, in turns
    python benchmarks/scale.py memory                          memory of the caller and of a worker at 10,000, 30,000 and 100,000 posters
    python benchmarks/scale.py rows [--rows N]                 time and memory of steps 1 and 3 at a quarter, a half and all of N rows
    python benchmarks/scale.py archive DIR [--rows N]          writes a made-up catalogue, and posters for a tenth of its movies, to run on

ARCHIVE is a folder with posters/. Ratios are taken within a round, so that a busy machine disturbs them little.
"""
import argparse
import csv
import io
import multiprocessing
import os
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from poster_genres.lib.catalogue import MAPPINGS
from poster_genres.lib.runs import TABLES, write_table
from poster_genres.manipulation import manipulate
from poster_genres.scraping import scrape

# the columns of the dataset "Full TMDB movies" that is published anew every day, with a million rows and more
COLUMNS = ("id title vote_average vote_count status release_date revenue runtime adult backdrop_path budget homepage imdb_id original_language "
           "original_title overview popularity poster_path tagline genres production_companies production_countries spoken_languages keywords").split()
WORDS = "night city of the last love house dead summer war river blue king game woman man return secret island story day fire road".split()
GENRES = [name for name in MAPPINGS["tmdb"] if name not in ("TV Movie", "Foreign")]


# ---- a million movies ----

def write_catalogue(path, rows):
    "Write a made-up catalogue in the layout of the large TMDB dataset; one movie in seven has no poster, one in nine no genre."
    chance = random.Random(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number in range(rows):
            title = " ".join(chance.choices(WORDS, k=1 + number % 4)).title()
            genres = ", ".join(chance.sample(GENRES, 1 + number % 3)) if number % 9 else ""
            poster = f"/{number:027x}.jpg" if number % 7 else ""
            text = f"A story, told in \"{title}\", of " + " ".join(chance.choices(WORDS, k=40)) + "."
            table.writerow([number + 1, title, 6.1, number % 500, "Released", f"{1920 + number % 106}-0{1 + number % 9}-11", 0, 95, "False", "", 0, "",
                            f"tt{number + 1:07}", "en", title, text, 1.5, poster, "", genres, "A Company", "France", "English", "night, city"])


def picture(number, size=(182, 268)):
    "The bytes of a made-up poster: large blots of colour that no other number has."
    blots = np.random.default_rng(number).integers(0, 256, (6, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()


def link_posters(folder, names, copies=20):
    "Write a poster for each name, of which so many are the same file."
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        if number % copies == 0:
            first = folder / name
            first.write_bytes(picture(number))
        else:
            os.link(first, folder / name)


def write_archive(folder, rows):
    "An archive: a catalogue of so many rows, and a poster for every tenth movie that has one."
    folder.mkdir(parents=True, exist_ok=True)
    write_catalogue(folder / "catalogue.csv", rows)
    link_posters(folder / "posters", [f"tt{number + 1:07}.jpg" for number in range(rows) if number % 7][:rows // 10])


def made_up_posters(folder, share=10):
    "The table `posters` of a run whose step 1 is done: one link in ten led to a poster, and no two pictures are the same."
    movies = pd.read_parquet(folder / "movies.parquet", columns=["imdb_id", "poster_link", "status"]).query("status == 'found'").reset_index(drop=True)
    chance, good = np.random.default_rng(0), np.arange(len(movies)) % share == 0
    table = movies[["imdb_id", "poster_link"]].assign(status=np.where(good, "ok", "failed"), reason=np.where(good, None, "the server answers 404 (not found)"))
    table["path"] = [f"posters/{imdb_id}.jpg" if have else None for imdb_id, have in zip(table.imdb_id, good)]
    table["phash"] = [f"{value:016x}" if have else None for value, have in zip(chance.integers(0, 2**63, len(table)), good)]
    table["sha256"] = [f"{value:064x}" if have else None for value, have in enumerate(good)]
    write_table(table.reindex(columns=TABLES["posters"].names), folder / "posters.parquet")


def _measured(results, work, *words, **options):
    started, cpu = time.perf_counter(), time.process_time()
    work(*words, **options)
    results.put((time.perf_counter() - started, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measured(work, *words, **options):
    "Seconds of wall-clock and of CPU time, and the peak memory in MB, of a call in a process of its own."
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_measured, args=(results, work, *words), kwargs=options)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{work.__name__} failed")
    return results.get()


def rows(most):
    "Time and memory of steps 1 and 3, by the number of rows; one movie in ten has a poster."
    for count in (most // 4, most // 2, most):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "run")
            folder.mkdir()
            (folder / "run.json").write_text('{"steps": {}}')
            write_catalogue(Path(place, "catalogue.csv"), count)
            first = measured(scrape, folder, catalogue=str(Path(place, "catalogue.csv")), source="tmdb")
            made_up_posters(folder)
            third = measured(manipulate, folder)
            for name, (seconds, cpu, peak) in (("scraping", first), ("manipulation", third)):
                print(f"{count:9,} rows, {name:12}: {seconds:6.1f} s ({cpu:.1f} s of CPU, {cpu / count * 1e6:.1f} µs a row), peak {peak:,.0f} MB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["workers", "memory", "rows", "archive"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--posters", type=int, default=400)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what == "rows":
        rows(given.rows)
    elif given.what == "archive":
        write_archive(given.folder, given.rows)
