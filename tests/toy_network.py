"""The smallest network of the kind of `compact`, for tests of what is done with a network and not of how good it is: a second instead of ten to trace."""
import time

from keras import Input, Model, layers

from poster_genres import cnn
from poster_genres.networks import RECIPES, _convolution


def toy_network(shape, prior, scaling="bytes"):
    "A convolution with batch normalization, means and maxima over places, dropout, a layer for the genres."
    poster = Input(shape)
    tensor = layers.ReLU()(_convolution(layers.Rescaling(1 / 127.5, -1)(poster), 8, 4, 4))
    pooled = layers.Concatenate()([layers.GlobalAveragePooling2D()(tensor), layers.GlobalMaxPooling2D()(tensor)])
    return Model(poster, layers.Dense(len(prior), activation="sigmoid", name="genres")(layers.Dropout(0.1)(pooled)), name="compact")


def train_toy(run_dir, seconds=0.0, **parameters):
    "Train it in the place of `compact`, each batch so many `seconds` late, for who wants to end the training in its middle."
    recipe, batch = RECIPES["compact"], cnn.Batches.__getitem__
    RECIPES["compact"] = recipe._replace(build=toy_network)
    cnn.Batches.__getitem__ = lambda self, number: (time.sleep(seconds), batch(self, number))[1]
    try:
        return cnn.train(run_dir, **parameters)
    finally:
        RECIPES["compact"], cnn.Batches.__getitem__ = recipe, batch
