"""From posters to pixels: killed and resumed, the same bytes whoever works, and checks that stop what is wrong."""
import io
import os
import signal
import struct
import subprocess
import sys
import time

import imagehash
import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

import poster_genres.lib.images as image
import poster_genres.preprocessing as preprocessing
from poster_genres.lib.runs import StepError, read_json, read_run, read_table, write_table
from poster_genres.download import check_poster
from poster_genres.lib.images import BadImage, contact_sheet, decode, perceptual_hash, pixels, verify
from poster_genres.lib.shards import map_shards
from poster_genres.preprocessing import check_alignment, preprocess, read_dataset, write_images

GENRES = [["Drama"], ["War", "Drama"], ["Comedy"], ["Western"]]


def is_whole(path):
    try:
        return bool(decode(path))
    except BadImage:
        return False


def make_run(folder, archive, rows):
    "A run folder with a sample of `rows` movies, which take turns with the archive's posters; two of them cannot be opened."
    folder.mkdir()
    posters = [path for path in sorted((archive / "posters").iterdir()) if is_whole(path)]
    (folder / "half.jpg").write_bytes(posters[0].read_bytes()[:900])
    paths = [str(posters[row % len(posters)]) for row in range(rows)]
    paths[3], paths[70] = "half.jpg", "nowhere.jpg"
    sample = pd.DataFrame({"imdb_id": [f"tt{row:07}" for row in range(1, rows + 1)], "title": "A Movie", "year": 1990, "path": paths, "group": "tt0000001",
                           "genres": [GENRES[row % len(GENRES)] for row in range(rows)], "part": "train", "repeats": 1})
    write_table(sample, folder / "sample.parquet")
    (folder / "run.json").write_text('{"steps": {}}')
    return folder


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    "A run that nobody disturbed."
    run = make_run(tmp_path_factory.mktemp("runs") / "whole", archive, 600)
    done = preprocess(run, workers=1)
    assert done["in"] == 600 and done["out"] == 598 and done["failed"] == 2
    return run


def test_bad_posters_are_named(whole):
    failed = read_json(whole / "dataset/failed.json")
    assert set(failed) == {"tt0000004", "tt0000071"} and "truncated" in failed["tt0000004"] and failed["tt0000071"] == "file is missing"
    index = read_table(whole / "dataset/index.parquet")
    assert len(index) == 598 and not set(failed) & set(index.imdb_id)


def same_dataset(one, other):
    return all((one / "dataset" / name).read_bytes() == (other / "dataset" / name).read_bytes()
               for name in ("images.npy", "genres.npy", "genres.json", "images.json", "index.parquet", "failed.json"))


@pytest.mark.parametrize("workers", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_any_number_of_workers_gives_the_same_bytes(whole, tmp_path, workers):
    sample = read_table(whole / "sample.parquet")
    write_images(tmp_path / "images.npy", [str(whole / path) for path in sample.path], 96, 144, workers=workers)
    assert (tmp_path / "images.npy").read_bytes() == (whole / "dataset/images.npy").read_bytes()


# ---- shards ----

def doubled(numbers):
    "What workers do in the tests below: they end by force at 13 while the file `deadly` is there."
    if 13 in numbers and os.path.exists(os.environ.get("DEADLY", "")):
        os.kill(os.getpid(), signal.SIGKILL)
    if "bad" in numbers:
        raise KeyError("bad")
    return {"doubled": 2 * np.array(numbers), "process": np.array([os.getpid()])}


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_a_killed_worker_costs_a_shard(tmp_path, monkeypatch):
    deadly = tmp_path / "deadly"
    deadly.touch()
    monkeypatch.setenv("DEADLY", str(deadly))
    with pytest.raises(StepError, match=r"ended from outside.* of 10 shards are done .*run the step again"):
        list(map_shards(doubled, list(range(40)), tmp_path / "shards", size=4, workers=2))
    there = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir() if not path.name.startswith(".")}
    deadly.unlink()
    found = list(map_shards(doubled, list(range(40)), tmp_path / "shards", size=4, workers=2))
    assert np.array_equal(np.concatenate([shard["doubled"] for shard in found]), 2 * np.arange(40))
    assert os.getpid() not in {int(shard["process"][0]) for shard in found}, "the work was done by workers"
    now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}
    assert len(now) == 10 and there.items() <= now.items(), "what was done is not done again"


def test_an_error_of_the_work_is_told_as_it_is(tmp_path):
    with pytest.raises(KeyError, match="bad"):
        list(map_shards(doubled, [1, 2, 3, "bad", 5, 6, 7, 8], tmp_path / "shards", size=2, workers=2))


