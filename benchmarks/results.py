"""The figures of nbs/08_results.ipynb, as tables in nbs/results/.

    python benchmarks/results.py networks RUN RUN ...   scores, cost and history of evaluated runs (no history of those trained on an accelerator)
    python benchmarks/results.py choices RUN            one choice at a time, on the run's dataset, judged on validation
    python benchmarks/results.py curve RUN              `compact` learns from a part of the run's training posters, always in as many steps
    python benchmarks/results.py probe RUN              the same for a linear probe of the backbone, as it comes, of a run of `pretrained`
    python benchmarks/results.py thresholds RUN         ways to choose them, judged on training posters of a run of `pretrained`
    python benchmarks/results.py pace RUN RUN ...       posters a second that the networks of the runs learn from, measured in turns
    python benchmarks/results.py ways RUN               picture, words, poster, and poster and title of an evaluated run with words
    python benchmarks/results.py groups RUN CATALOGUE   scores by decade, by whether the title is a translation and by number of genres, with training posters
    python benchmarks/results.py speed RUN ARCHIVE      size, quality and speed of the run's predictor by runtime, rounding and poster size

`networks`, `choices` and `curve` leave what the tables say of other networks and choices as it is. Of several runs of one network (other seeds)
the first is the one that is reported; all of them get a table of their own. `choices` and `curve` make their runs beside
RUN and go on where they were stopped.
"""
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.special import expit
from tqdm import tqdm

from poster_genres.cnn import Batches, build_network, checked_recipe, frozen_features, standardize, train
from poster_genres.lib.calibration import choose_platt, load_predictor, logistic_regression
from poster_genres.networks import predict_rows
from poster_genres.preprocessing import read_dataset
from poster_genres.lib.explanations import by_group
from poster_genres.lib.runs import is_intact, notebooks_folder, read_json, read_run, write_json, write_table
from poster_genres.prediction import keras_predictor, lite_predictor, predict, save_lite
from poster_genres.lib.metrics import (Part, basic_interval, best_possible, bootstrap_weights, choose_thresholds, f1, hits_at_k, interval, log_loss,
                                       mean_average_precision)
from poster_genres.scraping import draw

FOLDER = notebooks_folder() / "results"
EPOCHS = 6  # of each choice
FEWER, PASSES = (1705, 3467, 6750), 3  # training posters of the curve beside all; passes through all, which say how many steps each has
CHOICES = {  # what is different from the network `compact` as it is
    "as it is": {},
    "no augmentation": {"augmentation": "none"},
    "mixup": {"augmentation": "mixup"},
    "self-distillation": {"distillation_rounds": 2},
}


def others(name, column, new):
    "The rows of a table of figures that are about something else than `new`, the values of its column."
    path = FOLDER / f"{name}.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=[column])
    return table[~table[column].isin(new)]


def save(table, name):
    "Write a table of figures."
    FOLDER.mkdir(exist_ok=True)
    table.convert_dtypes().to_csv(FOLDER / f"{name}.csv", index=False, lineterminator="\n", float_format="%.6g")  # whole numbers stay whole
    print(table.to_string())


COSTS = ("weights", "multiply_adds", "distillation_rounds", "epochs", "kept_epoch", "cpu_seconds", "accelerator_seconds")


def network_rows(step, scores):
    "The run's network and its references: what the network cost, and every score."
    network, rows = step["network"], []
    for name, card in {network: scores["test"], **{name.replace("_", " "): card for name, card in scores["references"].items()}}.items():
        lines = {f"{score} {key}": line[key] for score, line in card.items() if isinstance(line, dict) for key in ("value", "low", "high", "floor")}
        own = {key: step.get(key) for key in COSTS} if name == network else {}
        own |= {"calibration error before": scores["calibration"]["before"]["expected_calibration_error"]["value"]} if name == network else {}
        rows.append({"answer": name, "movies": card["movies"]} | own | lines)
    return rows


