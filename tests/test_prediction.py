"""The command `predict` as a user calls it: every format, a folder, what is no image, and what the answers look like."""
import json
import os
import re
import runpy
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from poster_genres.lib.runs import InputError
from poster_genres.prediction import as_text, find_predictor, lite_predictor, predict, shipped_predictor
from poster_genres.demo.posters import made_up_movies
from poster_genres.demo.archive import poster_file


@pytest.fixture(scope="module")
def posters(tmp_path_factory):
    "A folder with one picture in many formats and modes, and things that are no picture."
    folder = tmp_path_factory.mktemp("posters")
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (27, 18, 3), dtype=np.uint8)).resize((182, 268), Image.Resampling.BICUBIC)
    picture.save(folder / "plain.jpg", quality=95)
    for name, mode in (("print.jpg", "CMYK"), ("grey.jpg", "L"), ("palette.gif", "P"), ("see-through.png", "RGBA"), ("small.webp", "RGB"),
                       ("bits.bmp", "1"), ("scan.tiff", "RGB")):
        picture.convert(mode).save(folder / name)
    picture.save(folder / "phone.jfif", "JPEG")
    picture.save(folder / "no_ending", "PNG")
    (folder / "below").mkdir()
    picture.save(folder / "below" / "deep.JPG", "JPEG")
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("no image either")
    return folder


def answers(done):
    "The objects that `predict --json` printed, by the names of the files."
    return {line["file"].replace("\\", "/").rsplit("/", 1)[-1]: line for line in map(json.loads, done.stdout.splitlines())}


def test_every_format_is_answered_and_what_is_none_is_named(cli, posters):
    done = cli("predict", "--no-words", "--json", posters, posters / "notes.txt", posters / "gone.jpg")
    assert done.returncode == 1 and done.stderr.startswith("poster-genres: 2 of ") and done.stderr.count("\n") == 1
    found = answers(done)
    assert [name for name, answer in found.items() if "error" in answer] == ["notes.txt", "gone.jpg"], "after the good ones"
    (skipped,) = [answer for answer in found.values() if "skipped" in answer]
    assert skipped["file"] == str(posters) and skipped["skipped"] == 2 and skipped["example"].startswith("notes.txt: no image")
    good = {name: answer for name, answer in found.items() if "genres" in answer}
    assert len(good) == 11 and {"phone.jfif", "no_ending", "deep.JPG"} < set(good)
    for name, answer in good.items():
        probabilities = [genre["probability"] for genre in answer["genres"]]
        assert len(probabilities) == 18 and probabilities == sorted(probabilities, reverse=True), name
        assert 0 <= min(probabilities) and max(probabilities) <= 1, name
    first = {name: found[name]["genres"][0]["probability"] for name in ("plain.jpg", "print.jpg", "scan.tiff", "small.webp")}
    assert max(first.values()) - min(first.values()) < 0.2, "the same picture gets much the same answer in every format"


def test_text_and_exit_statuses(cli, quick_cli, posters):
    done = cli("predict", posters / "plain.jpg")
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith(str(posters / "plain.jpg")) and "%" in done.stdout
    empty = posters / "empty"
    empty.mkdir()
    for words, status in (((empty,), 1), ((posters / "plain.jpg", "--predictor", posters / "text.jpg"), 2), ((), 2)):
        done = quick_cli("predict", *words)
        assert done.returncode == status and done.stderr.startswith("poster-genres: ") and done.stderr.count("\n") == 1, done.stderr


def test_what_cannot_be_opened_hides_nothing(cli, posters, tmp_path):
    "A folder or a file without permission, a pipe, a broken link, and names that would write on the terminal."
    for name in ("a good one.jpg", "closed.jpg", "new\nline\x1b[31m.jpg"):
        (tmp_path / name).write_bytes((posters / "plain.jpg").read_bytes())
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "inside.jpg").write_bytes((posters / "plain.jpg").read_bytes())
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "closed.jpg", tmp_path / "locked"):
        path.chmod(0)
    try:
        done = cli("predict", "--no-words", tmp_path, tmp_path / "locked" / "inside.jpg")
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert done.stdout.count("%") >= 10 and "\x1b" not in done.stdout and "new line" in done.stdout and "Traceback" not in done.stderr
    if os.getuid():
        assert done.returncode == 1 and "closed.jpg: file cannot be read" in done.stdout and "locked: folder cannot be read" in done.stdout


def test_any_image_is_taken_whatever_its_name(posters, tmp_path):
    picture = Image.open(posters / "plain.jpg")
    kinds = {"JPEG": "a.mpo", "PNG": "b.txt", "WEBP": "c", "TIFF": "d.jpg"}
    for kind, name in kinds.items():
        picture.save(tmp_path / name, kind)
    assert [Path(answer["file"]).name for answer in predict(tmp_path, words=False) if "genres" in answer] == sorted(kinds.values())
    if features.check("avif"):
        picture.save(tmp_path / "e.avif")
        assert all("genres" in answer or "avif" in str(answer) for answer in predict(tmp_path, words=False))


def test_who_asks_about_a_poster_waits_for_no_chain(posters):
    "Neither TensorFlow nor Keras nor the notebooks are loaded for the network that comes with the package."
    code = ("import sys; from poster_genres.run.cli import main; status = main(['predict', sys.argv[1]]); "
            "sys.exit(status or ' '.join({'tensorflow', 'keras', 'papermill', 'nbformat'} & set(sys.modules)) or 0)")
    done = subprocess.run([sys.executable, "-c", code, posters / "plain.jpg"], capture_output=True, text=True)
    assert done.returncode == 0 and "%" in done.stdout, done.stderr


