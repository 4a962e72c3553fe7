"""How fast `predict` is: `python benchmarks/prediction.py POSTERS [COUNT [TURNS]]`, from files to genres, with the shipped predictor.

POSTERS is a folder of images, of which COUNT (512) are taken. One interpreter with a thread a core, as LiteRT offers it, and what `predict`
does, single-threaded interpreters in parallel, are measured in turns, TURNS (5) times in one process. Printed are the medians of posters a
second and of processor time a poster, and the same for decoding alone.
"""
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from ai_edge_litert.interpreter import Interpreter

from poster_genres.lib.images import pixels
from poster_genres.prediction import find_predictor, poster_files, predict, shipped_predictor


def one_interpreter(path):
    "A function from posters to probabilities: one interpreter with a thread a core."
    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (poster,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def probabilities(images):
        found = []
        for image in images:
            interpreter.set_tensor(poster["index"], image[None])
            interpreter.invoke()
            found.append(interpreter.get_tensor(answer["index"])[0])
        return np.stack(found)
    return probabilities


def main(folder, count=512, turns=5):
    "Print a table: a row a way, and how far their probabilities differ."
    files, ours = [file.path for file in poster_files([folder])[:int(count)]], find_predictor()
    other = ours._replace(ask=one_interpreter(shipped_predictor()))
    ways = {
        "one interpreter, a thread a core": lambda: list(predict(files, other, words=False)),
        "an interpreter a core": lambda: list(predict(files, ours, words=False)),
        "decoding alone": lambda: [pixels(path, *ours.size[::-1], ours.fit) for path in files],
    }
    images = np.stack([pixels(path, *ours.size[::-1], ours.fit) for path in files[:64]])
    print("largest difference of probabilities:", np.abs(ours.ask(images) - other.ask(images)).max())
    rows = []
    for _ in range(int(turns)):
        for way, work in ways.items():
            begun, processor = time.perf_counter(), time.process_time()
            work()
            rows.append({"way": way, "posters a second": len(files) / (time.perf_counter() - begun),
                         "processor ms a poster": (time.process_time() - processor) / len(files) * 1000})
    print(pd.DataFrame(rows).groupby("way", sort=False).agg(["median", "max"]).round(1).to_string())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
