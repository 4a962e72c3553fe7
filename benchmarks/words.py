"""Picture, words, poster, and poster and title beside each other, on the test part of a run whose posters were read.

    python benchmarks/words.py RUN [--predictor FILE] [--strict]

RUN is a run's folder after steps 1 to 3 and 4a (movies.parquet, sample.parquet, words.parquet); movies that are not in
words.parquet are left out. The text model is fitted to titles and to the lines on training posters; combinations and thresholds
come from the validation part. Intervals are of the bootstrap over test movies; differences to the picture are paired.
--strict leaves out titles of movies without a poster whose id falls into the validation or test part.
"""
import argparse
from pathlib import Path

import numpy as np

from poster_genres.lib.genres import multi_hot
from poster_genres.lib.images import pixels
from poster_genres.lib.metrics import (
    bootstrap_weights, choose_thresholds, hits_at_k, log_loss, macro_f1, mean_average_precision, basic_interval)
from poster_genres.lib.runs import read_table
from poster_genres.manipulation import part_of
from poster_genres.prediction import find_predictor
from poster_genres.reading import read_words
from poster_genres.words import answers_of, combine_ways, combined, fit_text_model, line_documents, shares_no_word, training_documents, training_titles


def picture_probabilities(predictor, run, paths):
    "The predictor's probabilities for these posters."
    height, width = predictor.size
    return np.concatenate([predictor.ask(np.stack([pixels(Path(run, path), width, height, predictor.fit) for path in paths[start:start + 32]]))
                           for start in range(0, len(paths), 32)])


def scores_of(truth, said, thresholds, weights):
    "Each score of this answer: its value, and its value in each resample."
    scores = {"hits@3": lambda w: hits_at_k(truth, said, w), "mean AP": lambda w: mean_average_precision(truth, said, w),
              "macro F1": lambda w: macro_f1(truth, said >= thresholds.genres, w), "log-loss": lambda w: log_loss(truth, said, w)}
    return {name: (float(score(None)), score(weights)) for name, score in scores.items()}


def main(run, predictor, strict):
    "Print a line for each way."
    predictor, words = find_predictor(predictor), read_words(run)
    movies, sample = read_table(Path(run, "movies.parquet")), read_table(Path(run, "sample.parquet"))
    titles = training_titles(movies, sample, predictor.genres, part_of if strict else None)
    documents, truth, weights = training_documents(titles, sample, words, predictor.genres)
    model, truths, answers, asked = fit_text_model(documents, truth, predictor.genres, weights), {}, {}, {}
    print(f"{len(titles):,} titles and the lines of {len(documents) - len(titles):,} training posters")
    for part in ("validation", "test"):
        asked[part] = some = sample[(sample.part == part) & sample.imdb_id.isin(words.imdb_id)].drop_duplicates("imdb_id")
        truths[part] = multi_hot(some.genres, predictor.genres)
        seen = picture_probabilities(predictor, run, list(some.path))
        answers[part] = answers_of(model, seen, line_documents(words, some.imdb_id), list(some.title))
    combinations = combine_ways(truths["validation"], answers["validation"])
    validation, test, picture = combined(combinations, answers["validation"]), combined(combinations, answers["test"]), None
    draws = bootstrap_weights(len(truths["test"]), 1000)
    new = shares_no_word(list(asked["test"].title), list(titles.text))
    print(f"{len(truths['validation'])} validation and {len(truths['test'])} test movies, {new.sum()} of these share no word with a learned title")
    for way, said in test.items():
        found = scores_of(truths["test"], said, choose_thresholds(truths["validation"], validation[way]), draws)
        picture = picture or found
        for name, (value, drawn) in found.items():
            low, high = basic_interval(value, drawn)
            by, (least, most) = value - picture[name][0], basic_interval(value - picture[name][0], drawn - picture[name][1])
            print(f"{way:17} {name:9} {value:.3f} ({low:.3f} to {high:.3f})   to picture {by:+.3f} ({least:+.3f} to {most:+.3f})")
        print(f"{way:17} mean AP of movies that share no word {mean_average_precision(truths['test'][new], said[new]):.3f}, "
              f"of the others {mean_average_precision(truths['test'][~new], said[~new]):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--predictor", default="")
    parser.add_argument("--strict", action="store_true")
    given = parser.parse_args()
    main(given.run, given.predictor, given.strict)
