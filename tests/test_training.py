"""Training that no notebook cell can test: killed in the middle, and posters from which nothing can be learned."""
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest

from poster_genres.lib.backbones import LITE, check_sha256, lite_weights, load_lite
from poster_genres.lib.calibration import load_predictor
from poster_genres.cnn import predict_rows, train
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
    write_json(folder / "run.json", {"steps": {}})
    return folder


def weights(folder):
    "The arrays of the run's trained network."
    return keras.models.load_model(folder / "model/model.keras", compile=False).get_weights()


def history(folder):
    "The history of the training, without times."
    return pd.read_csv(folder / "model/history.csv").drop(columns=["seconds", "cpu_seconds"])


def kill_after_an_epoch(folder, checkpoint, code):
    "Start a process that trains, and kill it as soon as it has written this checkpoint."
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    deadline = time.time() + 120
    while not (folder / "model" / checkpoint).exists():
        assert process.poll() is None and time.time() < deadline, "the training ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    assert not (folder / "model/model.keras").exists()


@pytest.mark.parametrize("generation, chosen", [
    (1, {"epochs": 6, "batch_size": 16}),
    (2, {"epochs": 4, "batch_size": 16, "generations": 2}),
    pytest.param(1, {"network": "pretrained", "backbone": "tiny", "epochs": 4, "batch_size": 16}, marks=pytest.mark.slow),
], ids=["compact", "second generation", "pretrained"])
def test_killed_training_ends_at_the_same_weights(tmp_path, generation, chosen):
    train(draw(tmp_path / "undisturbed"), **chosen)
    killed = draw(tmp_path / "killed")
    kill_after_an_epoch(killed, f"checkpoint-{generation}.npz", f"import sys; from poster_genres.cnn import train; train(sys.argv[1], **{chosen})")
    with np.load(killed / f"model/checkpoint-{generation}.npz") as checkpoint:
        assert 1 <= str(checkpoint["record"]).count('"epoch"') < chosen["epochs"], "it was killed too late"
    train(killed, **chosen)
    pd.testing.assert_frame_equal(history(killed), history(tmp_path / "undisturbed"), rtol=1e-5)
    for ours, theirs in zip(weights(killed), weights(tmp_path / "undisturbed"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_another_training_is_not_used(tmp_path):
    run = draw(tmp_path / "run")
    train(run, "original", epochs=1, learning_rate=0.005)
    train(run, "original", epochs=2)
    assert history(run).epoch.tolist() == [1, 2]


def test_training_stops_when_nothing_gets_better(tmp_path):
    run = draw(tmp_path / "run", posters=100, shuffled=True)
    done = train(run, epochs=30, batch_size=16, patience=2)
    assert done["epochs"] == done["kept_epoch"] + 2 < 30 and len(history(run)) == done["epochs"]


def test_bfloat16_learns_and_is_saved_as_an_ordinary_network(tmp_path):
    run = draw(tmp_path / "run", posters=400)
    train(run, epochs=3, batch_size=16, precision="bfloat16")
    model = keras.models.load_model(run / "model/model.keras", compile=False)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert history(run).mean_average_precision.max() > 0.7


def test_a_frozen_backbone_is_asked_once(tmp_path):
    run = draw(tmp_path / "run")
    chosen = {"network": "pretrained", "backbone": "tiny", "unfrozen": 0.0}
    assert train(run, **chosen)["epochs"] == 0 and history(run).epoch.tolist() == [0]
    written = (run / "model/features.npz").stat().st_mtime_ns
    train(run, **chosen, batch_size=8)
    assert (run / "model/features.npz").stat().st_mtime_ns == written


def test_weights_of_a_backbone_are_the_known_ones(tmp_path):
    name = "efficientnet-lite0"
    altered = bytearray(lite_weights(name).read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / "altered.pth").write_bytes(altered)
    with pytest.raises(InputError, match="damaged or exchanged"):
        check_sha256(tmp_path / "altered.pth", LITE[name].sha256)
    grey = np.full((1, 64, 64, 3), 127, np.uint8)
    features = load_lite(name, (64, 64, 3)).predict_on_batch(grey)
    assert features.shape == (1, 1280) and (features >= 0).all() and features.max() <= 6


def test_probabilities_are_calibrated_by_the_evaluation(tmp_path):
    run = draw(tmp_path / "run", posters=600)
    train(run, epochs=2, batch_size=16, loss="focal")
    evaluate(run, resamples=50)
    scores = read_json(run / "evaluation/scores.json")
    error = lambda card: card["expected_calibration_error"]["value"]
    assert error(scores["test"]) < 0.5 * error(scores["calibration"]["before"])
    predictor, dataset = load_predictor(run / "evaluation/predictor.keras"), read_dataset(run)
    said = read_table(run / "evaluation/predictions.parquet").query("part == 'test'")
    np.testing.assert_allclose(predict_rows(predictor, dataset.images, dataset.rows("test")), np.stack(said.probabilities), atol=1e-4)


def test_shuffled_genres_score_at_the_floor(tmp_path):
    scores = {}
    for shuffled in (False, True):
        run = draw(tmp_path / f"{shuffled}", posters=500, shuffled=shuffled)
        train(run, epochs=3, batch_size=16)
        dataset = read_dataset(run)
        test = ask(load_network(run, dataset), dataset, "test")
        scores[shuffled] = mean_average_precision(test.truth, test.probabilities) - test.truth.mean()
    assert scores[False] > 0.3 and abs(scores[True]) < 0.12


def test_an_unfit_dataset_is_named_in_one_line(tmp_path):
    run = draw(tmp_path / "run")
    train(run, "original", epochs=1)
    np.save(run / "dataset/images.npy", np.zeros((200, 24, 32, 3), np.uint8))
    with pytest.raises(InputError, match="train again"):
        evaluate(run)
