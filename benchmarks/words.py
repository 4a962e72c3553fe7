"""Picture, words, poster, and poster and title beside each other, on the test part of a run whose posters were read.

    python benchmarks/words.py RUN [--predictor FILE] [--all-titles]

RUN is a run's folder after steps 1 to 4 and 4a (movies.parquet, sample.parquet, dataset/, words.parquet). The text model is fitted to
titles and to the lines on training posters; combinations and thresholds come from the validation part. Intervals are of the bootstrap
over test movies; differences are paired. --all-titles learns the titles of movies without a poster whatever part their id falls into.
The last lines tell how much rests on sequels: scores of the test movies whose title shares no word of more than three letters with a
learned title, and of the others; they go into nbs/results/sequels.csv.
"""
import argparse
from pathlib import Path

import pandas as pd

from poster_genres.combination import combined, fit_ways, part_answers, score_ways
from poster_genres.evaluation import constant_floors
from poster_genres.lib.metrics import SCORE_NAMES, Part, mean_average_precision
from poster_genres.lib.runs import notebooks_folder, read_table
from poster_genres.manipulation import part_of
from poster_genres.networks import predict_rows
from poster_genres.lib.calibration import load_predictor
from poster_genres.prediction import lite_predictor
from poster_genres.preprocessing import read_dataset
from poster_genres.words import fit_text_model, shares_no_word, training_documents, training_titles

SHOWN = ("hits_at_3", "mean_average_precision", "macro_f1", "log_loss")


def asked(dataset, path, name):
    "The movies of the part with the predictor's answer."
    rows = dataset.rows(name)
    if Path(path).suffix == ".tflite":
        y_prob = lite_predictor(path).ask(dataset.images[rows])
    else:
        y_prob = predict_rows(load_predictor(path), dataset.images, rows)
    return Part(rows, dataset.genres[rows], y_prob, dataset.repeats(rows))


def main(run, predictor, all_titles):
    "Print a line for each way and score."
    dataset, words = read_dataset(run), read_table(Path(run, "words.parquet"))
    parts = {name: asked(dataset, predictor or Path(run, "evaluation", "predictor.keras"), name) for name in ("validation", "test")}
    sample = read_table(Path(run, "sample.parquet"))
    titles = training_titles(read_table(Path(run, "movies.parquet")), sample, dataset.names, None if all_titles else part_of)
    documents, truth, weights = training_documents(titles, sample, words, dataset.names)
    print(f"{len(titles):,} titles and the lines of {len(documents) - len(titles):,} training posters", flush=True)
    model = fit_text_model(documents, truth, dataset.names, weights)
    answers = {name: part_answers(model, words, dataset, part) for name, part in parts.items()}
    combinations = fit_ways(parts["validation"], answers["validation"])
    floors = constant_floors(dataset, parts["validation"], parts["test"])
    scores = score_ways(dataset.names, parts["validation"], parts["test"], combinations, answers, floors)
    for way, card in scores["ways"].items():
        for name in SHOWN:
            line = card[name]
            print(f"{way:17} {SCORE_NAMES[name]:24} {line['value']:.3f} ({line['low']:.3f} to {line['high']:.3f}), constant baseline {line['floor']:.3f}")
    for way, gain in scores["gains"].items():
        for name in SHOWN:
            line = gain["scores"][name]
            print(f"{way} against {gain['against']}: {SCORE_NAMES[name]} {line['value']:+.4f} ({line['low']:+.4f} to {line['high']:+.4f})")
    test = parts["test"]
    new = shares_no_word(list(dataset.index.title.iloc[test.rows]), list(titles.text))
    print(f"{new.sum()} of {len(new)} test movies share no word with a learned title; mean average precision of these and of the others:")
    table = pd.DataFrame([{"way": way, f"{new.sum()} movies without a known word": float(mean_average_precision(test.truth[new], y_prob[new])),
                           f"{(~new).sum()} other movies": float(mean_average_precision(test.truth[~new], y_prob[~new]))}
                          for way, y_prob in ({"picture": test.probabilities} | combined(combinations, answers["test"])).items()])
    print(table.to_string())
    if not all_titles:
        table.to_csv(notebooks_folder() / "results" / "sequels.csv", index=False, lineterminator="\n", float_format="%.6g")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--predictor", default="")
    parser.add_argument("--all-titles", action="store_true")
    given = parser.parse_args()
    main(given.run, given.predictor, given.all_titles)
