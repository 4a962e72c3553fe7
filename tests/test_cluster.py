"""Work on a cluster: the same bytes from any number of workers, and one plain line for whatever is lost, after which what is done is kept."""
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial

import numpy as np
import pytest
from cluster_help import PATHS, Dask, a_cluster, wait_for
from cluster_work import double
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from poster_genres.lib import cluster
from poster_genres.lib.cluster import ADDRESS, DASK_MISSING, PATIENCE, check_cluster
from poster_genres.lib.recogniser import can_read
from poster_genres.lib.runs import InputError, StepError, disk_errors, read_run
from poster_genres.lib.shards import map_shards
from poster_genres.preprocessing import write_images
from poster_genres.reading import map_posters

@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    "Two workers for all tests that leave them alive."
    dask = Dask(tmp_path_factory.mktemp("shared"))
    dask.add(2)
    yield dask
    dask.kill(*dask.workers, dask.scheduler)


@pytest.fixture
def named(shared, monkeypatch):
    "The shared cluster, named by the environment."
    monkeypatch.setenv(ADDRESS, shared.address)
    return shared


def doubled(folder, numbers=range(40), seconds=0.0, **options):
    "All numbers doubled by whoever does it, in shards of four."
    work = partial(double, place=str(folder), seconds=seconds)
    return [int(one) for shard in map_shards(work, list(numbers), folder / "shards", size=4, **options) for one in shard["doubled"]]


WANTED = [2 * number for number in range(40)]


def done(folder):
    "The shards that were done, with their files' times."
    return {path.name: path.stat().st_mtime_ns for path in (folder / "shards").iterdir() if not path.name.startswith(".")}


def calls(folder):
    "How often the work of each shard came to its end."
    return sorted(path.name.split("-")[1] for path in folder.glob("done-*"))


def test_same_bytes_from_one_from_two_and_from_a_cluster(named, tmp_path, monkeypatch):
    for number in range(150):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (3, 2, 3), np.uint8)).resize((60, 90)).save(tmp_path / f"{number}.jpg")
    (tmp_path / "7.jpg").write_text("<html>404</html>")
    paths = [str(tmp_path / f"{number}.jpg") for number in range(150)]
    found = {}
    for way in ("cluster", "two", "one"):
        found[way] = write_images(tmp_path / f"{way}.npy", paths, 24, 36, workers=2 if way == "two" else 0)[0], (tmp_path / f"{way}.npy").read_bytes()
        monkeypatch.delenv(ADDRESS, raising=False)
    assert found["cluster"] == found["two"] == found["one"] and found["one"][0][7] == "a web page, not an image"
    assert not list(tmp_path.glob("*.shards")) and not list(tmp_path.glob(".seen-*"))


@pytest.mark.skipif(not can_read(), reason="the extra words is not installed")
def test_posters_are_read_once_and_alike(named, tmp_path, monkeypatch):
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), 24)
    for number in range(10):
        picture = Image.new("RGB", (182, 268), (24, 30, 52))
        ImageDraw.Draw(picture).text((8, 60), f"SHADOW\n{number}", (240, 220, 150), font)
        picture.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(10)]
    read = lambda folder: [one for readings in map_posters(paths, tmp_path / folder) for one in readings]
    times = lambda: {path.name: path.stat().st_mtime_ns for path in (tmp_path / "words").rglob("*.json")}
    found = read("words")
    before = times()
    assert len(before) == 10 and "SHADOW" in found[0].lines[0].text and read("words") == found and times() == before, "what was read is kept"
    monkeypatch.delenv(ADDRESS)
    assert read("alone") == found


def test_cluster_is_described(named, tmp_path):
    facts = check_cluster([tmp_path / "run", tmp_path / "cache"])
    assert facts["workers"] == facts["threads"] == 2 and facts["scheduler"] == named.address and isinstance(facts["dashboard"], str)
    assert not list((tmp_path / "run").iterdir()), "nothing is left behind"


@pytest.mark.parametrize("preload, words", [("blind", "does not see"), ("old", "has pillow 9.0 where")])
def test_worker_that_cannot_do_the_work_is_named_before_it_begins(tmp_path, preload, words):
    with a_cluster(tmp_path / "dask", 1) as dask:
        dask.add(1, preload)
        with pytest.raises(InputError, match=f"worker tcp://127.0.0.1:[0-9]+ {words}") as error:
            doubled(tmp_path)
        assert not calls(tmp_path) and "\n" not in str(error.value)
        with pytest.raises(InputError, match=words):
            check_cluster([tmp_path])


