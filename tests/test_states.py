"""Every state on disk leads on: damaged records and tables, runs of earlier versions, odd names. One line with the right status, never a traceback."""
import contextlib
import copy
import io
import json
import os
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from poster_genres.lib.runs import STEPS as ALL_STEPS, TABLES, is_part, read_run, run_states, write_json, write_table
from poster_genres.run import cli
from poster_genres.run.pipeline import plan_run
from poster_genres.run.report import write_report

STEPS = [name for name in ALL_STEPS if is_part(name, {})]  # of a run that does not read
SCORE = {"value": 1.3, "low": 1.2, "high": 1.4, "floor": 0.9, "skill": 0.3}
HOSTILE = "<img src=x onerror=alert(1)>\x1b]0;owned\x07\u202e{seed}"


def call(*words):
    "Status, standard output and standard error of a command, in this process."
    out, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
        status = cli.main([str(word) for word in words])
    return status, out.getvalue(), complaints.getvalue()


def assert_one_line(words, statuses=(0, 2)):
    status, out, complaints = call(*words)
    assert status in statuses, (words, status, complaints)
    assert len(complaints.splitlines()) <= 1 and "Traceback" not in complaints and "bug of poster-genres" not in complaints, complaints
    assert "\x1b" not in out + complaints and "\x07" not in out + complaints
    return out + complaints


def a_record():
    "The record of a run that is done."
    entry = {"state": "done", "in": 10, "out": 9, "seconds": 1.0, "notebook_seconds": 2.0, "peak_memory_mb": 100.0, "started": "2026-01-01T00:00:00", "notes": [],
             "made_from": {"inputs": {}, "parameters": {"seed": 0}, "source": "0"}, "outputs": {}, "notebook": "0"}
    return {"name": "a", "state": "done", "profile": "demo", "parameters": {"limit": 3}, "versions": {"python": "3.11"}, "commit": None, "seed": 0,
            "steps": {step: copy.deepcopy(entry) for step in STEPS},
            "scores": {"test": {"movies": 9, "hits_at_3": SCORE, "mean_average_precision": SCORE}, "genres": {"Drama": SCORE | {"movies": 5}}}}


def a_run(folder, record=None):
    "A run's folder with its record and its tables."
    write_json(folder / "run.json", record or a_record())
    for name in ("movies", "posters", "exclusions"):
        write_table(pd.DataFrame(columns=TABLES[name].names), folder / f"{name}.parquet")
    return folder


VALUES = (None, True, 0, -1, 1e308, float("nan"), float("inf"), 10**400, "", "a", HOSTILE, "\ud800", [], [1], {}, {"value": "a"}, [[{}]])


def places(value, path=()):
    "The paths of everything in a JSON value."
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def damaged(record, draw):
    "The record with one to three values of other types, or values that are gone."
    for _ in range(draw.randint(1, 3)):
        path = draw.choice([path for path in places(record) if path])
        inside = record
        for key in path[:-1]:
            inside = inside[key]
        if isinstance(inside, (dict, list)) and draw.random() < 0.2:
            del inside[path[-1]]
        else:
            inside[path[-1]] = copy.deepcopy(draw.choice(VALUES))
    return record


def check_damaged_record(folder, seed):
    draw = random.Random(seed)
    run = a_run(folder / "run")
    (run / "run.json").write_text(json.dumps(damaged(a_record(), draw)))
    said = assert_one_line(["status", run])
    if "is damaged" in said:  # the advice works
        (run / "run.json").unlink()
        assert read_run(run)["state"] == "new" and all(row["does"] == "run" for row in plan_run(run, {}, 3))
    else:
        write_report(run)
        assert "<img src=x" not in (run / "report" / "index.html").read_text(encoding="utf-8")
        assert_one_line(["compare", run, a_run(folder / "other")])
    shutil.rmtree(folder / "run")


@pytest.mark.parametrize("seeds", [range(50), pytest.param(range(50, 550), marks=pytest.mark.slow)], ids=["50", "500"])
def test_damaged_record_is_shown_or_named(seeds, tmp_path):
    for seed in seeds:
        try:
            check_damaged_record(tmp_path, seed)
        except BaseException:
            print("seed", seed)
            raise


@pytest.mark.parametrize("seed", range(20))
def test_damaged_table_is_one_line(seed, tmp_path):
    "Bytes that are cut, turned or replaced; columns that are missing or of other types."
    draw = random.Random(seed)
    run = a_run(tmp_path / "run")
    path = run / f"{draw.choice(('movies', 'posters', 'exclusions'))}.parquet"
    data = bytearray(path.read_bytes())
    kind = draw.choice(("cut", "turned", "empty", "columns"))
    if kind == "columns":
        pd.DataFrame({"imdb_id": [1], "row": ["a"]}).to_parquet(path)
    else:
        place = draw.randrange(len(data))
        data = data[:place] if kind == "cut" else b"" if kind == "empty" else data[:place] + bytes([data[place] ^ 255]) + data[place + 1:]
        path.write_bytes(data)
    said = assert_one_line(["status", run, "tt0000001"])
    assert "holds no movie" in said or "delete it" in said or "delete the file" in said