def networks(runs):
    "One row a run: what it cost and every score; the history of each that was trained here; the genres of each; the seeds of each network."
    rows, histories, genres, seeds = [], [], [], []
    for run in map(Path, runs):
        if not is_intact(run, "evaluation"):
            sys.exit(f"{run} has no evaluation of the network that it has now: run it to the end first")
        step, scores = read_run(run)["steps"]["cnn"], read_json(run / "evaluation" / "scores.json")
        step = {"distillation_rounds": step.get("generations")} | step  # as older records call it
        network, of_network = step["network"], {"network": step["network"]}
        values = {name: line["value"] for name, line in scores["test"].items() if isinstance(line, dict)}
        seeds.append(of_network | {"seed": step["made_from"]["parameters"]["seed"]} | values)
        if network in {row["answer"] for row in rows}:
            continue
        rows += network_rows(step, scores)
        genres += [of_network | {"genre": name} | line for name, line in scores["genres"].items()]
        if "accelerator_seconds" not in step:
            histories.append(pd.read_csv(run / "model" / "history.csv").assign(**of_network))
    rows, known = pd.DataFrame(rows).drop_duplicates("answer"), {row["network"] for row in seeds}
    save(pd.concat([rows, others("networks", "answer", rows.answer)]), "networks")
    save(pd.concat([pd.DataFrame(genres), others("genres", "network", known)]), "genres")
    if histories:
        save(pd.concat([*histories, others("history", "network", [table.network.iloc[0] for table in histories])]), "history")
    if len(seeds) > len(known):
        save(pd.concat([pd.DataFrame(seeds), others("seeds", "network", known)]), "seeds")


def ways(run):
    "One row a set of inputs, and one row a difference between two of them: each score with its interval."
    scores = read_json(Path(run, "evaluation", "scores.json"))
    flat = lambda lines: {f"{name} {key}": line[key] for name, line in lines.items() if isinstance(line, dict) for key in ("value", "low", "high", "floor") if key in line}
    save(pd.DataFrame([{"way": way, "movies": card["movies"]} | flat(card) for way, card in scores["ways"].items()]), "ways")
    gains = [{"way": way, "against": gain["against"]} for way, gain in scores["gains"].items()]
    save(pd.DataFrame([row | flat(gain["scores"]) for row, gain in zip(gains, scores["gains"].values())]), "gains")
    save(pd.DataFrame([row | {"genre": name} | line for row, gain in zip(gains, scores["gains"].values()) for name, line in gain["genres"].items() if line]),
         "genre_gains")