def test_worker_that_joins_later_is_asked_as_well(tmp_path):
    with a_cluster(tmp_path / "dask", 1) as dask:
        work = partial(double, seconds=0.3)
        shards = map_shards(work, list(range(120)), tmp_path / "shards", size=2)
        next(shards)
        dask.add(1, "old")
        with pytest.raises(InputError, match="worker .* has pillow 9.0 where"):
            list(shards)


def test_killed_worker_costs_a_shard(tmp_path):
    with a_cluster(tmp_path / "dask", 2) as dask:
        work = partial(double, place=str(tmp_path), seconds=0.2)
        shards = map_shards(work, list(range(40)), tmp_path / "shards", size=4)
        found = list(next(shards)["doubled"])
        dask.kill(dask.workers[0])
        found += [one for shard in shards for one in shard["doubled"]]
        assert found == WANTED and calls(tmp_path) == sorted(set(calls(tmp_path))), "a shard that was done is not done again"


def test_what_a_killed_worker_has_done_is_done(tmp_path):
    "Dask loses what the work returned and would do it again, which here it cannot."
    with a_cluster(tmp_path / "dask", 2) as dask:
        shards = map_shards(partial(double, place=str(tmp_path)), list(range(20)), tmp_path / "shards", size=4)
        found = list(next(shards)["doubled"])
        wait_for(lambda: len(calls(tmp_path)) == 5)
        dask.workers[1].send_signal(signal.SIGSTOP)
        dask.kill(dask.workers[0])
        assert found + [one for shard in shards for one in shard["doubled"]] == WANTED[:20]


def test_without_workers_there_is_a_line_and_the_next_call_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ALONE", 3)
    with a_cluster(tmp_path / "dask", 2) as dask:
        work = partial(double, place=str(tmp_path), seconds=0.1)
        shards = map_shards(work, list(range(40)), tmp_path / "shards", size=4)
        next(shards), next(shards)
        dask.kill()
        with pytest.raises(StepError, match="of 10 shards are done and kept; run the step again") as error:
            list(shards)
        assert "\n" not in str(error.value)
        before = done(tmp_path)
        dask.add(1)
        assert doubled(tmp_path) == WANTED and before.items() <= done(tmp_path).items() and len(before) >= 2


def test_lost_scheduler_is_a_line_and_the_next_call_goes_on(tmp_path):
    with a_cluster(tmp_path / "dask", 1) as dask:
        work = partial(double, place=str(tmp_path), seconds=0.1)
        shards = map_shards(work, list(range(40)), tmp_path / "shards", size=4)
        next(shards), next(shards)
        started = time.monotonic()
        dask.kill(dask.scheduler)
        with pytest.raises(StepError, match="the connection to the scheduler was lost: [0-9]+ of 10 shards are done"):
            list(shards)
        assert time.monotonic() - started < 30
        before = done(tmp_path)
        dask.kill()
        dask.start()
        dask.add(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ADDRESS, dask.address)
            assert doubled(tmp_path) == WANTED and before.items() <= done(tmp_path).items() and len(before) >= 2


CALLER = """
    import sys
    from functools import partial
    from cluster_work import double
    from poster_genres.lib.shards import map_shards
    work = partial(double, place=sys.argv[1], seconds=0.5)
    for shard in map_shards(work, list(range(40)), sys.argv[1] + "/shards", size=4):
        print(shard["doubled"][0], flush=True)
"""


def test_killed_caller_goes_on_where_it_was(named, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(CALLER), tmp_path], env=os.environ | {"PYTHONPATH": PATHS}, stdout=subprocess.PIPE)
    process.stdout.readline(), process.stdout.readline()
    process.kill(), process.wait()
    wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == len(calls(tmp_path)))  # the shards that were begun come to their end
    time.sleep(0.5)
    before = done(tmp_path)
    assert 2 <= len(before) < 10
    assert doubled(tmp_path) == WANTED and before.items() <= done(tmp_path).items()
    assert calls(tmp_path) == sorted(set(calls(tmp_path))), "a shard that was done is not done again"


