"""Reading posters as a run does it: killed and called again, from the cache, without its extra, and with what no catalogue should hold."""
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from poster_genres.lib.recogniser import read_poster
from poster_genres.lib.runs import InputError, read_table, write_table
from poster_genres.lib.ngrams import MOST_CHARACTERS, MOST_WORDS, clean_line, hashed, text_features, words_of
from poster_genres.reading import FAILED, NO_TEXT, READ, map_posters, read_sample
from poster_genres.words import BITS, count_features, fit_text_model, line_documents, training_documents, training_titles

WORDS = "MIDNIGHT GARDEN THUNDER CASTLE ISLAND WINTER SHADOW LETTER".split()


def lettered(text):
    "A dark poster with this text in large letters."
    picture = Image.new("RGB", (182, 268), (24, 30, 52))
    ImageDraw.Draw(picture).text((8, 60), text, (240, 220, 150), ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 24))
    return picture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    "A run's folder with a sample: sixteen posters with one word each, one of them twice, a blank one, and two that are no picture."
    folder = tmp_path_factory.mktemp("reading") / "run"
    posters = folder.parent / "cache" / "posters"
    posters.mkdir(parents=True)
    folder.mkdir()
    for number in range(16):
        lettered(f"{WORDS[number % 8]}\n{number}").save(posters / f"{number}.png")
    Image.new("RGB", (182, 268), "white").save(posters / "16.png")
    (posters / "17.png").write_text("no picture")
    (posters / "19.png").write_bytes((posters / "0.png").read_bytes())
    rows = [dict(imdb_id=f"tt{number:07}", title=WORDS[number % 8].title(), year=1990, genres=["Drama"], path=f"../cache/posters/{number}.png",
                 group=f"tt{number:07}", part="train" if number % 2 else "test", repeats=1, weight=1.0) for number in range(20)]
    write_table(pd.DataFrame(rows), folder / "sample.parquet")
    return folder


def python(code, *words, **options):
    "A process that runs this code."
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, words)], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **options)


READ_RUN = """
    import sys
    from poster_genres.reading import read_sample
    if __name__ == "__main__":
        print(read_sample(sys.argv[1], "words", int(sys.argv[2])), "rapidocr" in sys.modules)
"""


def test_killed_reading_goes_on_and_nothing_is_read_twice(run):
    kept = run.parent / "cache" / "words"
    process = python(READ_RUN, run, 1, start_new_session=True)
    while process.poll() is None and len(list(kept.rglob("*.json"))) < 4:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.json")}
    assert 4 <= len(before) and not (run / "words.parquet").exists()
    counts = read_sample(run, "words", 2)
    assert {name: counts[name] for name in ("in", "out", "failed")} == {"in": 20, "out": 17, "failed": 2}
    after = {path: path.stat().st_mtime_ns for path in kept.rglob("*.json")}
    assert len(after) == 17 and before.items() <= after.items(), "what was read before the kill is as it was, and the same picture is kept once"
    table = read_table(run / "words.parquet")
    assert set(table.imdb_id) == {f"tt{number:07}" for number in range(20)}
    first = table.groupby("imdb_id").first()
    assert all(WORDS[number % 8] in first.text[f"tt{number:07}"] for number in range(16))
    assert list(first.status[["tt0000016", "tt0000017", "tt0000018", "tt0000019"]]) == [NO_TEXT, FAILED, FAILED, READ]
    assert first.reason["tt0000017"].startswith("no image: ") and first.reason["tt0000018"].startswith("no image: ")
    assert table[["left", "top", "width", "height", "confidence"]].dropna().stack().between(0, 1).all()


def test_another_run_takes_what_was_read(run):
    read_sample(run, "words", 1)
    content = (run / "words.parquet").read_bytes()
    for path in ((run / "words.parquet"), *(run.parent / "cache" / "posters").glob("1[78].png")):
        path.unlink(missing_ok=True)
    other = run.parent / "other"
    other.mkdir()
    (other / "sample.parquet").write_bytes((run / "sample.parquet").read_bytes())
    out, err = python(READ_RUN, other, 1).communicate()
    assert "'out': 17" in out and out.endswith("False\n"), f"no network was loaded: {out} {err}"
    read_sample(run, "words", 1)
    words, others = (read_table(folder / "words.parquet").drop(columns="reason") for folder in (run, other))
    assert words.equals(others) and len(content) > 0


def test_processes_read_the_same_as_one(run, tmp_path):
    paths = [str(run.parent / "cache" / "posters" / f"{number}.png") for number in range(8)] * 4
    alone, together = ([one for task in map_posters(paths, tmp_path / str(workers), workers) for one in task] for workers in (1, 2))
    assert alone == together and len(alone) == 32


