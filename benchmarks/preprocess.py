"""Steps 3 and 4 beside the original's way: posters a second, error, scaling, memory.

    python benchmarks/preprocess.py speed ARCHIVE       one core, our way and the original's on the same real posters, in turns
    python benchmarks/preprocess.py workers ARCHIVE     two workers beside one
    python benchmarks/preprocess.py memory ARCHIVE      peak memory of steps 3 and 4, for the archive's posters and for twice as many

ARCHIVE is a folder with movies_metadata.csv and posters/. Speeds on one core are per second of CPU time, as medians over
rounds in which each way takes the same posters in turn; ratios are medians of the rounds' ratios, so that a busy machine
disturbs them little. The error is the mean difference to Pillow's LANCZOS at full decoding, in grey levels of 255.
"""
import argparse
import io
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median

import imageio.v2
import numpy as np
import pandas as pd
import psutil
import simplejpeg
import skimage.transform
from PIL import Image

from poster_genres.lib.catalogue import read_catalogue
from poster_genres.lib.runs import TABLES, write_table
from poster_genres.lib.images import pixels, read_shard, verify
from poster_genres.lib.shards import map_shards
from poster_genres.manipulation import manipulate
from poster_genres.preprocessing import preprocess

WIDTH, HEIGHT = 101, 150  # the original's
SMALL, LARGE = (182, 268), (500, 750)


