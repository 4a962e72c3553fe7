"""Exact heat maps of the networks themselves: a map and its constant add up to the logit."""
import keras
import numpy as np
import pytest

from poster_genres.networks import compact, original, pretrained
from poster_genres.lib.backbones import INTERMEDIATE_DEPTHS
from poster_genres.lib.explanations import agreement, exact_maps, heat_maps, occlusion_maps, pooling_layers

SHAPE, PRIOR = (64, 48, 3), np.array([0.5, 0.2, 0.05])


def shaken(network):
    "The network with every weight moved a little, so that none is zero, and variances as they may be after training."
    random = np.random.default_rng(0)
    for layer in network.layers:
        values = [weight + random.normal(0, 0.1, weight.shape) * (0.05 + np.abs(weight).mean()) for weight in layer.get_weights()]
        layer.set_weights([np.abs(value) if "variance" in variable.name else value for value, variable in zip(values, layer.weights)])
    return network


@pytest.fixture(scope="module", params=["compact", "pretrained", "pretrained with intermediate features"])
def network(request):
    keras.utils.set_random_seed(0)
    if request.param == "compact":
        return shaken(compact(SHAPE, PRIOR))
    return shaken(pretrained(SHAPE, PRIOR, backbone="tiny", intermediate=INTERMEDIATE_DEPTHS if "intermediate" in request.param else ()))


def test_a_map_and_its_constant_add_up_to_the_logit(network):
    posters = np.random.default_rng(1).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    genres = np.array([0, 1, 2, 0, 1])
    maps, constants = exact_maps(network, posters, genres)
    logit = keras.ops.convert_to_numpy(keras.Model(network.input, network.get_layer("genres").input)(posters, training=False)) \
        @ network.get_layer("genres").kernel.numpy() + network.get_layer("genres").bias.numpy()
    np.testing.assert_allclose(maps.sum((1, 2)) + constants, logit[range(5), genres], atol=1e-3)
    assert np.ptp(constants[[0, 3]]) < 1e-3 and np.ptp(maps) > 0, "the constant is the genre's, whatever the poster"
    heat = heat_maps(network, posters, genres)
    assert heat.shape == maps.shape and heat.min() == 0 and heat.max() == 1


def test_other_networks_get_grad_cam():
    network = original(SHAPE, PRIOR)
    posters = np.random.default_rng(1).integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    heat = heat_maps(network, posters, np.array([0, 1]))
    assert not pooling_layers(network) and heat.shape == (2, 13, 9) and heat.min() >= 0 and heat.max() <= 1
    occluded = occlusion_maps(network, posters, np.array([0, 1]))
    assert occluded.shape == (2, 9, 6) and agreement(heat, occluded).shape == (2,)
