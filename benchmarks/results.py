"""The figures of nbs/09_results.ipynb, as tables in nbs/results/.

    python benchmarks/results.py networks RUN RUN ...   scores, cost and history of evaluated runs
    python benchmarks/results.py choices RUN            one choice at a time, on the run's dataset, judged on validation
    python benchmarks/results.py speed RUN ARCHIVE      size, quality and speed of the run's predictor by runtime, rounding and poster size

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
from poster_genres.prediction import keras_predictor, lite_predictor, predict, save_lite
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
    table.convert_dtypes().to_csv(FOLDER / f"{name}.csv", index=False, lineterminator="\n", float_format="%.5g")  # whole numbers stay whole
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


def of_size(predictor, height, width):
    "The predictor with the same weights, for posters of another size; its layers must not mind."
    other = keras.models.clone_model(predictor, input_tensors=[keras.Input((height, width, 3))])
    other.set_weights(predictor.get_weights())
    return other


def speed(run, archive):
    "One row for each way to ask the run's network: megabytes, mean average precision on validation, and posters a second from files."
    path, posters, rows = Path(run, "evaluation", "predictor.keras"), Path(archive, "posters"), []
    whole, dataset, file = load_predictor(path), read_dataset(run), Path(run, "evaluation", "tried.tflite")
    validation = dataset.rows("validation")
    files = [posters / f"{imdb_id}.jpg" for imdb_id in dataset.index.imdb_id[validation]]
    truth, (height, width) = dataset.genres[validation], whole.input_shape[1:3]
    ways = [("Keras", "float32", 1)] + [("LiteRT", weights, size) for weights, size in (
        ("float32", 1), ("float16", 1), ("int8", 1), ("float16", 0.8), ("float16", 0.6))]
    for runtime, weights, size in ways:
        network = of_size(whole, round(height * size), round(width * size)) if size != 1 else whole
        one = keras_predictor(path) if runtime == "Keras" else lite_predictor(save_lite(network, file, weights))
        said = [{genre["name"]: genre["probability"] for genre in answer["genres"]} for answer in predict(files, one)]
        said = pd.DataFrame(said)[dataset.names].to_numpy()
        rows.append({"runtime": runtime, "weights": weights, "height": one.size[0], "width": one.size[1],
                     "megabytes": (path if runtime == "Keras" else file).stat().st_size / 1e6,
                     "mean_average_precision": float(mean_average_precision(truth, said)),
                     "posters_a_second": fastest(lambda one=one: list(predict(files[:256], one)), 256)})
        print(rows[-1], flush=True)
    file.unlink()
    save(pd.DataFrame(rows), "speed")


if __name__ == "__main__":
    {"networks": networks, "choices": lambda runs: choices(*runs), "speed": lambda words: speed(*words)}[sys.argv[1]](sys.argv[2:])
