"""What the demo claims: its network sees far more than its floor, colours alone do not, and shuffled labels teach nothing."""
import json
import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory, cli):
    "A run of the demo, as `make run` does it."
    run = tmp_path_factory.mktemp("demo") / "demo"
    done = cli("run", "--profile", "demo", "--out", run)
    assert done.returncode == 0, done.stderr
    return run


def scores(run):
    return json.loads((run / "evaluation" / "scores.json").read_text())


def test_network_is_far_above_its_floor(demo):
    score = scores(demo)["test"]["mean_average_precision"]
    assert score["value"] >= 3 * score["floor"]
    assert scores(demo)["test"]["hits_at_3"]["low"] > scores(demo)["test"]["hits_at_3"]["floor"]


def test_colours_alone_are_not_enough(demo):
    floor = scores(demo)["test"]["mean_average_precision"]["floor"]
    assert scores(demo)["references"]["mean_colour"]["mean_average_precision"]["value"] < 2 * floor


def test_shuffled_labels_score_at_the_floor(demo, tmp_path):
    from poster_genres.cnn import train
    from poster_genres.evaluation import evaluate

    shuffled = tmp_path / "shuffled"
    shutil.copytree(demo / "dataset", shuffled / "dataset")
    shutil.copy(demo / "run.json", shuffled)
    genres = np.load(shuffled / "dataset" / "genres.npy")
    np.save(shuffled / "dataset" / "genres.npy", genres[np.random.default_rng(0).permutation(len(genres))])
    train(shuffled, epochs=4)
    evaluate(shuffled)
    score = scores(shuffled)["test"]["mean_average_precision"]
    assert score["low"] < 1.15 * score["floor"] and score["value"] < 1.35 * score["floor"]