def groups(run, catalogue):
    "One row a group of test movies: its scores beside its own constant baseline, and how many training posters are of this group."
    dataset, answered = read_dataset(run), pd.read_parquet(Path(run, "evaluation", "predictions.parquet")).query("part == 'test'")
    rows, train = dataset.rows("test"), dataset.rows("train")
    assert list(answered.imdb_id) == list(dataset.index.imdb_id.iloc[rows])
    test = Part(rows, dataset.genres[rows], np.array(answered.probabilities.tolist()), np.ones(len(rows)))
    table = pd.read_csv(catalogue, usecols=["imdb_id", "title", "original_title"], dtype=str).drop_duplicates("imdb_id").set_index("imdb_id")
    table = table.reindex(dataset.index.imdb_id)
    titles = np.where(table.title == table.original_title, "in the original language", np.where(table.title.isna(), None, "translated"))
    decades, count = (dataset.index.year // 10 * 10).astype("string") + "s", dataset.genres.sum(1)
    of = {"decade": decades.to_numpy(object, na_value=None), "title": titles, "number of genres": np.where(count < 4, count.astype(str), "4 and more"),
          "all": np.full(len(titles), "all")}
    found = [by_group(groups[rows], test, dataset.prior()).rename_axis("group").reset_index().assign(
        grouping=name, training_posters=lambda table, groups=groups: [(groups[train] == group).sum() for group in table.group]) for name, groups in of.items()]
    save(pd.concat(found), "groups")


def beside(run, name):
    "A run folder beside `run` that has links to its dataset and nothing else; the same one when it is asked for again."
    other = run.with_name(f"{run.name}-{name}")
    (other / "dataset").mkdir(parents=True, exist_ok=True)
    for file in (run / "dataset").iterdir():
        if not (other / "dataset" / file.name).exists():
            (other / "dataset" / file.name).symlink_to(file.resolve())
    if not (other / "run.json").exists():
        write_json(other / "run.json", {"steps": {}})
    return other


def answers(run, dataset):
    "What the network of the run says of the validation posters."
    return predict_rows(keras.models.load_model(run / "model" / "model.keras", compile=False), dataset.images, dataset.rows("validation"))


def choices(run):
    "One row a choice: how much it changes the scores on validation, with paired bootstrap intervals, and its cost."
    run, known = Path(run), FOLDER / "choices.json"
    rows, said, dataset = read_json(known) if known.exists() else {}, {}, read_dataset(run)
    validation = dataset.rows("validation")
    truth, draws = dataset.genres[validation], bootstrap_weights(len(validation), 1000)
    for name, chosen in CHOICES.items():
        other = beside(run, name.replace(" ", "-"))
        counts = train(other, epochs=EPOCHS, **chosen)
        said[name] = answers(other, dataset)
        row = {"cpu_seconds": counts["cpu_seconds"], "log_loss": float(log_loss(truth, said[name]))}
        row["mean_average_precision"] = float(mean_average_precision(truth, said[name]))
        change = mean_average_precision(truth, said[name], draws) - mean_average_precision(truth, said["as it is"], draws)
        row["change"] = row["mean_average_precision"] - rows.get("as it is", row)["mean_average_precision"]
        row |= dict(zip(("low", "high"), basic_interval(row["change"], change)))
        rows[name] = row | {"epochs": EPOCHS * counts["distillation_rounds"]}
        write_json(known, rows)
        print(name, json.dumps(rows[name]), flush=True)
    rows = pd.DataFrame.from_dict(rows, orient="index").rename_axis("choice").reset_index()
    save(pd.concat([rows, others("choices", "choice", rows.choice)]), "choices")  # choices that are no longer in the code keep their rows
    known.unlink()


def first_posters(dataset):
    "Rows of the training posters, in the order of a hash of their movies' ids: the first so many are the same ones in every comparison."
    rows = dataset.rows("train")
    return rows[np.argsort([draw(imdb_id, "share") for imdb_id in dataset.index.imdb_id.iloc[rows]])]


def with_posters(run, posters):
    "A run folder beside `run` that trains on the first `posters` of `first_posters`."
    dataset, other = read_dataset(run), beside(run, str(posters))
    index = dataset.index.copy()
    index.loc[index.index[first_posters(dataset)[posters:]], "part"] = "unseen"
    write_table(index, other / "dataset" / "index.parquet")  # in the place of the link
    return other


def curve_scores(truth, y_prob, draws):
    "Three scores with their intervals."
    row = {}
    for name, score in (("hits_at_3", hits_at_k), ("mean_average_precision", mean_average_precision), ("log_loss", log_loss)):
        value = float(score(truth, y_prob))
        row |= dict(zip((name, f"{name} low", f"{name} high"), (value, *interval(value, score(truth, y_prob, draws), best_possible(name, truth)))))
    return row


def curve(run):
    "One row a number of training posters: the scores of `compact` on validation after as many steps as `PASSES` passes through all of them."
    run, dataset = Path(run), read_dataset(run)
    truth, every = dataset.genres[dataset.rows("validation")], len(dataset.rows("train"))
    draws, rows = bootstrap_weights(len(truth), 1000), others("curve", "network", ["compact"]).to_dict("records")
    for posters in (*FEWER, every):
        train(other := with_posters(run, posters), epochs=round(PASSES * every / posters), distillation_rounds=1, patience=0)
        rows.append({"network": "compact", "posters": posters} | curve_scores(truth, answers(other, dataset), draws))
        print(json.dumps(rows[-1]), flush=True)
    save(pd.DataFrame(rows), "curve")


def probe(run):
    "One row a number of training posters: the scores on validation of logistic regressions on the features of the backbone as it comes."
    run, dataset = Path(run), read_dataset(run)
    model = build_network(dataset, checked_recipe("pretrained"))
    found = frozen_features(model, dataset, run / "probe.npz", "as it comes")
    train, truth = dataset.rows("train"), dataset.genres[dataset.rows("validation")]
    draws, order = bootstrap_weights(len(truth), 1000), np.searchsorted(train, first_posters(dataset))
    rows = others("curve", "network", ["linear probe"]).to_dict("records")
    for posters in (*FEWER, len(train)):
        known = found["plain"][order[:posters]].astype("float32")
        mean, deviation = standardize(known)
        kernel, bias = logistic_regression(known, dataset.genres[train[order[:posters]]], np.ones(len(known)), 0.3)
        y_prob = expit((found["validation"].astype("float32") - mean) / deviation @ kernel + bias)
        rows.append({"network": "linear probe", "posters": posters} | curve_scores(truth, y_prob, draws))
        print(json.dumps(rows[-1]), flush=True)
    save(pd.DataFrame(rows), "curve")


def unseen_answers(run, folds=4):
    "The run's training posters with what logistic regressions on its frozen features say of those that they have not seen."
    dataset = read_dataset(run)
    rows = dataset.rows("train")
    with np.load(run / "model" / "features.npz") as saved:
        features = saved["plain"].astype("float32")
    truth, said, fold = dataset.genres[rows], np.empty((len(rows), len(dataset.names))), np.arange(len(rows)) % folds
    for number in range(folds):
        known = features[fold != number]
        mean, deviation = standardize(known)
        kernel, bias = logistic_regression(known, truth[fold != number], np.ones(len(known)), 0.3)
        said[fold == number] = expit((features[fold == number] - mean) / deviation @ kernel + bias)
    return Part(rows, truth, said, np.ones(len(rows)))


def thresholds(run, draws=40, movies=894):
    "One row a way to choose thresholds on as many movies as validation has: the macro F1 on all others, over random draws of these movies."
    part, found = unseen_answers(Path(run)), []
    some = lambda places: Part(*(values[places] for values in part))
    for seed in tqdm(range(draws)):
        order = np.random.default_rng(seed).permutation(len(part.rows))
        validation, test = some(order[:movies]), some(order[movies:])
        scaling, _ = choose_platt(validation.truth, validation.probabilities, validation.weights)
        validation, test = (part._replace(probabilities=scaling(part.probabilities)) for part in (validation, test))
        ways = {"labels": choose_thresholds(*validation[1:]), "expected F1": choose_thresholds(*validation[1:], expected=True),
                "labels of the scored posters (upper bound)": choose_thresholds(*test[1:])}
        found.append({way: float(f1(test.truth, test.probabilities >= chosen.genres)) for way, chosen in ways.items()})
    found = pd.DataFrame(found)
    change = found.sub(found["labels"], axis=0)
    rows = {"macro_f1": found.mean(), "spread": found.std(), "change": change.mean(), "low": change.quantile(0.025), "high": change.quantile(0.975)}
    save(pd.DataFrame(rows).rename_axis("thresholds").reset_index(), "thresholds")


def learner(run, posters=640):
    "The run's network, randomly initialized, and batches of some of the run's posters as its recipe shows them."
    parameters, dataset = read_run(run)["steps"]["cnn"]["made_from"]["parameters"], read_dataset(run)
    recipe = checked_recipe(parameters["network"], augmentation=parameters["augmentation"])
    batches = Batches(dataset, dataset.genres, recipe.batch_size, 0, recipe.augmentation)
    batches.order = batches.order[:posters]
    return build_network(dataset, recipe), batches


def pace(runs):
    "One row a run: how many posters a second its network learns from, the median of five turns."
    learners, seconds = [learner(Path(run)) for run in runs], [[] for _ in runs]
    for turn in range(6):
        for (model, batches), times in zip(learners, seconds):
            start = time.perf_counter()
            model.fit(batches, verbose=0, shuffle=False)
            if turn:  # the first one also builds the graph
                times.append(time.perf_counter() - start)
    save(pd.DataFrame([{"network": model.name, "height": model.input_shape[1], "width": model.input_shape[2],
                        "posters_a_second": len(batches.order) / float(np.median(times))}
                       for (model, batches), times in zip(learners, seconds)]), "pace")


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
    "One row for each form of the run's network: megabytes, mean average precision on validation, and posters a second from files."
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
    {"networks": networks, "choices": lambda runs: choices(*runs), "curve": lambda runs: curve(*runs), "probe": lambda runs: probe(*runs),
     "thresholds": lambda runs: thresholds(*runs), "ways": lambda runs: ways(*runs), "groups": lambda words: groups(*words),
     "pace": pace, "speed": lambda words: speed(*words)}[sys.argv[1]](sys.argv[2:])
