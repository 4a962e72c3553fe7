"""Make a trained run of weights from the accelerator: `python convert.py RUN pretrained|compact WEIGHTS.npz HISTORY.json NAME [SEED]`.

RUN has a dataset (steps 1 to 4); NAME is that of the training in the history. RUN gets model/model.keras and model/history.csv,
so that step 6 and `benchmarks/ship.py` work on it.
"""
import json
import math
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import pandas as pd

from poster_genres import networks
from poster_genres.cnn import WATCHED, _save_training
from poster_genres.lib.backbones import backbone, relative_depths
from poster_genres.lib.runs import step
from poster_genres.networks import RECIPES
from poster_genres.preprocessing import Dataset, read_dataset

INTERMEDIATE = tuple(f"block{number}_depthwise" for number in (8, 9, 10, 11))  # layers whose features the network uses
GENRES = 18


def kernel(weight, depthwise=False):
    "The kernel in the order of its axes that Keras uses."
    return weight.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def pretrained(state, shape, intermediate=INTERMEDIATE):
    "The Keras network with these weights; `intermediate` names the layers whose features are used."
    depths = relative_depths(backbone("efficientnet-lite0", shape))
    wanted = tuple(depths[f"{name}_relu"] + 1e-6 for name in intermediate)
    network = networks.pretrained(shape, np.zeros(GENRES), intermediate=wanted)
    for layer in network.layers:
        if layer.name in ("stem", "top"):
            name = f"backbone.{layer.name}"
        elif layer.name.startswith("block") and layer.weights:
            block, part = layer.name.removeprefix("block").split("_")
            name = f"backbone.blocks.{block}.{part}"
        else:
            continue
        layer.set_weights([kernel(state[f"{name}.weight"], layer.name.endswith("depthwise")), state[f"{name}.bias"]])
    network.get_layer("scaled").set_weights([state["mean"], state["variance"]])
    network.get_layer("genres").set_weights([state["genres.weight"][:GENRES].T, state["genres.bias"][:GENRES]])
    return network


def in_order(network, kind, name):
    "The network's layers of a kind in the order in which they were made, which their default names count."
    return sorted((layer for layer in network.layers if isinstance(layer, kind)), key=lambda layer: int(layer.name.removeprefix(name).strip("_") or 0))


def compact(state, shape):
    "The Keras network with these weights; both frameworks list the layers in the order in which they are made."
    network = networks.compact(shape, np.full(GENRES, 0.1))
    convolutions = [name.removesuffix(".weight") for name in state if name.endswith(".weight") and state[name].ndim == 4]
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean") and name != "lower.running_mean"] + ["lower"]
    for name, layer in zip(convolutions, in_order(network, keras.layers.Conv2D, "conv2d"), strict=True):
        layer.set_weights([kernel(state[f"{name}.weight"])] + ([state[f"{name}.bias"]] if layer.use_bias else []))
    for name, layer in zip(norms, in_order(network, keras.layers.BatchNormalization, "batch_normalization"), strict=True):
        layer.set_weights([state[f"{name}.{what}"] for what in ("weight", "bias", "running_mean", "running_var")])
    network.get_layer("genres").set_weights([state["genres.weight"][:GENRES].T, state["genres.bias"][:GENRES]])
    return network


def read_weights(path):
    "The floating-point arrays of the file as float32, by their names."
    with np.load(path) as arrays:
        return {name: array.astype("float32") for name, array in arrays.items() if array.dtype.kind == "f"}


def read_history(path, name, dataset: Dataset):
    "The history of one training, as the package writes it; processor time is unknown."
    lines = pd.DataFrame([line for line in json.loads(Path(path).read_text()) if line["name"] == name])
    rows = dataset.rows("validation")
    baseline = np.tile(dataset.prior(), (len(rows), 1))
    floors = {f"{name}_floor": float(score(dataset.genres[rows], baseline, dataset.repeats(rows))) for name, score in WATCHED.items()}
    columns = ["round", "epoch", "loss", *WATCHED, *floors, "seconds", "cpu_seconds"]
    return lines.assign(round=1, cpu_seconds=math.nan, **floors)[columns]


@step("cnn")
def take_over(run_dir, network="pretrained", weights="", history="", name="", seed=0, backbone="efficientnet-lite0"):
    "Write `model/` from weights that were trained elsewhere; return counts."
    dataset = read_dataset(run_dir)
    model = {"pretrained": pretrained, "compact": compact}[network](read_weights(weights), dataset.images.shape[1:])
    lines = read_history(history, name, dataset)
    counts = _save_training(Path(run_dir, "model"), model, lines.to_dict("records"), RECIPES[network])
    return {"in": len(dataset.rows("train")), "network": network} | counts | {"kept_epoch": counts["epochs"], "cpu_seconds": None,
                                                                               "accelerator_seconds": float(lines.iloc[-1].seconds)}


if __name__ == "__main__":
    run, network, weights, history, name, *seed = sys.argv[1:]
    print(take_over(run, network=network, weights=weights, history=history, name=name, seed=int(seed[0]) if seed else 0))
