"""Past one machine: Dask beside the process pool, memory by the number of posters, and steps 1 and 3 on a million movies.

    python benchmarks/scale.py workers ARCHIVE [--posters N]   reading and preprocessing: pool, one and two Dask workers, in turns
    python benchmarks/scale.py memory                          memory of the caller and of a worker at 10,000, 30,000 and 100,000 posters
    python benchmarks/scale.py rows [--rows N]                 time and memory of steps 1 and 3 at a quarter, a half and all of N rows
    python benchmarks/scale.py archive DIR [--rows N]          writes a made-up catalogue, and posters for a tenth of its movies, to run on

ARCHIVE is a folder with posters/. Ratios are taken within a round, so that a busy machine
disturbs them less; CPU seconds count those of all processes, the scheduler's as well.
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
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import psutil
from PIL import Image

from poster_genres.lib.genres import MAPPINGS
from poster_genres.lib.cluster import ADDRESS
from poster_genres.lib.images import read_shard
from poster_genres.lib.recogniser import read_posters
from poster_genres.lib.runs import TABLES, write_json, write_table
from poster_genres.lib.shards import load_json, map_shards
from poster_genres.manipulation import manipulate
from poster_genres.preprocessing import write_images
from poster_genres.scraping import scrape

# the columns of the dataset "Full TMDB movies" that is published anew every day, with a million rows and more
COLUMNS = ("id title vote_average vote_count status release_date revenue runtime adult backdrop_path budget homepage imdb_id original_language "
           "original_title overview popularity poster_path tagline genres production_companies production_countries spoken_languages keywords").split()
WORDS = "night city of the last love house dead summer war river blue king game woman man return secret island story day fire road".split()
GENRES = [name for name in MAPPINGS["tmdb"] if name not in ("TV Movie", "Foreign")]


# ---- workers ----

@contextmanager
def local_cluster(workers):
    "The address of a scheduler on loopback with so many workers of one thread each."
    from distributed import LocalCluster
    with LocalCluster(n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50) as dask:
        yield dask


@contextmanager
def named(address):
    "A block in which work goes to this scheduler; empty: to processes."
    os.environ[ADDRESS] = address
    try:
        yield
    finally:
        del os.environ[ADDRESS]


def cpu_seconds():
    "What this process has used, and all that it has started, those that have ended included."
    used = lambda process: sum(process.cpu_times()[:2])
    live = sum(used(child) for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE)
    return time.process_time() + live + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def speed(shards, posters, size):
    "Posters a second, and CPU seconds a poster, once the first quarter is done, in which workers start and load what they need."
    done, warm, began, cpu = 0, 0, 0.0, 0.0
    for _ in shards:
        done += size
        if not warm and done >= posters / 4:
            warm, began, cpu = done, time.perf_counter(), cpu_seconds()
    return (posters - warm) / (time.perf_counter() - began), (cpu_seconds() - cpu) / (posters - warm)


def read_with(paths, processes):
    with tempfile.TemporaryDirectory() as folder:
        work = partial(read_posters, folder=folder)
        return speed(map_shards(work, paths, Path(folder, "shards"), size=4, workers=processes, save=write_json, load=load_json), len(paths), 4)


def open_with(paths, processes):
    with tempfile.TemporaryDirectory() as folder:
        return speed(map_shards(partial(read_shard, width=96, height=144), paths, Path(folder, "shards"), size=32, workers=processes), len(paths), 32)


def workers(archive, posters, rounds=3):
    "Reading and preprocessing by two processes, by one and by two Dask workers, in turns."
    paths = [str(path) for path in sorted(Path(archive, "posters").iterdir())]
    with local_cluster(1) as one, local_cluster(2) as two:
        ways = {"pool of two": ("", 2), "one Dask worker": (one.scheduler_address, 0), "two Dask workers": (two.scheduler_address, 0)}
        for name, work, count in (("reading", read_with, posters), ("preprocessing", open_with, 20 * posters)):
            found = {way: [] for way in ways}
            for start in range(rounds):
                chosen = paths[start * count:(start + 1) * count]
                order = list(ways.items())
                for way, (address, processes) in order[start % 3:] + order[:start % 3]:
                    with named(address):
                        found[way].append(work(chosen, processes))
                    print(f"  {name}, round {start + 1}, {way}: {found[way][-1][0]:.2f} posters/s, {1000 * found[way][-1][1]:.1f} ms of CPU a poster, "
                          f"load {os.getloadavg()[0]:.1f}", flush=True)
            for a, b in (("two Dask workers", "one Dask worker"), ("pool of two", "two Dask workers")):
                for column, unit in enumerate(("posters/s", "CPU seconds a poster")):
                    first, second = ([values[column] for values in found[way]] for way in (a, b))
                    ratios = [x / y for x, y in zip(first, second)]
                    print(f"{name}: {a} {median(first):.4g} {unit}, {b} {median(second):.4g}: {median(ratios):.2f} times "
                          f"({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


# ---- memory ----

def memory(counts=(10_000, 30_000, 100_000)):
    "Peak memory of the caller and of the largest worker when so many posters become an array on two Dask workers."
    with tempfile.TemporaryDirectory() as place:
        link_posters(Path(place, "posters"), [f"{number:07}.jpg" for number in range(max(counts))], copies=1000)
        for count in counts:
            with local_cluster(2) as dask, named(dask.scheduler_address):
                from distributed import Client
                paths = partial(open_so_many, Path(place, "posters"), count, Path(place, "images.npy"))
                seconds, _, caller = measured(paths)
                with Client(dask, set_as_default=False) as client:
                    peak = max(client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024).values())
            print(f"{count:7,} posters: caller {caller:.0f} MB, worker {peak:.0f} MB, {seconds:.0f} s", flush=True)


def open_so_many(folder, count, target):
    write_images(target, [str(folder / f"{number:07}.jpg") for number in range(count)], 48, 72)
    target.unlink()


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


def _measured(results, work, words, options):
    started, cpu = time.perf_counter(), time.process_time()
    work(*words, **options)
    results.put((time.perf_counter() - started, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measured(work, *words, **options):
    "Seconds of wall-clock and of CPU time, and the peak memory in MB, of a call in a process of its own."
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_measured, args=(results, work, words, options))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit("the process that was measured failed: see above")
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
    parser.add_argument("--posters", type=int, default=80, help="read in each turn of workers (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.what in ("workers", "archive") and not given.folder:
        parser.error(f"{given.what} needs a folder")
    {"workers": lambda: workers(given.folder, given.posters), "memory": memory, "rows": lambda: rows(given.rows),
     "archive": lambda: write_archive(given.folder, given.rows)}[given.what]()
