"""The figures of nbs/09_results.ipynb, as tables in nbs/results/.

    python benchmarks/results.py networks RUN RUN ...   scores, cost and history of evaluated runs
    python benchmarks/results.py choices RUN            one choice at a time, on the run's dataset, judged on validation
    python benchmarks/results.py speed RUN ARCHIVE      posters a second of the run's predictor, decoding included

`choices` adds one row after the other and goes on where it was stopped; its runs are made beside RUN.
"""
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from poster_genres.calibration import load_predictor
from poster_genres.cnn import predict_rows, read_dataset, train
from poster_genres.core import notebooks_folder, read_json, read_run, write_json
from poster_genres.prediction import predict, shrink
from poster_genres.scores import bootstrap_weights, log_loss, mean_average_precision

FOLDER = notebooks_folder() / "results"
EPOCHS = 6  # of each choice
CHOICES = {  # what is different from the network `compact` as it is
    "as it is": {},
    "no augmentation": {"augmentation": "none"},
    "strong augmentation": {"augmentation": "strong"},
    "mixed posters": {"augmentation": "mixed"},
    "weighted loss": {"loss": "weighted"},
    "focal loss": {"loss": "focal"},
    "asymmetric loss": {"loss": "asymmetric"},
    "bfloat16": {"precision": "bfloat16"},
}


def save(table, name):
    "Write a table of figures."
    FOLDER.mkdir(exist_ok=True)
    table.to_csv(FOLDER / f"{name}.csv", index=False, lineterminator="\n", float_format="%.5g")
    print(table.to_string())


def networks(runs):
    "One row a run: what it cost and every score; the history of each; the genres of each."
    rows, histories, genres = [], [], []
    for run in map(Path, runs):
        step, scores = read_run(run)["steps"]["cnn"], read_json(run / "evaluation" / "scores.json")
        answers = {step["network"]: scores["test"]} | {name.replace("_", " "): card for name, card in scores["references"].items()}
        for name, card in answers.items():
            cost = {key: step[key] for key in ("weights", "multiply_adds", "epochs", "kept_epoch", "cpu_seconds")} if name == step["network"] else {}
            lines = {f"{score} {key}": line[key] for score, line in card.items() if isinstance(line, dict) for key in ("value", "low", "high", "floor")}
            rows.append({"answer": name, "movies": card["movies"]} | cost | lines)
        before = scores["calibration"]["before"]["expected_calibration_error"]["value"]
        rows[-len(answers)]["calibration error before"] = before
        histories.append(pd.read_csv(run / "model" / "history.csv").assign(network=step["network"]))
        genres += [{"network": step["network"], "genre": name} | line for name, line in scores["genres"].items()]
    save(pd.DataFrame(rows).drop_duplicates("answer"), "networks")
    save(pd.concat(histories), "history")
    save(pd.DataFrame(genres), "genres")


def choices(run):
    "One row a choice: how much it changes the scores on validation, with paired bootstrap intervals, and its cost."
    run, known = Path(run), FOLDER / "choices.json"
    rows, said, dataset = read_json(known) if known.exists() else {}, {}, read_dataset(run)
    validation = dataset.rows("validation")
    truth, draws = dataset.genres[validation], bootstrap_weights(len(validation), 1000)
    for name, chosen in CHOICES.items():
        beside = run.with_name(f"{run.name}-{name.replace(' ', '-')}")
        beside.mkdir(exist_ok=True)
        if not (beside / "dataset").exists():
            (beside / "dataset").symlink_to(run / "dataset")
            write_json(beside / "run.json", {"steps": {}})
        counts = train(beside, epochs=EPOCHS, **chosen)
        model = keras.models.load_model(beside / "model" / "model.keras", compile=False)
        said[name] = predict_rows(model, dataset.images, validation)
        row = {"cpu_seconds": counts["cpu_seconds"], "log_loss": float(log_loss(truth, said[name]))}
        row["mean_average_precision"] = float(mean_average_precision(truth, said[name]))
        change = mean_average_precision(truth, said[name], draws) - mean_average_precision(truth, said["as it is"], draws)
        row |= dict(zip(("low", "high"), np.quantile(change, [0.025, 0.975]).tolist()))
        rows[name] = row | {"change": row["mean_average_precision"] - rows.get("as it is", row)["mean_average_precision"], "epochs": EPOCHS}
        write_json(known, rows)
        print(name, json.dumps(rows[name]), flush=True)
    save(pd.DataFrame.from_dict(rows, orient="index").rename_axis("choice").reset_index(), "choices")
    known.unlink()


def fastest(function, count, times=3):
    "Items a second of the median of some calls."
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return count / float(np.median(seconds))


def speed(run, archive):
    "Posters a second: the network alone at several batch sizes, and from files."
    path = Path(run, "evaluation", "predictor.keras")
    predictor, files = load_predictor(path), sorted(Path(archive, "posters").glob("*.jpg"))[:256]
    images, rows = read_dataset(run).images[:256], []
    for batch in (1, 8, 32):
        ask = lambda batch=batch: predict_rows(predictor, images, np.arange(256), batch)
        ask()
        rows.append({"what": "network alone", "batch": batch, "posters a second": fastest(ask, 256)})
    rows.append({"what": "from files", "batch": 32, "posters a second": fastest(lambda: list(predict(files, predictor)), len(files))})
    small = shrink(predictor, Path(run, "evaluation", "small.keras"))
    rows.append({"what": "file, MB as saved", "posters a second": np.nan, "megabytes": path.stat().st_size / 1e6})
    rows.append({"what": "file, MB in float16, packed", "posters a second": np.nan, "megabytes": small.stat().st_size / 1e6})
    save(pd.DataFrame(rows), "speed")


if __name__ == "__main__":
    {"networks": networks, "choices": lambda runs: choices(*runs), "speed": lambda words: speed(*words)}[sys.argv[1]](sys.argv[2:])