def test_one_damaged_run_hides_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("poster_genres.run.status.outputs_folder", lambda: tmp_path)
    a_run(tmp_path / "good")
    for name, text in (("list", "[]"), ("torn", '{"steps": '), ("wrong", '{"steps": {"cnn": []}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "cache").mkdir()
    write_json(tmp_path / "notebooks" / "run.json", {"name": "notebooks", "state": "new", "steps": {}})
    said = assert_one_line(["status"], statuses=[0])
    assert said.startswith("a: done") and all(f"{name}/run.json" in said for name in ("list", "torn", "wrong")) and "notebooks/" not in said


def test_run_of_an_earlier_version_goes_on(tmp_path):
    "Its record has parameters that are gone and its folder a table that is called otherwise: all is shown, and its steps are done again."
    record = a_record()
    record["steps"]["cnn"]["made_from"]["parameters"] = {"generations": 3, "loss": "", "unfrozen": 0.5, "precision": ""}
    record["steps"]["manipulation"]["outputs"] = {"sample.parquet": "0", "fates.parquet": "0"}
    record["parameters"]["generations"] = 3
    run = a_run(tmp_path / "old", record)
    (run / "exclusions.parquet").rename(run / "fates.parquet")
    assert run_states(run)[0] == "done" and "generations" in write_report(run).read_text(encoding="utf-8")
    assert_one_line(["status", run], statuses=[0])
    assert [row["does"] for row in plan_run(run, {}, 3)] == ["run"] * len(STEPS)
    for words, answer in ((["generations", "3"], "distillation_rounds"), (["unfrozen", "0.5"], "trainable_fraction"), (["augmentation", "mixed"], "mixup"),
                          (["precision", "bfloat16"], "measured to bring nothing"), (["loss", "focal"], "measured to bring nothing")):
        from poster_genres.run.settings import step_parameters
        if words[0] not in step_parameters("cnn") or words[0] == "augmentation" and "mixup" in step_parameters("cnn")["augmentation"]["help"]:
            assert answer in assert_one_line(["run", "--out", run, "--dry-run", "-p", *words], statuses=[2])


@pytest.mark.parametrize("name", ["{", "{seed}", "}{", HOSTILE, "a" * 200, "ünïcödé 🎬", "-p", "%s", "a\nb"])
def test_odd_name_of_a_run(name, tmp_path):
    (tmp_path / "inside").mkdir()
    run = tmp_path / "inside" / name.replace("/", "")
    assert "run" in assert_one_line(["run", "--out", run, "--dry-run"], statuses=[0])
    a_run(run, a_record() | {"name": run.name})
    assert_one_line(["status", run], statuses=[0])
    page = write_report(run).read_text(encoding="utf-8")
    assert "<img src=x" not in page and "\x1b" not in page


@pytest.mark.skipif(os.name == "nt", reason="file names of Windows are text")
def test_name_that_is_no_text(tmp_path):
    assert "UTF-8" in assert_one_line(["run", "--out", os.fsdecode(bytes(tmp_path) + b"/\xff"), "--dry-run"], statuses=[2])


def test_step_runs_when_it_reads_what_another_one_will_write(tmp_path, monkeypatch):
    "Reading posters anew changes the evaluation, and leaves the trained network as it is."
    from poster_genres.run import pipeline
    monkeypatch.setattr(pipeline, "_must_run", lambda step, *words: step == "reading")
    runs = lambda **options: [row["step"] for row in plan_run(tmp_path / "run", {"reading": "words"}, 3, **options) if row["does"] == "run"]
    assert runs() == ["reading", "evaluation"] and runs(first="manipulation") == list(ALL_STEPS)[2:] and runs(last="cnn") == ["reading"]


def test_what_a_run_does_again_from_a_step_on_no_longer_counts(tmp_path, monkeypatch):
    from poster_genres.run import pipeline
    run, noted = a_run(tmp_path / "run"), []
    monkeypatch.setattr(pipeline, "_run_step", lambda *words: noted.append(read_run(run)))
    plan = pipeline.Plan(run, "demo", {"seed": 3, "archive": ""}, 3, [{"step": "cnn", "does": "run", "seconds": None}], {}, "")
    for first, missing in (("", set()), ("cnn", {"cnn"})):
        pipeline._run_steps(plan._replace(first=first), lambda run_dir, step: None, {})
        assert set(STEPS) - set(noted[-1]["steps"]) == missing and noted[-1]["parameters"] == {"seed": 3} and noted[-1]["seed"] == 3
        assert noted[-1]["state"] == "running"


def test_page_that_cannot_be_written_leaves_a_run_that_can_go_on(tmp_path, monkeypatch, capsys):
    from poster_genres.run import pipeline
    monkeypatch.delenv("POSTER_GENRES_STRICT", raising=False)

    def failing(run_dir, step):
        raise ValueError("encoding error 5")
    run = a_run(tmp_path / "run")
    monkeypatch.setattr(pipeline, "_run_step", lambda *words: None)
    rows = [{"step": step, "does": "run", "seconds": None, "run": 0, "cache": 0} for step in STEPS]
    pipeline._run_steps(pipeline.Plan(run, "demo", {}, 3, rows, {}, ""), failing, {})
    assert read_run(run)["state"] == "done" and "encoding error 5" in capsys.readouterr().err
    assert Path(run / "run.json").exists()