PROGRAM = "import sys; from poster_genres.preprocessing import preprocess; preprocess(sys.argv[1], workers=int(sys.argv[2]))"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_and_called_again(whole, archive, tmp_path, monkeypatch, workers):
    run = make_run(tmp_path / "run", archive, 600)
    (run / "sample.parquet").write_bytes((whole / "sample.parquet").read_bytes())
    folder = run / "dataset/images.shards"
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, run, str(workers)], stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while not (folder.exists() and len(list(folder.glob("0*"))) > 3) and time.time() < deadline:
        time.sleep(0.005)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(children, timeout=20)[1], "a worker outlived its parent"
    assert read_run(run)["steps"]["preprocessing"]["state"] == "running" and not (run / "dataset/index.parquet").exists()

    shards = len(list(folder.glob("0*")))
    opened = []
    monkeypatch.setattr(preprocessing, "read_shard", lambda paths, **words: opened.extend(paths) or image.read_shard(paths, **words))
    done = preprocess(run, workers=1)
    assert shards >= 3 and len(opened) <= 600 - 64 * (shards - 1) - 24, "a shard that was there was made again"
    assert done["out"] == 598 and same_dataset(run, whole)
    assert not folder.exists()


def test_another_size_begins_anew(whole, archive, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", archive, 200)
    calls = []

    def third_fails(paths, **words):
        calls.append(len(paths))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return image.read_shard(paths, **words)

    monkeypatch.setattr(preprocessing, "read_shard", third_fails)
    with pytest.raises(KeyboardInterrupt):
        preprocess(run, width=24, height=36)
    preprocess(run, width=24, height=36, fit="pad")
    assert calls == [64, 64, 64, 64, 64, 64, 8], "nothing of another fit is believed"


# ---- checks that can fail ----

def test_the_originals_scaling_stops_the_chain(archive, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", archive, 130)

    def scaled_twice(source, width, height, fit):
        floats = pixels(source, width, height, fit) / 255
        return ((floats / 127.5 - 1 + 1) * 127.5).astype(np.uint8)

    monkeypatch.setattr(image, "pixels", scaled_twice)
    with pytest.raises(StepError, match="no posters.*spread 0.*scaled, perhaps twice"):
        preprocess(run)
    assert read_run(run)["steps"]["preprocessing"]["state"] != "done" and not (run / "dataset/index.parquet").exists()


@pytest.mark.parametrize("slip", ["images", "genres"])
def test_rows_that_slipped_are_found(whole, tmp_path, slip):
    run = tmp_path / "run"
    (run / "dataset").mkdir(parents=True)
    for name in ("sample.parquet", "half.jpg", "dataset/images.npy", "dataset/genres.npy", "dataset/genres.json", "dataset/images.json", "dataset/index.parquet"):
        (run / name).write_bytes((whole / name).read_bytes())
    assert check_alignment(run) == 16
    array = np.load(run / f"dataset/{slip}.npy")
    np.save(run / f"dataset/{slip}.npy", np.roll(array, 1, axis=0))
    with pytest.raises(StepError, match="its pixels or genres differ"):
        check_alignment(run)


def test_perceptual_hash_is_imagehashs(archive):
    chance = np.random.default_rng(0).integers(0, 256, (40, 50, 30, 3), dtype=np.uint8)
    pictures = [*map(Image.fromarray, chance), *(decode(path) for path in sorted((archive / "posters").glob("*.jpg"))[:60] if path.stat().st_size > 5000)]
    pictures += [*(Image.new("RGB", (50, 75), (grey,) * 3) for grey in (0, 20, 128, 255)), Image.linear_gradient("L").convert("RGB")]
    assert len(pictures) > 95
    for picture in pictures:
        assert perceptual_hash(picture) == str(imagehash.phash(picture))


def as_file(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"])
def test_every_format_is_the_same_picture(format):
    poster = Image.linear_gradient("L").convert("RGB").resize((120, 180))
    data = as_file(poster, format)
    assert np.abs(np.asarray(decode(data), int) - np.asarray(poster)).mean() < 4 and verify(data)[3:5] == (120, 180)
    assert pixels(data, 96, 144).shape == (144, 96, 3)


@pytest.mark.parametrize("numbers", [np.float32, np.uint16, np.int32])
@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 65_535])
def test_numbers_are_scaled_by_their_range(numbers, white):
    grey = np.linspace(0, 255, 120 * 180).reshape(180, 120)
    data = as_file(Image.fromarray((grey / 255 * white).astype(numbers)), "TIFF")
    error = np.abs(np.asarray(decode(data).convert("L"), float) - grey).mean()
    assert error < 1.5 or white == 1 and numbers is not np.float32, error


def repeated_scans(scans):
    "A progressive JPEG of 1500 x 1500 with its last scan repeated."
    data = as_file(Image.effect_noise((1500, 1500), 90), "JPEG", progressive=True, quality=30)
    return data[:-2] + data[data.rindex(b"\xff\xda"):-2] * scans + data[-2:]


BOMBS = {"scans": lambda: repeated_scans(600),
         "markers": lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 3_000_000 + as_file(Image.new("L", (9, 9)), "JPEG")[2:],
         "chunks": lambda: as_file(Image.new("L", (9, 9)), "PNG")[:33] + (b"\0\0\0\0IDAT" + struct.pack(">I", 0x35AF061E)) * 3_000_000,
         "values": lambda: b"II*\0\x08\0\0\0" + struct.pack("<H", 5000) + struct.pack("<HHII", 700, 1, 10_000_000, 8) * 5000 + b"\0" * 10_000_000,
         "blocks": lambda: b"GIF89a\x09\0\x09\0\0\0\0" + (b"\x21\xfe\1a\0") * 4_000_000,
         "pixels": lambda: as_file(Image.new("L", (6000, 6000)), "PNG"),
         "EXIF": lambda: b"\xff\xd8" + (b"\xff\xe1\1\4Exif\0\0" + bytes(252)) * 60_000 + as_file(Image.new("L", (9, 9)), "JPEG")[2:],
         "EXIF behind a mark without a length": lambda: b"\xff\xd8\xff\xd0" + (b"\xff\xe1\0\x0cExif\0\0II*\0") * 400_000 + as_file(Image.new("L", (9, 9)), "JPEG")[2:],
         "marks without a length": lambda: b"\xff\xd8\xff" + b"\xd0\xff" * 5_000_000 + as_file(Image.new("L", (9, 9)), "JPEG")[3:],
         "values of a large TIFF": lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 500_000) + struct.pack("<HHQQ", 700, 1, 8, 0) * 500_000}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_make_much_work_are_refused(name):
    data = BOMBS[name]()
    started = time.process_time()
    with pytest.raises(BadImage):
        verify(data)
    assert time.process_time() - started < 3


