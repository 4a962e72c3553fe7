"""The whole chain through the command line: on a small made-up archive, on real posters, killed, and fed with bad input."""
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup

from poster_genres.lib.recogniser import recogniser_version
from poster_genres.lib.runs import STEPS as ALL_STEPS, fingerprint, is_part, read_table
from poster_genres.reading import readings_folder

ROOT = Path(__file__).parent.parent
STEPS = {name: files for name, files in ALL_STEPS.items() if is_part(name, {})}  # of a run that does not read
QUICK = ["-p", "epochs", "2", "-p", "resamples", "100", "-p", "width", "48", "-p", "height", "72"]


def record(run):
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def finished(archive, tmp_path_factory, cli):
    "A run of the whole chain on the small archive, and what the command said."
    run, temporary = tmp_path_factory.mktemp("runs") / "small", tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "TEMP", "TMP"):
            patch.setenv(name, str(temporary))
        done = cli("run", "--archive", archive, "--out", run, *QUICK)
    done.temporary = temporary
    return run, done


def test_chain_ends_in_a_report(finished):
    run, done = finished
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "WARNING" not in done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {(run / 'report' / 'index.html').as_uri()}"
    for step in STEPS.values():
        assert (run / f"{step.notebook}.ipynb").exists() and (run / "report" / f"{step.notebook}.html").exists()


@pytest.fixture(scope="module")
def reader(finished, tmp_path_factory, cli):
    "The same run, its posters read as well; of all but eight the cache knows already what stands on them: the movie's title."
    run = tmp_path_factory.mktemp("readers") / "reader"
    shutil.copytree(finished[0], run)
    shutil.copytree(finished[0].parent / "cache", run.parent / "cache")
    sample = read_table(run / "sample.parquet")
    for path, title in list(zip(sample.path, sample.title))[8:]:
        digest = fingerprint(run / path)
        kept = readings_folder(run, path) / recogniser_version() / digest[:2] / f"{digest}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([[title, 0.9, 0.1, 0.7, 0.8, 0.1]]))
    given = json.loads((run / "run.json").read_text())["parameters"]
    return run, cli("run", "--archive", given["archive"], "--out", run, *QUICK, "-p", "reading", "words")


def test_run_with_words_scores_every_way_to_ask(reader):
    run, done = reader
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines if "it is done" in line] == ["scraping", "download", "manipulation", "preprocessing", "cnn"]
    scores, words = record(run)["scores"], read_table(run / "words.parquet")
    assert set(scores["ways"]) == {"picture", "words", "title", "poster", "picture_and_title", "poster_and_title"}
    assert scores["ways"]["picture"]["log_loss"] == scores["test"]["log_loss"], "the picture is asked as before"
    assert scores["gains"]["poster_and_title"]["against"] == "poster" and scores["gains"]["poster"]["scores"]["log_loss"]["low"] is not None
    assert set(words.imdb_id) == set(read_table(run / "sample.parquet").imdb_id) and (words.status == "read").mean() > 0.8
    assert {"ways.png", "gains.png", "words_better.jpg"} <= {path.name for path in (run / "evaluation").iterdir()}
    page = BeautifulSoup((run / "report" / "06_evaluation.html").read_text(encoding="utf-8"), "html.parser").text
    assert "poster and title" in page.replace("_", " ") and (run / "report" / "04a_reading.html").exists()


def test_predictor_of_such_a_run_reads(reader, archive, quick_cli):
    run, _ = reader
    poster = sorted((archive / "posters").glob("*.jpg"))[5]
    asked = ("predict", poster, "--predictor", run, "--json")
    looked, titled, read = (json.loads(quick_cli(*asked, *more).stdout) for more in (["--no-words"], ["--no-words", "--title", "A Documentary"], []))
    assert "words" not in looked and "words" not in titled and titled["title"] == "A Documentary" and isinstance(read["words"], list)
    assert looked["genres"] != titled["genres"] and {genre["name"] for genre in read["genres"]} == {genre["name"] for genre in looked["genres"]}
    shown = quick_cli("predict", poster, "--predictor", run).stdout
    assert "  reads: " in shown
    refused = quick_cli("predict", poster, "--predictor", run, "--titles", archive / "movies_metadata.csv")
    assert refused.returncode == 2 and "expected file and title" in refused.stderr