def test_the_shipped_network_is_small_and_has_its_card():
    assert shipped_predictor().stat().st_size <= 12e6
    assert len(find_predictor().genres) == 18
    card = shipped_predictor().with_name("MODEL_CARD.md").read_text(encoding="utf-8")
    assert "constant" in card and "Apache" in card and "copyright" in card


def test_quantisation_to_int8(tmp_path):
    "The file has int8 kernels, its names, thresholds and fit, and nearly the float network's calibrated probabilities; that network is unchanged."
    import keras
    from ai_edge_litert.interpreter import Interpreter

    from poster_genres.lib.calibration import PlattScaling, make_predictor
    layers, random = keras.layers, np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    network = keras.Sequential([
        keras.Input((48, 32, 3)), layers.Rescaling(1 / 127.5, -1), layers.Conv2D(8, 3, 2), layers.ReLU(6),
        layers.Conv2D(16, 3, 2), layers.ReLU(6), layers.GlobalAveragePooling2D(), layers.Dense(3, "sigmoid", name="genres")])
    model = make_predictor(network, ["Drama", "Horror", "War"], [0.5, 0.4, 0.3], PlattScaling(np.array([2, 1, 1.5]), np.array([0.5, -1, 0])), "pad")
    kernel, bias = network.layers[-1].get_weights()
    network.layers[-1].set_weights([8 * kernel, bias])
    colours, noise = random.integers(0, 206, (24, 1, 1, 3)), random.integers(0, 50, (24, 48, 32, 3))
    posters = (colours + noise).astype("uint8")
    before = model.predict_on_batch(posters)
    ship = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "ship.py"), run_name="imported")
    path = ship["save_int8"](model, tmp_path / "int8.tflite", posters[:12])
    predictor = find_predictor(path)
    assert predictor[:3] == ((48, 32), ["Drama", "Horror", "War"], [0.5, 0.4, 0.3]) and predictor.fit == "pad"
    kinds = [(tuple(tensor["shape"][1:]), tensor["dtype"]) for tensor in Interpreter(str(path)).get_tensor_details()]
    assert ((3, 3, 3), np.int8) in kinds and ((3, 3, 8), np.int8) in kinds, "both kernels"
    np.testing.assert_array_equal(model.predict_on_batch(posters), before)
    difference = np.abs(predictor.ask(posters) - before)
    assert before.std(0).min() > 0.05 and difference.max() < 0.05 and difference.mean() < 0.01, "close, compared with how posters differ"


def test_the_readme_shows_what_the_shipped_network_says(tmp_path):
    "Its example is the last of the four posters in the notebook on prediction, to a percent or two."
    text = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^  ([* ]) (\S.*?) +(\d+)%", text.split("$ poster-genres predict poster.jpg")[1].split("```")[0], re.M)
    (tmp_path / "poster.jpg").write_bytes(poster_file(made_up_movies(4)[-1]))
    answer = next(predict([tmp_path / "poster.jpg"], find_predictor()))
    said = re.findall(r"^  ([* ]) (\S.*?) +(\d+)%", as_text(answer), re.M)
    assert len(shown) == len(said) and [line[:2] for line in shown] == [line[:2] for line in said]
    assert all(abs(int(mine) - int(its)) <= 2 for (*_, mine), (*_, its) in zip(shown, said))


def test_an_old_terminal_an_odd_name_and_a_reader_who_has_seen_enough(posters, tmp_path):
    program, old = [sys.executable, "-m", "poster_genres.run.cli", "predict", "--no-words"], os.environ | {"PYTHONIOENCODING": "cp1252"}
    odd = tmp_path / os.fsdecode(b"\xe9t\xe9.jpg")
    try:
        odd.write_bytes((posters / "plain.jpg").read_bytes())
    except OSError:  # where names are text
        odd = posters / "plain.jpg"
    for words in ([odd], ["--json", odd]):
        done = subprocess.run([*program, *words], capture_output=True, text=True, encoding="cp1252", env=old)
        assert done.returncode == 0 and done.stderr == "" and ("probability" in done.stdout or "%" in done.stdout), done.stderr
    many = tmp_path / "many"
    many.mkdir()
    for number in range(200):  # more answers than a pipe holds
        (many / f"{number}.jpg").write_bytes((posters / "plain.jpg").read_bytes())
    with subprocess.Popen([*program, "--json", many], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        reader.stdout.readline()
        reader.stdout.close()
        assert reader.stderr.read() == "" and reader.wait() == 141


@pytest.mark.slow
def test_a_folder_of_a_thousand(cli, posters, tmp_path):
    for number in range(1000):
        (tmp_path / f"{number:04}.jpg").write_bytes((posters / "plain.jpg").read_bytes())
    done = cli("predict", "--no-words", "--json", tmp_path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1000


def test_a_predictor_that_unpacks_without_end_is_refused(tmp_path):
    file = tmp_path / "large.tflite"
    file.write_bytes(shipped_predictor().read_bytes())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings(action="ignore"):
        archive.writestr("genres.json", bytes(60_000_000))
    with pytest.raises(InputError, match="genres.json in it unpacks to 60,000,000 bytes"):
        lite_predictor(file)