def test_hanging_worker_is_named_and_the_next_call_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv(PATIENCE, "20")
    (tmp_path / "hang").touch()
    with a_cluster(tmp_path / "dask", 1) as dask:
        with pytest.raises(StepError, match=r"a shard was not done within \d+ seconds, tcp://127.0.0.1:\d+ has it and may hang: 3 of 10 shards are done"):
            doubled(tmp_path)
        (tmp_path / "hang").unlink()
        dask.kill()
        dask.add(1)
        assert doubled(tmp_path) == WANTED and len(calls(tmp_path)) == 10


def test_full_storage_stops_with_a_line_and_the_next_call_goes_on(named, tmp_path):
    (tmp_path / "full").touch()
    with pytest.raises(InputError, match="No space left on device; make room"), disk_errors(tmp_path):
        doubled(tmp_path)
    (tmp_path / "full").unlink()
    before = done(tmp_path)
    assert len(before) >= 3 and doubled(tmp_path) == WANTED and before.items() <= done(tmp_path).items()


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
def test_small_disk_is_full_and_with_room_made_the_next_call_goes_on(named, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = lambda options: subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode
    if mount("size=24k"):
        pytest.skip("this machine does not let us mount")
    try:
        shards = lambda: map_shards(double, list(range(40)), folder / "shards", size=4)
        with pytest.raises(InputError, match=f"cannot write to {folder}: No space left on device; make room"), disk_errors(folder):
            list(shards())
        before = {path.name: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}
        assert 1 <= len(before) < 10 and not mount("remount,size=1000k")
        assert [one for shard in shards() for one in shard["doubled"]] == WANTED
        assert {name: (folder / "shards" / name).stat().st_mtime_ns for name in before} == before
    finally:
        subprocess.run(["umount", folder], capture_output=True)


def test_shard_that_ends_its_workers_is_a_line(tmp_path):
    (tmp_path / "die").touch()
    with a_cluster(tmp_path / "dask", 1, failures=0):
        with pytest.raises(StepError, match="1 workers died over the same shard, often because memory ran out: 3 of 10 shards are done and kept"):
            doubled(tmp_path)


def test_without_dask_there_is_one_line(tmp_path):
    code = """
        import sys
        sys.modules["distributed"] = None
        from poster_genres.run.cli import main
        from poster_genres.lib.cluster import check_cluster
        print(check_cluster([]))
        sys.exit(main(["run", "--scheduler", "tcp://127.0.0.1:8786", "--out", sys.argv[1]]))
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path / "run"], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (2, "{}\n", f"poster-genres: {DASK_MISSING}\n")
    assert "pip install 'poster-genres[cluster]'" in DASK_MISSING and not (tmp_path / "run").exists()


def test_scheduler_that_is_not_there_is_named_at_once(quick_cli, tmp_path, monkeypatch):
    monkeypatch.delenv(ADDRESS, raising=False)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        monkeypatch.setenv(ADDRESS, "")
        said = quick_cli("run", "--scheduler", address, "--out", tmp_path / "run")
        assert said.returncode == 2 and said.stderr.startswith(f"poster-genres: no Dask scheduler answers at {address}") and said.stderr.count("\n") == 1


@pytest.mark.slow
def test_run_on_a_cluster_makes_what_a_run_makes(cli, archive, tmp_path):
    "A worker is killed on the way; tables and pixels are the same, and the dashboard's link stands in the terminal and in the report."
    said = cli("run", "--archive", archive, "--out", tmp_path / "alone" / "run", "--to", "preprocessing", "-p", "source", "tmdb")
    assert said.returncode == 0, said.stderr
    with a_cluster(tmp_path / "dask", 3) as dask:
        threading.Thread(target=lambda: (wait_for((tmp_path / "shared" / "run" / "posters.parquet").exists), dask.kill(dask.workers[0])), daemon=True).start()
        said = cli("run", "--archive", archive, "--out", tmp_path / "shared" / "run", "--to", "preprocessing", "-p", "source", "tmdb", "--scheduler", dask.address)
        assert said.returncode == 0 and f"cluster: 3 workers with 3 threads at {dask.address}; watch them at http://127.0.0.1:" in said.stderr, said.stderr
    for name in ("movies.parquet", "posters.parquet", "sample.parquet", "dataset/images.npy", "dataset/genres.npy", "dataset/index.parquet"):
        assert (tmp_path / "shared" / "run" / name).read_bytes() == (tmp_path / "alone" / "run" / name).read_bytes(), name
    dashboard = read_run(tmp_path / "shared" / "run")["cluster"]["dashboard"]
    assert f'<a href="{dashboard}">' in (tmp_path / "shared" / "run" / "report" / "index.html").read_text()