def test_a_tiff_of_many_pictures_is_not_walked_through():
    data = as_file(Image.new("L", (60, 90)), "TIFF", save_all=True, append_images=[Image.new("L", (60, 90))] * 3)
    assert check_poster(data)["kept"] == "first frame, from grey"


def test_scans_of_a_tiff_are_counted_where_it_holds_a_jpeg():
    "In packed pixels the mark of a scan occurs by chance."
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1000, 3), np.uint8))
    data = as_file(noise, "TIFF")
    assert data.count(b"\xff\xda") > 12 and verify(data).width == 1000


def test_half_files_are_damaged_and_odd_marks_of_position_are_not(tmp_path):
    "A file of a known format that ends too soon is damaged, not unknown; an EXIF mark that is text turns nothing."
    picture, exif = Image.new("RGB", (60, 90), "red"), Image.Exif()
    for format in ("WEBP", "PNG", "JPEG"):
        file = io.BytesIO()
        picture.save(file, format)
        with pytest.raises(BadImage, match="damaged image"):
            verify(file.getvalue()[:18])
    exif[0x010E] = "upright"
    picture.save(tmp_path / "marked.jpg", exif=exif.tobytes().replace(b"\x01\x0e", b"\x01\x12").replace(b"\x0e\x01", b"\x12\x01"))
    assert Image.open(tmp_path / "marked.jpg").getexif()[0x0112] == "upright"
    assert verify((tmp_path / "marked.jpg").read_bytes()).mode == "RGB" and pixels(tmp_path / "marked.jpg", 12, 18).shape == (18, 12, 3)


def test_labels_and_sheets_have_bounds():
    started = time.process_time()
    sheet = contact_sheet([Image.new("RGB", (20, 30))] * 2000, ["word " * 20_000 + "\n" + "x" * 100_000] * 2000, columns=2)
    assert time.process_time() - started < 5 and max(sheet.size) < 3100


def test_dataset_says_how_posters_were_fitted(archive, tmp_path):
    run = make_run(tmp_path / "run", archive, 80)
    preprocess(run, width=24, height=36, fit="pad")
    assert read_dataset(run).fit == "pad" and read_json(run / "dataset/images.json") == {"width": 24, "height": 36, "fit": "pad"}


# ---- real posters ----

def test_real_posters_of_every_mode(poster_archive):
    "Grey, CMYK and tiny posters come out upright in RGB, near what a plain conversion gives; none of a sample fails."
    seen = {}
    for path in sorted((poster_archive / "posters").iterdir())[:1500]:
        try:
            with Image.open(path) as stored:
                seen.setdefault(stored.mode, []).append(path)
        except OSError:
            with pytest.raises(BadImage):
                decode(path)
    assert {"RGB", "L"} <= set(seen)
    for mode, paths in seen.items():
        for path in paths[:20]:
            picture = pixels(path, 96, 144)
            plain = np.asarray(Image.open(path).convert("RGB").resize((96, 144), Image.Resampling.HAMMING))
            assert picture.shape == (144, 96, 3) and np.abs(picture.astype(int) - plain).mean() < 2, (mode, path)


@pytest.mark.slow
def test_real_dataset(poster_archive, tmp_path):
    "All ten thousand: two workers, none lost."
    paths = sorted((poster_archive / "posters").iterdir())
    reasons, counts = write_images(tmp_path / "images.npy", [str(path) for path in paths], 96, 144, workers=2)
    assert len(reasons) == reasons.count("") == 10_000 and counts.sum() == 10_000 * 96 * 144 * 3
