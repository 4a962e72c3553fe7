"""A download that is killed again and again ends with the files and the table of an undisturbed one."""
import json
import multiprocessing
import random
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from web_help import draw_posters, misbehaving, read_log, served

from poster_genres import download as download_module
from poster_genres.lib.runs import read_table
from poster_genres.download import download
from poster_genres.scraping import scrape
from poster_genres.lib.client import Memory


def download_from(url, run, archive):
    "The step in a process of its own, with a server that runs elsewhere."
    @contextmanager
    def elsewhere(*_, **options):
        yield url
    download_module.stand_in = elsewhere
    download(run, archive=archive)


def completed(folder, links):
    "Those of the links whose posters are complete."
    memory = Memory(folder, ".jpg")
    complete = {link for link in links if memory.path(link).exists()}
    assert len(complete) == len(list(folder.glob("*/[0-9a-f]*.jpg"))), "a poster of another link"
    assert all(memory.get(link).sha256 for link in complete), "a poster without a record, or that is not what its record says"
    assert all(json.loads(path.read_text()) for path in folder.glob("*/[0-9a-f]*.json")), "half a record"
    return complete


def contents(folder):
    "The posters' bytes by their names."
    return {path.name: path.read_bytes() for path in folder.rglob("[0-9a-f]*.jpg")}


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_downloads(tmp_path, monkeypatch, kills):
    archive = draw_posters(tmp_path / "archive", 40 * kills, lacking=20)
    log, dice, context = tmp_path / "log", random.Random(kills), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["poster_genres.download"])
    for name in ("quiet", "killed"):
        scrape(tmp_path / name / "run", archive=archive, missing="all", source="tmdb")
    misbehaving(monkeypatch, download_module, faults={"truncated": 0.05})
    download(tmp_path / "quiet" / "run", archive=archive)

    links = set(read_table(tmp_path / "quiet" / "run" / "movies.parquet").poster_link.dropna())
    run, before, done, struck = tmp_path / "killed" / "run", Counter(), set(), 0
    with served(archive, faults={"truncated": 0.05, "slow": "/t/p/"}, log=log) as url:
        posters = next((tmp_path / "quiet" / "cache").iterdir()).name
        posters = tmp_path / "killed" / "cache" / posters / "posters"
        while not (run / "posters.parquet").exists():
            process = context.Process(target=download_from, args=(url, str(run), archive))
            process.start()
            if struck < kills:
                time.sleep(0.05 + 0.3 * dice.random())
                struck += process.is_alive()
                process.kill()
            process.join()
            asked = Counter(entry.path for entry in read_log(log))
            again = {path for path in asked if asked[path] > before[path]} & {link.split(".org")[1] for link in done}
            assert not again, "a poster that was complete was fetched again"
            before, done = asked, completed(posters, links)
    assert struck >= kills // 2, "too few kills came before the end"
    assert (run / "posters.parquet").read_bytes() == (tmp_path / "quiet" / "run" / "posters.parquet").read_bytes()
    assert contents(posters) == contents(tmp_path / "quiet" / "cache")
    table = read_table(run / "posters.parquet")
    assert (table.status == "ok").sum() > 30 * kills and table.path.dropna().map(lambda path: (run / path).resolve().exists()).all()