def test_record_says_what_was_done(finished):
    run, _ = finished
    found = record(run)
    assert found["state"] == "done" and found["versions"]["keras"] and found["parameters"]["epochs"] == 2
    for step in STEPS:
        entry = found["steps"][step]
        assert entry["state"] == "done" and entry["in"] >= entry["out"] > 0 and entry["seconds"] > 0 and entry["peak_memory_mb"] > 0
    for name in ("hits_at_3", "any_at_3", "mean_average_precision", "macro_f1", "micro_f1", "sample_f1", "log_loss"):
        score = found["scores"]["test"][name]
        assert score["low"] <= score["value"] <= score["high"] and "floor" in score and "skill" in score


def test_bad_rows_and_posters_are_listed(finished):
    run, _ = finished
    movies, posters = pq.read_table(run / "movies.parquet").to_pandas(), pq.read_table(run / "posters.parquet").to_pandas()
    assert "found" in set(movies.status) and len(set(movies.status)) > 1
    assert movies[movies.status != "found"].reason.notna().all()
    assert (posters.status != "ok").any() and posters[posters.status != "ok"].reason.notna().all()


def test_report_needs_no_other_file(finished):
    run, _ = finished
    pages = list((run / "report").glob("*.html"))
    assert len(pages) == len(STEPS) + 1
    for page in pages:
        parsed = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        assert all(tag["src"].startswith("data:") for tag in parsed.select("[src]")), page.name
        assert not parsed.select("link[rel=stylesheet], script[src]"), page.name


def test_second_call_does_nothing(finished, archive, quick_cli):
    run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.glob("*.ipynb")}
    done = quick_cli("run", "--archive", archive, "--out", run, *QUICK)
    assert done.returncode == 0 and done.stderr.count("nothing, it is done") == len(STEPS)
    assert before == {path: path.stat().st_mtime_ns for path in run.glob("*.ipynb")}


def test_changed_parameter_reruns_from_its_step(finished, archive, quick_cli):
    run, _ = finished
    plan = quick_cli("run", "--archive", archive, "--out", run, *QUICK, "-p", "balance", "none", "--dry-run").stdout
    assert plan.count("nothing, it is done") == 2 and "manipulation   run" in plan and "evaluation     run" in plan


def test_one_step_by_papermill_alone(finished, tmp_path):
    "papermill nbs/03_manipulation.ipynb does what the chain's third step does."
    run, _ = finished
    alone = tmp_path / "alone"
    shutil.copytree(run, alone, ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(run.parent / "cache", tmp_path / "cache")
    (alone / "sample.parquet").unlink()
    words = [sys.executable, "-m", "papermill", "nbs/03_manipulation.ipynb", tmp_path / "out.ipynb", "--cwd", "nbs", "-p", "run_dir", alone]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    assert (alone / "sample.parquet").read_bytes() == (run / "sample.parquet").read_bytes()
    help_text = subprocess.run([sys.executable, "-m", "papermill", "--help-notebook", "nbs/03_manipulation.ipynb"], cwd=ROOT,
                               check=True, capture_output=True, text=True).stdout
    assert "balance" in help_text and "run_dir" in help_text


def test_real_posters(poster_archive, tmp_path, cli):
    run = tmp_path / "real"
    done = cli("run", "--profile", "real", "--archive", poster_archive, "--out", run, "-p", "limit", "300", *QUICK, "--to", "preprocessing")
    assert done.returncode == 0, done.stderr
    steps = record(run)["steps"]
    assert steps["scraping"]["in"] == 300 and steps["download"]["out"] > 200 and steps["preprocessing"]["in"] == steps["preprocessing"]["out"]


@pytest.mark.slow
def test_real_posters_are_learned_from(poster_archive, tmp_path, cli):
    done = cli("run", "--profile", "real", "--archive", poster_archive, "--out", tmp_path / "real", "-p", "limit", "300", *QUICK)
    assert done.returncode == 0, done.stderr
    assert record(tmp_path / "real")["scores"]["test"]["hits_at_3"]["floor"] > 0.7


# ---- what a run leaves, and where ----

def test_run_leaves_nothing_elsewhere(finished, archive):
    "Only the run's folder and the cache beside it were written; no scratch folder, nothing in the temporary folder, nothing in the archive."
    run, done = finished
    assert {path.name for path in run.parent.iterdir()} == {"small", "cache"} and not (run / ".scratch").exists()
    assert {path.name for path in archive.iterdir() if not path.name.startswith(".")} <= {"posters", "movies_metadata.csv", "studio.json"}
    assert not list(done.temporary.iterdir())


def test_tests_of_a_notebook_are_no_part_of_a_run(finished):
    import nbformat
    run, _ = finished
    for step in STEPS.values():
        assert not [cell for cell in nbformat.read(run / f"{step.notebook}.ipynb", 4).cells if "test" in cell.metadata.get("tags", [])]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="a read-only mount needs root on Linux")
