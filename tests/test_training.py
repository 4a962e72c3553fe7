"""Training that no notebook cell can test: killed in the middle, and posters from which nothing can be learned."""
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from toy_network import train_toy

from poster_genres.lib.backbones import LITE, backbone, lite_weights, load_lite
from poster_genres.lib.calibration import load_predictor
from poster_genres.cnn import train
from poster_genres.networks import predict_rows
from poster_genres.preprocessing import read_dataset
from poster_genres.lib.runs import InputError, read_json, read_table, write_json, write_table
from poster_genres.evaluation import ask, evaluate, load_network
from poster_genres.lib.metrics import mean_average_precision

GENRES = ["Comedy", "Drama", "Horror"]


def draw(folder, posters=200, shuffled=False):
    "A run folder with striped posters, a colour for each of three genres, whose genres may be shuffled."
    random = np.random.default_rng(0)
    genres = (random.random((posters, 3)) < 0.4).astype(np.uint8)
    genres[~genres.any(1), 1] = 1
    images = random.integers(0, 120, (posters, 48, 32, 3)) + 100 * genres[:, None, None, :] * (np.arange(32) % 8 < 4)[:, None]
    (folder / "dataset").mkdir(parents=True)
    np.save(folder / "dataset/images.npy", images.astype(np.uint8))
    np.save(folder / "dataset/genres.npy", random.permutation(genres) if shuffled else genres)
    parts = np.resize(["train", "train", "train", "validation", "test"], posters)
    index = {"imdb_id": [f"tt{i:07}" for i in range(posters)], "title": None, "year": None, "path": "a.jpg", "part": parts,
             "repeats": np.where(parts == "train", 1 + np.arange(posters) % 2, 1)}
    write_table(pd.DataFrame(index), folder / "dataset/index.parquet")
    write_json(folder / "dataset/genres.json", GENRES)
    write_json(folder / "dataset/images.json", {"width": 32, "height": 48, "fit": "stretch"})
    write_json(folder / "run.json", {"steps": {}})
    return folder


def weights(folder):
    "The arrays of the run's trained network."
    return keras.models.load_model(folder / "model/model.keras", compile=False).get_weights()


def history(folder):
    "The history of the training, without times."
    return pd.read_csv(folder / "model/history.csv").drop(columns=["seconds", "cpu_seconds"])


def kill_when(folder, code, ripe):
    "Start a process that trains, and kill it as soon as `ripe()`."
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    deadline = time.time() + 240
    while not ripe():
        assert process.poll() is None and time.time() < deadline, "the training ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    assert not (folder / "model/model.keras").exists()


def records(checkpoint):
    "How many epochs are done in a checkpoint; 0 when there is none."
    if not checkpoint.exists():
        return 0
    with np.load(checkpoint) as arrays:
        return str(arrays["history"]).count('"epoch"')


def assert_same_training(ours, theirs):
    "Two runs have the same history, and no weight of their networks differs in a single bit."
    pd.testing.assert_frame_equal(history(ours), history(theirs), check_exact=True)
    for one, other in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_array_equal(one, other)


