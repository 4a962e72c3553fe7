"""The run's predictor with int8 weights and activations, for LiteRT: `python quantise.py RUN OUT.tflite [POSTERS]`, after the run's evaluation.

The convolutions compute in int8 (weights by channel; ranges of activations from POSTERS training posters, 200 unless told otherwise);
means, spreads and the last layer stay in float, because a mean that is rounded to a 255th of its activations' range says little.
The correction of the probabilities is multiplied into the last layer. Prints validation scores beside the float16 file's, and the
processor time of a poster.
"""
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from poster_genres.calibration import load_predictor
from poster_genres.cnn import read_dataset
from poster_genres.prediction import lite_predictor, save_lite
from poster_genres.scores import hits_at_k, log_loss, mean_average_precision

IN_FLOAT = ["MEAN", "SUB", "RELU", "RESHAPE", "CONCATENATION", "FULLY_CONNECTED", "LOGISTIC"]


def corrected(predictor):
    "The network and its `Verdict`, after the correction was multiplied into the last layer."
    verdict, network = predictor.layers[-1], keras.Model(predictor.input, predictor.get_layer("genres").output)
    kernel, bias = network.get_layer("genres").get_weights()
    network.get_layer("genres").set_weights([kernel * np.array(verdict.slopes), bias * np.array(verdict.slopes) + np.array(verdict.shifts)])
    return network, verdict


def save_int8(network, verdict, path, posters):
    "`path`, after the network was written there; `posters` (uint8) tell the ranges of its activations."
    wanted = tf.TensorSpec((1, *network.input_shape[1:]), tf.uint8)
    graph = convert_variables_to_constants_v2(tf.function(lambda poster: network(poster, training=False)).get_concrete_function(wanted))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
    converter.optimizations, converter._experimental_new_quantizer = [tf.lite.Optimize.DEFAULT], True  # the old one knows no exceptions
    converter.representative_dataset = sample = lambda: ([poster[None]] for poster in posters)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=IN_FLOAT)
    debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=sample, debug_options=options)
    Path(path).write_bytes(debugger.get_nondebug_quantized_model())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo("genres.json"), json.dumps({"genres": verdict.genres, "thresholds": verdict.thresholds, "fit": verdict.fit}))
    return Path(path)


def main(run, out, posters=200):
    "Write the file and tell how it fares."
    dataset, predictor = read_dataset(run), load_predictor(Path(run, "evaluation", "predictor.keras"))
    validation, train = dataset.rows("validation"), np.random.default_rng(0).permutation(dataset.rows("train"))[:int(posters)]
    truth, asked = dataset.genres[validation], np.asarray(dataset.images[validation])
    with tempfile.TemporaryDirectory() as folder:
        files = {"float16": save_lite(predictor, Path(folder, "float16.tflite")), "int8": save_int8(*corrected(predictor), out, dataset.images[train])}
        for name, path in files.items():
            one = lite_predictor(path)
            begun, said = time.process_time(), one.ask(asked)
            print(f"{name}: {path.stat().st_size / 1e6:.2f} MB, {(time.process_time() - begun) / len(asked) * 1000:.2f} ms of processor time a poster, validation:"
                  f" mean average precision {float(mean_average_precision(truth, said)):.4f}, hits@3 {float(hits_at_k(truth, said)):.4f},"
                  f" log-loss {float(log_loss(truth, said)):.4f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
