"""What the tests of the web step share: an archive whose posters all differ, servers that misbehave, and their log."""
import threading
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from poster_genres.demo.server import StandInServer, index_archive
from poster_genres.download import check_poster
from poster_genres.lib.client import Client, ClientPolicy
from poster_genres.lib.sites import API_HOSTS, POSTER_HOSTS, TITLE_HOSTS

HOSTS = (*TITLE_HOSTS, *API_HOSTS, *POSTER_HOSTS)


def draw_posters(folder, movies, lacking=0):
    "An archive of so many movies, each with a small poster of its own, but for the last few; the folder's path as text."
    (folder / "posters").mkdir(parents=True)
    ids = [f"tt{number:07}" for number in range(1, movies + 1)]
    rows = [f"{imdb_id},Movie {number},\"[{{'name': 'Drama'}}]\",/{imdb_id}x.jpg" for number, imdb_id in enumerate(ids)]
    (folder / "movies_metadata.csv").write_text("\n".join(["imdb_id,title,genres,poster_path", *rows]), encoding="utf-8")
    random = np.random.default_rng(0)
    for imdb_id in ids[:movies - lacking]:
        tiles = random.integers(0, 255, (9, 6, 3), dtype=np.uint8)
        Image.fromarray(tiles).resize((60, 90), Image.Resampling.NEAREST).save(folder / "posters" / f"{imdb_id}.jpg")
    return str(folder)


class Asked(NamedTuple):
    "A line of the server's log."
    time: float
    host: str
    path: str
    outcome: str
    busy: int  # answers for that host that were being made
    seconds: float


def read_log(log):
    "The lines of the server's log in the order in which the questions came, robots.txt left out."
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    asked = [Asked(float(time), host, path, outcome, int(busy), float(seconds)) for time, host, path, outcome, busy, seconds in lines]
    return sorted(entry for entry in asked if entry.path != "/robots.txt")


@contextmanager
def served(archive, catalogue="", faults=None, log=""):
    "The address of a server in a thread of this process, which starts sooner than one of its own."
    server = StandInServer(index_archive(archive, catalogue), faults=faults, log=log)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def misbehaving(monkeypatch, module, **options):
    "Makes the step in `module` meet a server with these faults."
    monkeypatch.setattr(module, "stand_in", lambda archive, catalogue="", **_: served(archive, catalogue, **options))


def client_for(url, cache="", **limits):
    "A client in a hurry."
    return Client(HOSTS, url, cache, ClientPolicy(**{"back_off": 0.02, "read_timeout": 5, "advice": "Use -p source tmdb."} | limits), ending=".jpg")


def fetch_poster(client, link):
    "What step 2 does with one link."
    return client.fetch(link, check_poster)
