"""Weights from the accelerator become a trained run: `python convert.py RUN pretrained|compact WEIGHTS.npz HISTORY.json NAME [SEED]`.

RUN has a dataset (steps 1 to 4); NAME is that of the training in the history. Afterwards RUN also has model/model.keras and model/history.csv,
so that step 6 and `benchmarks/ship.py` work on it.
"""
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import pandas as pd

from poster_genres import cnn
from poster_genres.backbones import backbone, block_of
from poster_genres.cnn import multiply_adds, read_dataset, validation_floors
from poster_genres.core import step

LEVELS = tuple(f"block{number}_depthwise" for number in (8, 9, 10, 11))  # whose features the network uses
GENRES = 18


def kernel(weight, depthwise=False):
    "A kernel in Keras's order."
    return weight.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def pretrained(state, shape, levels=LEVELS):
    "The Keras network with these weights; `levels`: the activations, by their names, whose features are used."
    heights = block_of(backbone("efficientnet-lite0", shape))
    asked = tuple(heights[f"{level}_relu"] + 1e-6 for level in levels)
    network = cnn.pretrained(shape, np.zeros(GENRES), levels=asked)
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


def compact(state, shape):
    "The Keras network with these weights; both name their layers in the order in which they are made."
    network = cnn.compact(shape, np.full(GENRES, 0.1))
    made = lambda kind, name: sorted((layer for layer in network.layers if isinstance(layer, kind)), key=lambda layer: int(layer.name.removeprefix(name).strip("_") or 0))
    convolutions, normalisations = made(keras.layers.Conv2D, "conv2d"), made(keras.layers.BatchNormalization, "batch_normalization")
    ours = [name.removesuffix(".weight") for name in state if name.endswith(".weight") and state[name].ndim == 4]
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean") and name != "lower.running_mean"] + ["lower"]
    for name, layer in zip(ours, convolutions, strict=True):
        layer.set_weights([kernel(state[f"{name}.weight"])] + ([state[f"{name}.bias"]] if layer.use_bias else []))
    for name, layer in zip(norms, normalisations, strict=True):
        layer.set_weights([state[f"{name}.{what}"] for what in ("weight", "bias", "running_mean", "running_var")])
    network.get_layer("genres").set_weights([state["genres.weight"][:GENRES].T, state["genres.bias"][:GENRES]])
    return network


def read_weights(path):
    "The arrays of the file as float32."
    with np.load(path) as arrays:
        return {name: array.astype("float32") for name, array in arrays.items() if array.dtype.kind == "f"}


@step("cnn")
def take_over(run_dir, network="pretrained", weights="", history="", name="", seed=0, backbone="efficientnet-lite0"):
    "Counts, after `model/` was written from weights that were trained elsewhere. Their history has no processor time."
    dataset, folder = read_dataset(run_dir), Path(run_dir, "model")
    build = {"pretrained": pretrained, "compact": compact}[network]
    model = build(read_weights(weights), dataset.images.shape[1:])
    lines = pd.DataFrame([line for line in json.loads(Path(history).read_text()) if line["name"] == name])
    floors = {f"{score}_floor": value for score, value in validation_floors(dataset).items()}
    lines = lines.assign(generation=1, cpu_seconds=None, **floors)[["generation", "epoch", "loss", "log_loss", "mean_average_precision", "hits_at_3", *floors, "seconds", "cpu_seconds"]]
    cnn.save_training(folder, model, lines.to_dict("records"))
    return {"in": len(dataset.rows("train")), "network": network, "out": 1, "generations": 1, "epochs": float(lines.epoch.iloc[-1]), "kept_epoch": float(lines.epoch.iloc[-1]),
            "weights": model.count_params(), "multiply_adds": multiply_adds(model), "cpu_seconds": None, "accelerator_seconds": float(lines.seconds.iloc[-1])}


if __name__ == "__main__":
    run, network, weights, history, name, *seed = sys.argv[1:]
    print(take_over(run, network=network, weights=weights, history=history, name=name, seed=int(seed[0]) if seed else 0))
