"""The evaluation of odd data: too few movies, one genre, hundreds of them, movies that are all alike, hostile names."""
import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from poster_genres.evaluation import conclusion, evaluate
from poster_genres.lib.metrics import SCORE_NAMES
from poster_genres.lib.runs import read_json, read_run, read_table, write_json, write_table
from poster_genres.prediction import find_predictor, predict

HOSTILE = ["$\\frac{", "<img src=x onerror=alert(1)>", "a|b](c)", "\x1b[31m", "x" * 2000, "\u202eabc"]


def odd_run(folder, parts, names, share=0.3, seed=0):
    "A run folder with so many movies of each part and a small network, as if its steps before the evaluation were done."
    random, movies = np.random.default_rng(seed), sum(parts.values())
    (folder / "dataset").mkdir(parents=True)
    (folder / "model").mkdir()
    genres = (random.random((movies, len(names))) < share).astype(np.uint8)
    genres[:, 0] |= ~genres.any(1)
    index = pd.DataFrame({"imdb_id": [f"tt{number:09}" for number in range(movies)], "title": HOSTILE[1], "year": pd.array([pd.NA] * movies, "Int16"),
                          "path": "x.jpg", "part": np.repeat(list(parts), list(parts.values())), "repeats": 1, "weight": 1.0})
    np.save(folder / "dataset" / "images.npy", random.integers(0, 256, (movies, 12, 8, 3), dtype=np.uint8))
    np.save(folder / "dataset" / "genres.npy", genres)
    write_table(index, folder / "dataset" / "index.parquet")
    write_json(folder / "dataset" / "genres.json", names)
    write_json(folder / "dataset" / "images.json", {"width": 8, "height": 12, "fit": "stretch"})
    write_json(folder / "dataset" / "failed.json", {})
    keras.utils.set_random_seed(seed)
    poster = keras.Input((12, 8, 3))
    places = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(poster))
    answer = keras.layers.Dense(len(names), "sigmoid", name="genres")(keras.layers.GlobalAveragePooling2D()(places))
    keras.Model(poster, answer).save(folder / "model" / "model.keras")
    (folder / "model" / "history.csv").write_text("epoch\n")
    write_json(folder / "run.json", {"name": "odd", "state": "running", "parameters": {}, "steps": {}, "scores": {}, "seed": 0, "versions": {}, "commit": None})
    return folder


@pytest.mark.parametrize("parts, names, share", [
    ({"train": 30, "validation": 60, "test": 40}, ["Drama"], 0.5),
    ({"train": 30, "validation": 60, "test": 40}, ["Drama", "Horror", "War"], 0.3),
    ({"train": 30, "validation": 60, "test": 40}, HOSTILE, 0.3),
    ({"train": 30, "validation": 60, "test": 40}, ["Drama", "Horror"], 1.1),
    ({"train": 60, "validation": 10, "test": 10}, [f"genre {number}" for number in range(400)], 0.01),
    ({"train": 4, "validation": 1, "test": 1}, ["Drama", "Horror"], 0.5),
    ({"train": 30, "test": 20}, ["Drama", "Horror", "War"], 0.3),
    ({"train": 30, "validation": 60}, ["Drama", "Horror", "War"], 0.3),
    ({"train": 1}, ["Drama"], 0.3),
], ids=["one genre", "three genres", "hostile names", "all movies alike", "400 genres", "six movies", "no validation", "no test", "one movie"])
def test_any_data_is_evaluated(tmp_path, parts, names, share):
    run = odd_run(tmp_path / "run", parts, names, share)
    counts, test = evaluate(run, resamples=20), parts.get("test", 0)
    scores = read_json(run / "evaluation" / "scores.json")
    assert counts["out"] == test == scores["test"]["movies"] and scores["not_drawn"] == {} and read_run(run)["scores"] == scores
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    if test >= 5:
        lines = [scores["test"][name] for name in SCORE_NAMES]
        assert all(set(line) == {"value", "low", "high", "floor", "best", "skill"} and line["low"] <= line["value"] <= line["high"] for line in lines)
        assert list(scores["genres"]) == names
    else:
        assert "too few" in scores["test"]["too_few"] and "too few" in conclusion(scores) and scores["genres"] == {}
    table = read_table(run / "evaluation" / "predictions.parquet")
    assert len(table) == test + parts.get("validation", 0)
    predictor = find_predictor(run)
    assert predictor.genres == names and list(predict([], predictor)) == [] and all(0 < threshold <= 1 for threshold in predictor.thresholds)
    assert len(list(Path(run, "evaluation").glob("*.png"))) == 5 and len(list(Path(run, "evaluation").glob("*.jpg"))) == 4