def test_installed_package_in_a_read_only_environment(archive, tmp_path):
    "Package and working folder cannot be written, and neither can HOME."
    places = [ROOT, tmp_path / "empty"]
    places[1].mkdir()
    script = " && ".join([*(f"mount --bind {place} {place} && mount -o remount,bind,ro {place}" for place in places), f"cd {places[1]}",
                          f"exec {sys.executable} -m poster_genres.run.cli run --archive {archive} --out {tmp_path / 'run'} --to preprocessing"])
    environment = os.environ | {"HOME": str(places[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, env=environment)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounting is not allowed on this machine")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "run", "cache"}


# ---- the other commands ----

def test_compare_says_what_differs(finished, quick_cli, tmp_path):
    run, _ = finished
    twin = tmp_path / "small"
    shutil.copytree(run, twin)
    done = quick_cli("compare", run, twin)
    assert done.returncode == 0, done.stderr
    assert "parameters that differ:\n  none" in done.stdout and f"{twin.parent.name}/small against {run.parent.name}/small" in done.stdout, "equal names are told apart by their paths"
    assert Path(done.stdout.splitlines()[-1].removeprefix("page: file://")).exists()
    assert quick_cli("compare", run, tmp_path / "nowhere").returncode == 2


def test_sweep_runs_each_value_and_compares(finished, archive, cli):
    "Both values share the first two steps; a copy that was killed half-way is made whole."
    run, _ = finished
    base = run.with_name("sweep")
    shutil.copytree(run, base.with_name("sweep-min_movies-3"), ignore=shutil.ignore_patterns("dataset", "model", "evaluation", "report", "0[456]*.ipynb"))
    half = base.with_name("sweep-min_movies-8")
    half.mkdir()
    (half / "movies.parquet").write_bytes(b"half of")
    done = cli("run", "--archive", archive, "--out", base, "--sweep", "min_movies", "3,8", "--to", "manipulation")
    assert done.returncode == 0, done.stderr
    assert "manipulation: min_movies" in done.stdout and record(half)["steps"]["scraping"]["started"] == record(run)["steps"]["scraping"]["started"]


def test_studio_draws_what_serve_archive_serves(quick_cli, tmp_path):
    import urllib.request
    done = quick_cli("studio", tmp_path / "drawn", "--movies", "24")
    assert done.returncode == 0, done.stderr
    words = [sys.executable, "-m", "poster_genres.run.cli", "serve-archive", str(tmp_path / "drawn"), "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        assert "stands in for IMDb and TMDB" in line and "24 posters" in line
        imdb_id = next((tmp_path / "drawn" / "posters").glob("*.jpg")).stem
        page = urllib.request.Request(f"{line.split()[0]}/title/{imdb_id}/", headers={"Host": "www.imdb.com"})
        assert imdb_id in urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page, timeout=30).read().decode()
    finally:
        server.terminate()
        server.wait(30)
    assert quick_cli("serve-archive", tmp_path).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["original", "pretrained"])
def test_profile_runs_to_its_end(profile, archive, tmp_path, cli):
    "The profiles for real posters, small: one epoch on made-up ones."
    small = {"original": ["-p", "width", "40", "-p", "height", "60"],
             "pretrained": ["-p", "width", "64", "-p", "height", "96"]}[profile]
    run = tmp_path / profile
    done = cli("run", "--profile", profile, "--archive", archive, "--out", run, "-p", "epochs", "1", "-p", "resamples", "20", *small)
    assert done.returncode == 0, done.stderr
    scores = record(run)["scores"]["test"]
    assert record(run)["state"] == "done"
    assert "too_few" in scores if profile == "original" else scores["hits_at_3"]["value"] > 0, "the original's 4,000 training rows leave nothing of so few movies for the test"


@pytest.mark.slow
def test_every_real_poster_arrives(poster_archive, tmp_path, cli):
    "All movies of the real catalogue, title pages of three layouts mixed: every poster of the archive, and a reason for every other movie."
    run = tmp_path / "runs" / "all"
    done = cli("run", "--profile", "real", "--archive", poster_archive, "--out", run, "-p", "missing", "all", "--to", "download", timeout=3000)
    assert done.returncode == 0, done.stderr
    movies, posters = (pq.read_table(run / f"{name}.parquet").to_pandas() for name in ("movies", "posters"))
    assert set(posters.imdb_id[posters.status == "ok"]) == {path.stem for path in (poster_archive / "posters").glob("*.jpg")}
    assert set(posters.imdb_id) == set(movies.imdb_id[movies.status == "found"]) and posters.reason[posters.status != "ok"].notna().all()
    assert movies.reason[movies.status != "found"].notna().all() and len(movies) == 45_466
    assert movies.layout.nunique() == 3 and movies.layout.value_counts().min() > 10_000


# ---- kills ----

def start(*words):
    "The chain as a process group of its own, so that all of it can be killed at once, as a crash would."
    return subprocess.Popen([sys.executable, "-m", "poster_genres.run.cli", "run", *map(str, words)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for_step(run, step, process, limit=300):
    "Wait until the step's work has begun."
    deadline = time.time() + limit
    while time.time() < deadline and process.poll() is None:
        try:
            if record(run)["steps"].get(step, {}).get("state") == "running":
                return
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"step {step} never began")


def copy_before(step, finished, name):
    "A copy of the finished run, beside it, as it was before `step` began."
    run = finished.with_name(name)
    shutil.copytree(finished, run)
    names = list(STEPS)
    for output in {Path(output).parts[0] for later in names[names.index(step):] for output in STEPS[later].outputs}:
        (shutil.rmtree if (run / output).is_dir() else os.remove)(run / output)
    earlier = {name: record(run)["steps"][name] for name in names[:names.index(step)]}
    (run / "run.json").write_text(json.dumps(record(run) | {"steps": earlier, "scores": {}}))
    return run


def kill_in(step, archive, run, whole_group, delay):
    process = start("--archive", archive, "--out", run, *QUICK)
    wait_for_step(run, step, process)
    time.sleep(delay)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
    process.wait()


def weights(run):
    "All numbers that the run's network has learned."
    with zipfile.ZipFile(run / "model" / "model.keras") as file, h5py.File(io.BytesIO(file.read("model.weights.h5"))) as groups:
        found = []
        groups.visititems(lambda name, item: found.append(np.asarray(item, float)) if isinstance(item, h5py.Dataset) else None)
    return found


def assert_same_scores(run, finished):
    assert record(run)["state"] == "done"
    assert record(run)["scores"] == record(finished[0])["scores"]


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("step", ["preprocessing", pytest.param("cnn", marks=pytest.mark.slow)])
def test_killed_step_goes_on(step, finished, archive, cli):
    run, earlier = copy_before(step, finished[0], f"killed-in-{step}"), list(STEPS)[:list(STEPS).index(step)]
    kill_in(step, archive, run, whole_group=step != "cnn", delay=3 if step == "cnn" else 0)
    assert record(run)["steps"][step]["state"] == "running"
    started = {step: record(run)["steps"][step]["started"] for step in earlier}
    done = cli("run", "--archive", archive, "--out", run, *QUICK, "--to", step)
    assert done.returncode == 0, done.stderr
    assert started == {step: record(run)["steps"][step]["started"] for step in earlier}, "a finished step was done again"
    assert record(run)["steps"][step]["state"] == "done"
    if step == "preprocessing":
        assert (run / "dataset/images.npy").read_bytes() == (finished[0] / "dataset/images.npy").read_bytes()
    else:
        for mine, undisturbed in zip(weights(run), weights(finished[0]), strict=True):
            np.testing.assert_allclose(mine, undisturbed, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
@pytest.mark.parametrize("whole_group", [False, True], ids=["runner", "group"])
@pytest.mark.parametrize("step, delay", list(zip(STEPS, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5))))
def test_killed_in_every_step(step, delay, whole_group, finished, archive, cli):
    run = copy_before(step, finished[0], f"killed-{step}-{whole_group}")
    kill_in(step, archive, run, whole_group, delay)
    done = cli("run", "--archive", archive, "--out", run, *QUICK)
    assert done.returncode == 0, done.stderr
    assert_same_scores(run, finished)


# ---- bad input ----

def test_bad_input_gets_one_line(archive, tmp_path, quick_cli):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "other.csv").write_text("name,price\nbread,3\n")
    (tmp_path / "strangers.csv").write_text("imdbId,Imdb Link,Title,IMDB Score,Genre,Poster\n9999999,x,Nobody (1999),5,Drama,\n")
    (tmp_path / "no-posters").mkdir()
    shutil.copy(archive / "movies_metadata.csv", tmp_path / "no-posters")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    (tmp_path / "file").touch()
    out = ["--out", tmp_path / "run"]
    cases = [
        (["--archive", tmp_path / "nowhere", *out], "nowhere does not exist"),
        (["--archive", archive, "--catalogue", tmp_path / "nothing.csv", *out], "nothing.csv does not exist"),
        (["--archive", archive, "--catalogue", tmp_path / "empty.csv", *out], "empty"),
        (["--archive", archive, "--catalogue", tmp_path / "binary.csv", *out], "binary.csv"),
        (["--archive", archive, "--catalogue", tmp_path / "other.csv", *out], "other.csv"),
        (["--archive", archive, "--catalogue", tmp_path / "strangers.csv", *out], "tt9999999"),
        (["--archive", tmp_path / "no-posters", *out], "poster"),
        (["--archive", archive, "--out", tmp_path / "full"], "no run.json"),
        (["--archive", archive, "--out", tmp_path / "file"], "is a file"),
        (["--archive", archive, *out, "-p", "epoch", "3"], "did you mean epochs?"),
        (["--archive", archive, *out, "-p", "epochs", "many"], "whole number"),
        (["--archive", archive, *out, "-p", "network", "compakt"], "compact"),
        (["--archive", archive, *out, "--from", "cnnn"], "did you mean cnn?"),
        (["--profile", "real", *out], "--archive"),
    ]
    for words, expected in cases:
        done = quick_cli("run", *words)
        lines = done.stderr.strip().splitlines()
        assert done.returncode == 2, (words, done.returncode, done.stderr)
        assert expected in lines[-1] and "Traceback" not in done.stderr, (words, done.stderr)
        if words[0] in ("--archive", "--profile"):
            dry = quick_cli("run", *words, "--dry-run")
            assert dry.returncode == 2 and dry.stderr == done.stderr, ("a dry run refuses what a run refuses", words)
    assert quick_cli("serve-archive", tmp_path / "nowhere").returncode == 2


def test_taken_folder(archive, finished, quick_cli):
    "A second process in the same run folder is told so."
    from poster_genres.lib.runs import locked
    run, _ = finished
    with locked(run):
        done = quick_cli("run", "--archive", archive, "--out", run, *QUICK, "-p", "seed", "1")
    assert done.returncode == 2 and "another process is working" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
@pytest.mark.parametrize("options, expected", [("size=1m", "MB free"), ("size=1m,ro", "is read-only")])
def test_full_or_read_only_disk(options, expected, archive, tmp_path, quick_cli):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed on this machine")
    try:
        done = quick_cli("run", "--archive", archive, "--out", disk / "run")
        assert done.returncode == 2 and expected in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (disk / "run" / "run.json").exists()
    finally:
        subprocess.run(["umount", disk], check=True)