TINY = {"network": "pretrained", "backbone": "tiny", "batch_size": 16}
TRAIN = "import sys; from poster_genres.cnn import train; train(sys.argv[1], "
SLOWLY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from toy_network import train_toy
train_toy(sys.argv[1], 0.05, """


@pytest.mark.parametrize("rounds, start, chosen", [
    ((1, 2), SLOWLY, {"epochs": 4, "batch_size": 16, "distillation_rounds": 2, "augmentation": "mixup"}),
    pytest.param((1, 2), TRAIN, {"epochs": 4, "batch_size": 16, "distillation_rounds": 2, "augmentation": "mixup"}, marks=pytest.mark.slow),
    pytest.param((1, 1), TRAIN, {"epochs": 6, "batch_size": 16}, marks=pytest.mark.slow),
    pytest.param((1, 1), TRAIN, {"network": "original", "epochs": 4}, marks=pytest.mark.slow),
    pytest.param((1, 1), TRAIN, TINY | {"epochs": 4, "distillation_rounds": 1}, marks=pytest.mark.slow),
], ids=["toy", "both rounds", "compact", "original", "pretrained"])
def test_killed_training_ends_at_the_same_weights(tmp_path, rounds, start, chosen):
    "Killed twice, in the middle of an epoch, soon after the checkpoint of the round got one more."
    go_on = train_toy if start == SLOWLY else train
    go_on(draw(tmp_path / "undisturbed"), **chosen)
    killed = draw(tmp_path / "killed")
    for number in rounds:
        checkpoint = tmp_path / f"killed/model/checkpoint-{number}.npz"
        before = records(checkpoint)
        kill_when(killed, f"{start}**{chosen})", lambda: records(checkpoint) > before)
        assert before < records(checkpoint) < chosen["epochs"], "it was killed too late"
    go_on(killed, **chosen)
    assert_same_training(killed, tmp_path / "undisturbed")


@pytest.fixture
def untraced():
    "TensorFlow computes without tracing a graph: a batch or two are sooner done."
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.1, 0.3, 0.7])
def test_training_may_be_killed_at_any_moment(tmp_path, delay):
    train(draw(tmp_path / "undisturbed"), epochs=4, batch_size=16)
    killed, checkpoint = draw(tmp_path / "killed"), tmp_path / "killed/model/checkpoint-1.npz"
    started = []

    def ripe():
        if not started and any(checkpoint.parent.glob("*checkpoint*")) if checkpoint.parent.exists() else False:
            started.append(time.time())
        return bool(started) and time.time() - started[0] >= delay

    kill_when(killed, f"{TRAIN}epochs=4, batch_size=16)", ripe)
    train(killed, epochs=4, batch_size=16)
    assert_same_training(killed, tmp_path / "undisturbed")


def test_a_checkpoint_of_another_training_is_not_used(tmp_path):
    run = draw(tmp_path / "run")
    train(run, "original", epochs=1, learning_rate=0.005)
    train(run, "original", epochs=2)
    assert history(run).epoch.tolist() == [1, 2]


def test_training_stops_when_nothing_gets_better(tmp_path):
    run = draw(tmp_path / "run", posters=100, shuffled=True)
    done = train(run, epochs=30, batch_size=16, patience=2)
    assert done["epochs"] == done["kept_epoch"] + 2 < 30 and len(history(run)) == done["epochs"]


def of_genres(run, genres, parts=None, size=None):
    "The run with other genres, and perhaps with other parts and posters of another size."
    index = read_table(run / "dataset/index.parquet").iloc[:len(genres)]
    images = np.load(run / "dataset/images.npy")[:len(genres)]
    height, width = size or images.shape[1:3]
    np.save(run / "dataset/images.npy", images[:, :height, :width])
    write_json(run / "dataset/images.json", {"width": width, "height": height, "fit": "stretch"})
    np.save(run / "dataset/genres.npy", genres.astype(np.uint8))
    write_json(run / "dataset/genres.json", [f"Genre {number}" for number in range(genres.shape[1])])
    write_table(index.assign(part=parts) if parts is not None else index, run / "dataset/index.parquet")
    return run


ODD = {
    "one movie": (np.ones((1, 2)), ["train"], None),
    "one genre, no validation part": (np.ones((20, 1)), np.resize(["train", "test"], 20), None),
    "more genres than movies, tiny posters": (np.eye(8, 60), None, (8, 8)),
    "a genre that validation lacks": (np.eye(2)[[0] * 10 + [1] * 10], ["train"] * 15 + ["validation"] * 5, None),
}


@pytest.mark.parametrize("chosen", [{"network": "compact"}, TINY | {"trainable_fraction": 0.0}], ids=["compact", "linear probe"])
def test_any_data_is_trained_on(tmp_path, chosen, untraced):
    for name, (genres, parts, size) in ODD.items():
        run = of_genres(draw(tmp_path / name), genres, parts, size)
        counts, dataset = train(run, **chosen, epochs=1), read_dataset(run)
        y_prob = predict_rows(keras.models.load_model(run / "model/model.keras", compile=False), dataset.images, np.arange(len(genres)))
        assert counts["kept_epoch"] == counts["epochs"] and y_prob.shape == genres.shape and np.isfinite(y_prob).all(), name


def test_posters_that_are_all_alike_are_trained_on(tmp_path, untraced):
    run = draw(tmp_path / "run", posters=20)
    images = np.load(run / "dataset/images.npy")
    np.save(run / "dataset/images.npy", np.repeat(images[:1], len(images), 0))
    assert train(run, "original", epochs=1)["kept_epoch"] == 1 and train(run, **TINY, trainable_fraction=0.0)["kept_epoch"] == 0


def test_a_model_of_keras_applications_is_a_backbone(tmp_path, untraced):
    run, file = draw(tmp_path / "run", posters=20), tmp_path / "mobilenet.weights.h5"
    backbone("MobileNetV2", (48, 32, 3), None).save_weights(file)
    counts = train(run, "pretrained", backbone="mobilenetv2", backbone_weights=str(file), epochs=1, distillation_rounds=1)
    assert counts["epochs"] == 1 and keras.models.load_model(run / "model/model.keras", compile=False).get_layer("genres")
    with pytest.raises(InputError, match="cannot be used"):
        train(run, "pretrained", backbone="resnet50", backbone_weights=str(file), epochs=1)


def test_a_frozen_backbone_is_asked_once(tmp_path, untraced):
    run = draw(tmp_path / "run")
    chosen = {"network": "pretrained", "backbone": "tiny", "trainable_fraction": 0.0}
    assert train(run, **chosen)["epochs"] == 0 and history(run).epoch.tolist() == [0]
    written = (run / "model/features.npz").stat().st_mtime_ns
    train(run, **chosen, batch_size=8)
    assert (run / "model/features.npz").stat().st_mtime_ns == written


def test_weights_of_a_backbone_are_the_known_ones(monkeypatch):
    name = "efficientnet-lite0"
    grey = np.full((1, 64, 64, 3), 127, np.uint8)
    features = load_lite(name, (64, 64, 3)).predict_on_batch(grey)
    assert features.shape == (1, 1280) and (features >= 0).all() and features.max() <= 6
    monkeypatch.setitem(LITE, name, LITE[name]._replace(sha256="0" * 64))
    with pytest.raises(InputError, match="damaged or exchanged"):
        lite_weights(name)


def test_probabilities_are_calibrated_by_the_evaluation(tmp_path):
    run = draw(tmp_path / "run", posters=600)
    train_toy(run, epochs=8, batch_size=16, augmentation="mixup")
    evaluate(run, resamples=50)
    scores = read_json(run / "evaluation/scores.json")
    error = lambda card: card["expected_calibration_error"]["value"]
    assert error(scores["test"]) < error(scores["calibration"]["before"])
    predictor, dataset = load_predictor(run / "evaluation/predictor.keras"), read_dataset(run)
    saved = read_table(run / "evaluation/predictions.parquet").query("part == 'test'")
    np.testing.assert_allclose(predict_rows(predictor, dataset.images, dataset.rows("test")), np.stack(saved.probabilities), atol=1e-4)


def test_shuffled_genres_score_at_the_floor(tmp_path):
    scores = {}
    for shuffled in (False, True):
        run = draw(tmp_path / f"{shuffled}", posters=500, shuffled=shuffled)
        train_toy(run, epochs=3, batch_size=16)
        dataset = read_dataset(run)
        test = ask(load_network(run, dataset), dataset, "test")
        scores[shuffled] = mean_average_precision(test.truth, test.probabilities) - test.truth.mean()
    assert scores[False] > 0.3 and abs(scores[True]) < 0.12


def test_an_unfit_dataset_is_named_in_one_line(tmp_path):
    run = draw(tmp_path / "run")
    train(run, "original", epochs=1)
    np.save(run / "dataset/images.npy", np.zeros((200, 24, 32, 3), np.uint8))
    write_json(run / "dataset/images.json", {"width": 32, "height": 24, "fit": "stretch"})
    with pytest.raises(InputError, match="train again"):
        evaluate(run)


ON_DEVICES = """
import json, keras, sys, tensorflow as tf
count = int(sys.argv[2])
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count)
keras.layers.Dropout.call = lambda self, inputs, training=False: inputs  # each device would draw its own random numbers
sys.path.insert(0, sys.argv[4])
from poster_genres import cnn
from toy_network import train_toy
assert len(cnn.training_devices(30)) == count and len(cnn.training_devices(31)) == 1
(train_toy if sys.argv[5] == "toy" else cnn.train)(sys.argv[1], **json.loads(sys.argv[3]))
"""


@pytest.mark.parametrize("network, chosen", [
    ("toy", {"epochs": 2, "batch_size": 30, "augmentation": "light"}),
    pytest.param("compact", {"epochs": 2, "batch_size": 30, "augmentation": "light"}, marks=pytest.mark.slow),
    pytest.param("pretrained", TINY | {"epochs": 1, "distillation_rounds": 2, "augmentation": "mixup"}, marks=pytest.mark.slow),
])
def test_two_devices_learn_what_one_learns(tmp_path, network, chosen):
    "Two logical processors share each batch, the smaller one at the end of an epoch as well; rounding apart, the losses are those of one."
    runs = [draw(tmp_path / name, posters=124) for name in ("one", "two")]
    words = [json.dumps(chosen), str(Path(__file__).parent), network]
    trainings = [subprocess.Popen([sys.executable, "-c", ON_DEVICES, run, str(count), *words]) for count, run in enumerate(runs, 1)]
    assert [training.wait(300) for training in trainings] == [0, 0]
    one, two = map(history, runs)
    pd.testing.assert_frame_equal(two, one, rtol=5e-3)
    np.testing.assert_allclose(two.loss.dropna().iloc[0], one.loss.dropna().iloc[0], rtol=1e-4)
    keras.models.load_model(runs[1] / "model/model.keras", compile=False).predict_on_batch(np.zeros((1, 48, 32, 3), np.uint8))