def colour_posters(archive, count):
    "The bytes of `count` posters of the archive that are stored as RGB JPEG of 182 x 268, spread over all of them."
    paths = sorted(Path(archive, "posters").iterdir())
    chosen = []
    for path in paths[:: max(1, len(paths) // (2 * count))]:
        with Image.open(path) as image:
            if (image.format, image.mode, image.size) == ("JPEG", "RGB", SMALL):
                chosen.append(path.read_bytes())
    return chosen[:count]


def enlarged(data):
    "The same poster as a JPEG of 500 x 750."
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).resize(LARGE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return file.getvalue()


def original(data):
    "The original's way: decoded by imageio, resized by scikit-image, floats from 0 to 1."
    return skimage.transform.resize(imageio.v2.imread(io.BytesIO(data)), (HEIGHT, WIDTH, 3))


def finest(data):
    return np.asarray(Image.open(io.BytesIO(data)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def speed(archive, posters=240, rounds=6):
    "Posters a second of CPU time, the error, and the ratios between our way, the original's and simplejpeg's decoding."
    ways = {"original": original, "ours": partial(pixels, width=WIDTH, height=HEIGHT), "simplejpeg, decoding only": simplejpeg.decode_jpeg}
    small = colour_posters(archive, posters)
    for size, data in {SMALL: small, LARGE: [enlarged(poster) for poster in small[:posters // 3]]}.items():
        seconds = {name: [] for name in ways}
        for start in range(rounds):
            for name, way in ways.items():
                chunk, began = data[start::rounds], time.process_time()
                for poster in chunk:
                    way(poster)
                seconds[name].append((time.process_time() - began) / len(chunk))
        errors = {name: np.mean([np.abs(way(poster) * (255.0 if name == "original" else 1.0) - finest(poster)).mean() for poster in data])
                  for name, way in list(ways.items())[:2]}
        print(f"{size[0]} x {size[1]} to {WIDTH} x {HEIGHT}, {len(data)} posters, {rounds} rounds:")
        for name in ways:
            print(f"  {name:<26}{1 / median(seconds[name]):8,.0f} posters a CPU second" + (f", error {errors[name]:.2f}" if name in errors else ""))
        for other, name in (("original", "original"), ("simplejpeg, decoding only", "simplejpeg's decoding")):
            ratios = [theirs / ours for theirs, ours in zip(seconds[other], seconds["ours"])]
            print(f"  ours is {median(ratios):.2f} times {name} ({min(ratios):.2f} to {max(ratios):.2f})")


def workers(archive, posters=3000, rounds=3):
    "The time that two workers take beside one, for the same posters, once they have started."
    paths = [str(path) for path in sorted(Path(archive, "posters").iterdir())[:posters]]
    warm = -(-len(paths) // 8)
    found = {1: [], 2: []}
    for _ in range(rounds):
        for count in found:
            read = 0
            for _, reasons in _pool(paths, count):
                if read < warm <= read + len(reasons):
                    began, skipped = time.perf_counter(), read + len(reasons)
                read += len(reasons)
            found[count].append((read - skipped) / (time.perf_counter() - began))
    ratios = [two / one for one, two in zip(found[1], found[2])]
    print(f"posters a second: one worker {median(found[1]):,.0f}, two {median(found[2]):,.0f}; ratio {median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f}), load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _pool(paths, count):
    "The shards from `count` worker processes; a single one is a process, too, so that like is compared with like."
    with tempfile.TemporaryDirectory() as folder:
        read = partial(read_shard, width=WIDTH, height=HEIGHT)
        yield from ((shard["images"], list(shard["reasons"])) for shard in map_shards(read, paths, folder, workers=count))


# ---- memory ----

def private_mb(process):
    "The proportional set size of the process and its children without mapped files, in megabytes."
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{member.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return total / 1024


def make_run(folder, archive, times):
    "A run folder as steps 1 and 2 leave it, with the archive's posters `times` times, each time under other ids."
    movies = read_catalogue(Path(archive, "movies_metadata.csv"))
    have = {path.stem: path for path in Path(archive, "posters").iterdir()}
    movies = movies[movies.imdb_id.isin(have) & movies.reason.isna()].assign(status="found")
    facts = pd.DataFrame([verify(have[imdb_id].read_bytes())._asdict() for imdb_id in movies.imdb_id], index=movies.index)
    posters = facts.assign(imdb_id=movies.imdb_id, path=[str(have[imdb_id]) for imdb_id in movies.imdb_id], status="ok")
    for table, name in ((movies, "movies"), (posters, "posters")):
        copies = [table.assign(imdb_id=[f"tt{int(imdb_id[2:]) + 10_000_000 * time:07}" for imdb_id in table.imdb_id]) for time in range(times)]
        if name == "posters":  # other pictures: their hashes are changed, so that they are not one group
            chance = np.random.default_rng(0)
            for copy in copies[1:]:
                copy["phash"] = [f"{value:016x}" for value in chance.integers(0, 2**63, len(copy))]
                copy["sha256"] = [f"{value:064x}" for value in range(len(copy))]
        write_table(pd.concat(copies, ignore_index=True).reindex(columns=TABLES[name].names), folder / f"{name}.parquet")
    (folder / "run.json").write_text('{"steps": {}}')
    return len(movies) * times


def both_steps(folder):
    manipulate(folder)
    preprocess(folder, width=182, height=268, workers=2)


def memory(archive):
    "The peak memory of steps 3 and 4 at 268 x 182 with two workers, for the archive's posters and for twice as many."
    peaks = {}
    for times in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            count = make_run(Path(folder), archive, times)
            process = multiprocessing.get_context("spawn").Process(target=both_steps, args=[Path(folder)])
            process.start()
            watched, peak = psutil.Process(process.pid), 0.0
            while process.is_alive():
                try:
                    peak = max(peak, private_mb(watched))
                except psutil.NoSuchProcess:
                    break
                time.sleep(0.05)
            process.join()
            if process.exitcode:
                sys.exit("the steps failed")
            peaks[count] = peak
            print(f"{count:,} posters at 268 x 182: peak {peak:,.0f} MB", flush=True)
    (_, first), (_, second) = peaks.items()
    print(f"twice the posters take {second - first:+,.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "workers", "memory"])
    parser.add_argument("archive", type=os.path.abspath)
    words = parser.parse_args()
    warnings.simplefilter("ignore")
    {"speed": speed, "workers": workers, "memory": memory}[words.what](words.archive)