def test_without_the_extra_there_is_one_line(run):
    code = """
        import sys
        sys.modules["rapidocr"] = None
        from poster_genres.lib.runs import InputError, read_table
        from poster_genres.reading import read_sample
        import poster_genres.words
        counts = read_sample(sys.argv[1], "none")
        print(counts["in"], counts["out"], len(read_table(sys.argv[1] + "/words.parquet")))
        try:
            read_sample(sys.argv[1], "words")
        except InputError as error:
            print(error)
    """
    out, err = python(code, run).communicate()
    counts, message, *more = out.splitlines()
    assert counts == "0 0 0" and "pip install 'poster-genres[words]'" in message and not more, err


def test_nothing_is_imported_before_it_is_needed():
    out, err = python("import sys, poster_genres.reading, poster_genres.combination; print({'rapidocr', 'onnxruntime', 'cv2', 'keras'} & set(sys.modules))").communicate()
    assert out == "set()\n", err


def test_odd_pictures_are_read_or_refused(tmp_path):
    for name, size, mode in (("thin", (3, 900), "RGB"), ("dot", (1, 1), "L"), ("wide", (1200, 40), "RGB"), ("clear", (182, 268), "RGBA"), ("print", (182, 268), "CMYK")):
        path = tmp_path / f"{name}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, size).save(path)
        assert read_poster(path, tmp_path / "words") == ([], None), name
    (tmp_path / "folder.png").mkdir()
    assert read_poster(tmp_path / "folder.png", tmp_path / "words").reason.startswith("no image: ")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=3000))
def test_any_text_becomes_few_features(text):
    cleaned = clean_line(text)
    assert len(cleaned) <= MOST_CHARACTERS and cleaned.isprintable() and cleaned == clean_line(cleaned)
    words = words_of(text)
    assert len(words) <= MOST_WORDS and all(word and not word.isspace() for word in words)
    whole, parts = text_features(text)
    assert len(whole) == max(0, 2 * len(words) - 1) and all(0 <= feature < 2**32 for feature in whole + parts)


ODD = ["\x00\x1b[31m\u202e", "<script>alert(1)</script>", "=HYPERLINK(1)", "x" * 10_000, "word " * 10_000, "", "\ud800", "\u0627\u0644"]


def test_odd_titles_are_learned_and_asked_without_harm():
    model = fit_text_model([[(text, 1.0)] for text in ODD], np.array([[number % 2] for number in range(len(ODD))]), ["Drama"], bits=8)
    start = time.process_time()
    said = model.probabilities([[(text, 1.0)] for text in ODD] + [[]])
    assert np.isfinite(said).all() and said[5] == said[-1] and time.process_time() - start < 5
    kept = [text for text in ODD if text != "\ud800"]  # no table can hold half a character; `clean_line` leaves it out before
    lines = pd.DataFrame({"imdb_id": "tt0000001", "text": kept, "confidence": 0.5, "height": 0.1})
    assert [text for text, _ in line_documents(lines, ["tt0000001"])[0]] == kept


def test_titles_of_the_test_part_are_not_learned():
    "Neither by id, nor under another id, nor from the lines on the poster."
    movies = pd.DataFrame({"imdb_id": [f"tt{number:07}" for number in range(1, 6)], "title": ["Zyxwv", "ZYXWV", "Qwrtp", "Common Thing", "Zyxwv Returns"],
                           "year": [1990, 1991, 2000, 1980, 1995], "genres": [["Drama"]] * 5}).astype({"year": "Int16"})
    sample = movies.iloc[[0, 2, 3]].assign(part=["test", "validation", "train"])
    lines = pd.DataFrame({"imdb_id": ["tt0000001", "tt0000003", "tt0000004"], "text": ["zyxwv", "qwrtp", "thing"], "confidence": 1.0, "height": 0.1})
    titles = training_titles(movies, sample, ["Drama"])
    assert list(titles.imdb_id) == ["tt0000004", "tt0000005"], "a sequel is another movie"
    documents, truth, weights = training_documents(titles, sample, lines, ["Drama"])
    counts = np.asarray(count_features(documents).sum(0)).ravel()
    column = {word: hashed(f"={word}") & ((1 << BITS) - 1) for word in ("zyxwv", "qwrtp", "thing")}
    assert counts[column["qwrtp"]] == 0 and counts[column["zyxwv"]] == 1 and counts[column["thing"]] == 2
    assert len(documents) == len(truth) == len(weights) == 3
    with pytest.raises(InputError):
        fit_text_model([], np.zeros((0, 1)), ["Drama"])
