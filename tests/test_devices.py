"""Training on several devices: two logical processors learn what one learns, with a network that neither draws nor takes statistics of a batch."""
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from test_training import draw

TRAIN = """
    import json, sys
    import keras
    import tensorflow as tf
    from poster_genres import cnn, networks
    from poster_genres.preprocessing import read_dataset

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

    def small(shape, prior, scaling):
        poster = keras.Input(shape)
        tensor = keras.layers.Rescaling(1 / 127.5, offset=-1)(poster)
        for filters in (8, 16):
            tensor = keras.layers.Conv2D(filters, 3, strides=3, activation="relu")(tensor)
        return keras.Model(poster, keras.layers.Dense(len(prior), activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(tensor)), name="small")

    recipe, found = networks.RECIPES["compact"]._replace(build=small, epochs=3, patience=0), {}
    made = {"inputs": {}, "source": "", "parameters": {"seed": 0, "scaling": "bytes", "backbone": ""}}
    dataset = read_dataset(sys.argv[1])
    for count in (1, 2):
        devices = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if count == 2 else tf.distribute.get_strategy()
        cnn.all_devices = lambda: devices
        model, history = cnn.train_round(f"{sys.argv[1]}/{count}", dataset, dataset.genres, recipe, 1, made)
        model.save(f"{sys.argv[1]}/{count}.keras")
        found[count] = [[one["loss"], one["log_loss"]] for one in history], networks.predict_rows(model, dataset.images, range(20)).tolist()
        read = keras.models.load_model(f"{sys.argv[1]}/{count}.keras", compile=False)
        assert networks.predict_rows(read, dataset.images, range(20)).tolist() == found[count][1]
    print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "The losses of three epochs, and the predictions after them, with one device and with two."
    folder = draw(tmp_path_factory.mktemp("devices") / "run", posters=180)
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(TRAIN), folder], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_two_devices_have_the_losses_of_one(trained):
    (one, _), (two, _) = trained["1"], trained["2"]
    assert len(one) == 3 and one[2][0] < one[0][0], "it learns"
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_two_devices_predict_as_one(trained):
    np.testing.assert_allclose(trained["2"][1], trained["1"][1], atol=1e-3)
