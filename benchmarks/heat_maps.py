"""How well heat maps agree with occlusion: `python benchmarks/heat_maps.py RUN [POSTERS]`.

For the most probable genre of some test posters of the run: the correlation of the exact map, and of Grad-CAM, with the fall of
the logit when a patch of the poster is covered. One row a kind of map: the mean over posters and its 95 % bootstrap interval,
and the difference of both. RUN needs a network with exact maps (`compact` or `pretrained`).
"""
import sys

import numpy as np
import pandas as pd

from poster_genres.evaluation import ask, load_network
from poster_genres.lib.explanations import agreement, exact_maps, grad_cam, occlusion_maps, pooling_layers
from poster_genres.lib.metrics import basic_interval, bootstrap_weights, weighted_mean
from poster_genres.lib.runs import InputError, PosterGenresError, progress
from poster_genres.preprocessing import read_dataset


def correlations(model, images, genres):
    "Posters x 2: the correlation with occlusion of the exact map and of Grad-CAM."
    occluded = occlusion_maps(model, images, genres)
    return np.stack([agreement(maps, occluded) for maps in (exact_maps(model, images, genres)[0], grad_cam(model, images, genres))], 1)


def main(run, posters=200):
    "Print the table."
    dataset = read_dataset(run)
    model = load_network(run, dataset)
    if not pooling_layers(model):
        raise InputError(f"{run}: the network {model.name} has no exact heat maps: expected a run of compact or pretrained")
    test = ask(model, dataset, "test")
    chosen = np.random.default_rng(0).permutation(len(test.rows))[:int(posters)]
    blocks = [chosen[start:start + 16] for start in range(0, len(chosen), 16)]
    found = np.concatenate([correlations(model, dataset.images[test.rows[block]], test.probabilities[block].argmax(1))
                            for block in progress(blocks, "Covering patches", "blocks")])
    found = np.nan_to_num(np.column_stack([found, found[:, 0] - found[:, 1]]))
    drawn, rows = bootstrap_weights(len(found)), {}
    for name, values in zip(("exact", "Grad-CAM", "difference"), found.T):
        low, high = basic_interval(values.mean(), weighted_mean(values, drawn))
        rows[name] = {"correlation": values.mean(), "low": low, "high": high}
    print(f"{model.name}, {len(found)} posters\n{pd.DataFrame(rows).T.round(3)}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except PosterGenresError as error:
        sys.exit(str(error))
