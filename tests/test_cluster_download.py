"""A download by three workers: polite together, by the log of the server that they ask, and with the tables of a download by one process."""
import threading

import pandas as pd
import pytest
from cluster_help import a_cluster, wait_for
from cluster_work import block
from web_help import draw_posters, misbehaving, read_log

from poster_genres import download as download_module
from poster_genres.download import download, fetch_shard
from poster_genres.lib.budgets import share_budgets
from poster_genres.lib.client import Client, ClientPolicy
from poster_genres.lib.cluster import ADDRESS, connected
from poster_genres.lib.runs import RefusedError
from poster_genres.lib.sites import POSTER_HOSTS
from poster_genres.scraping import scrape

MOVIES = 150


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return draw_posters(tmp_path_factory.mktemp("archive") / "small", MOVIES, lacking=6)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    "A cluster of three workers."
    with a_cluster(tmp_path_factory.mktemp("dask"), 3) as dask:
        yield dask


@pytest.fixture
def fetch(archive, tmp_path, monkeypatch):
    "A function that downloads all posters with a server that misbehaves, and returns the counts and the table `posters`."
    def fetch(name, log="", faults=None, **options):
        run = tmp_path / name / "run"
        misbehaving(monkeypatch, download_module, log=log, faults=faults)
        scrape(run, archive=archive, source="tmdb", missing="all")
        return download(run, archive=archive, **options), (run / "posters.parquet").read_bytes()
    return fetch


def most_in_a_second(asked):
    "The most questions within any second."
    times = [entry.time for entry in asked]
    return max(sum(start <= time < start + 1 for time in times) for start in times)


def test_three_workers_keep_one_budget_and_make_the_same_tables(three, fetch, tmp_path, monkeypatch):
    log = tmp_path / "log"
    counts, table = fetch("shared", log, {"slow": "/t/p/"}, connections=3, rate=30)
    asked = read_log(log)
    assert len(asked) == MOVIES == len({entry.path for entry in asked}), "each poster is asked for once"
    assert max(entry.busy for entry in asked) <= 3 and most_in_a_second(asked) <= 32, "three connections and thirty requests a second, for all together"
    assert counts["web"]["image.tmdb.org"]["requests"] == MOVIES + 1, "and robots.txt"
    assert not (tmp_path / "shared" / "run" / "posters.shards").exists()
    monkeypatch.delenv(ADDRESS)
    assert fetch("alone", connections=3)[1] == table


def test_a_pause_that_was_asked_for_holds_for_all(three, fetch, tmp_path):
    log = tmp_path / "log"
    fetch("run", log, {"too_many": 0.03}, connections=3, rate=20)
    asked = read_log(log)
    ends = [entry.time + entry.seconds for entry in asked if entry.outcome in ("429", "too_many")]
    assert ends and not pd.read_parquet(tmp_path / "run" / "run" / "posters.parquet").reason.str.contains("429", na=False).any()
    for end in ends:
        assert sum(end < entry.time < end + 0.95 for entry in asked) <= 7, "of nineteen: what the others asked until the worker had read the answer"


def test_after_a_challenge_no_worker_asks_again(three, fetch, tmp_path):
    log = tmp_path / "log"
    with pytest.raises(RefusedError, match="image.tmdb.org answers with a challenge.* of 150 links were done before that, and their posters are kept"):
        fetch("run", log, {"challenge": 0.03}, connections=3, rate=20)
    asked = read_log(log)
    first = min(entry.time + entry.seconds for entry in asked if entry.outcome in ("202", "challenge"))
    assert sum(entry.time > first for entry in asked) <= 7 and len(asked) < MOVIES / 2, "what the others asked until the worker had read the answer"


def test_worker_that_is_refused_before_it_asked_says_so(three, tmp_path):
    client = Client(POSTER_HOSTS, archive_url="http://127.0.0.1:9", cache=tmp_path / "cache", policy=ClientPolicy(connections=3))
    parts = {"hosts": list(client.hosts), "archive_url": client.archive_url, "cache": str(client.memory.folder), "policy": list(client.policy)}
    host, call = "image.tmdb.org", share_budgets(client.archive_url)
    work = [f"https://{host}/t/p/w185/a.jpg"], parts, call, "", str(tmp_path / "cache"), 3
    with connected(three.address) as dask:
        assert "challenge" in dask.submit(block, call, host, list(client.policy)).result()
        found = dask.submit(fetch_shard, *work, pure=False).result()
    assert found == {"found": [], "hosts": {host: [{}, 0.0, found["hosts"][host][2]]}} and "challenge" in found["hosts"][host][2]


def test_killed_worker_costs_no_poster_and_no_connection(fetch, tmp_path, archive, monkeypatch):
    log = tmp_path / "log"
    with a_cluster(tmp_path / "dask", 2) as dask:
        threading.Thread(target=lambda: (wait_for(lambda: len(read_log(log)) > 30), dask.kill(dask.workers[0])), daemon=True).start()
        _, table = fetch("shared", log, connections=2, rate=20)
        assert len(dask.workers) == 1
    asked = [entry.path for entry in read_log(log)]
    assert len(set(asked)) == MOVIES and len(asked) <= MOVIES + 2, "only what was on its way is asked for again"
    monkeypatch.delenv(ADDRESS)
    assert fetch("alone", connections=3)[1] == table
