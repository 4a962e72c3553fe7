"""Every way in which the replay server can misbehave, each with what must come of it; and many of them at once over 2,000 posters."""
import io

import pytest
from PIL import Image
from web_help import client_for, draw_posters, fetch_poster, misbehaving, read_log, served

from poster_genres import download as download_module
from poster_genres import scraping
from poster_genres.lib.runs import RefusedError, read_table
from poster_genres.download import check_poster, download
from poster_genres.lib.images import BadImage
from poster_genres.demo.server import BLOCKS, DEAD_ENDS, FAULTS, NO_IMAGES, ODD_IMAGES, ON_THE_LINE, TROUBLES, fault_of, poster_link
from poster_genres.scraping import scrape

LINK = poster_link("tt0000001", "UX182_")
OUTCOMES = {  # fault: what the poster's row says; None: a poster. Blocks are RefusedErrors.
    "challenge": "answers with a challenge", "forbidden": "answers 403", "captcha": "answers with a captcha", "consent": "a consent form",
    "robots": "in its robots.txt", "come_tomorrow": "asks us to come back",
    "error": "answers 500", "unavailable": "answers 503", "too_many": "answers 429", "too_many_until": "answers 429",
    "stall": "did not answer in time", "cut": "the line broke", "slow": None,
    "gone": "answers 410", "away": "'example.org' is not one of the hosts", "inwards": "'127.0.0.1' is not one of the hosts", "circle": "too many redirects",
    "truncated": "damaged image", "mislabelled": "a web page", "empty": "empty file", "vector": "a web page", "document": "no image in a known format",
    "giant": "more pixels than are safe", "endless": "larger than 1,000,000 bytes", "pixel": "too small for a poster: 1 x 1 pixels",
    "grey": None, "printed": None, "palette": None, "sixteen_bits": None, "lying": None, "moving": None,
}
KEPT = {"slow": "as it is", "grey": "from grey", "printed": "from CMYK", "palette": "from a palette", "sixteen_bits": "from I;16",
        "lying": "turned upright", "moving": "first frame, from a palette"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    "Three movies."
    return draw_posters(tmp_path_factory.mktemp("faults") / "archive", 3)


def test_every_fault_has_an_expected_outcome():
    assert set(OUTCOMES) == set(FAULTS) == {*BLOCKS, *TROUBLES, *ON_THE_LINE, *DEAD_ENDS, *NO_IMAGES, *ODD_IMAGES}
    assert set(KEPT) == {name for name, reason in OUTCOMES.items() if reason is None}


@pytest.mark.parametrize("fault", OUTCOMES)
def test_fault(archive, tmp_path, fault):
    with served(archive, faults={fault: "/robots.txt" if fault == "robots" else "/images/"}, log=tmp_path / "log") as url:
        client = client_for(url, tmp_path / "posters", attempts=2, read_timeout=0.3 if fault == "stall" else 5, total_timeout=20, max_bytes=1_000_000)
        if fault in {*BLOCKS, "come_tomorrow"} - {"forbidden"}:
            with pytest.raises(RefusedError, match=OUTCOMES[fault]):
                fetch_poster(client, LINK)
            assert len(read_log(tmp_path / "log")) == (fault != "robots")
            return
        fetched = fetch_poster(client, LINK)
        again = fetch_poster(client, LINK)
    if OUTCOMES[fault] is None:
        assert fetched.facts["kept"] == KEPT[fault] and client.memory.path(LINK).is_file() and fetched.reason is None
        assert again == fetched and len(read_log(tmp_path / "log")) == 1
    else:
        assert OUTCOMES[fault] in fetched.reason and not list(tmp_path.rglob("*.jpg"))
        assert len(fetched.attempts) == {"circle": 6}.get(fault, 2 if fault in (*TROUBLES, "stall", "cut") else 1)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_a_moving_picture_that_ends_too_early_is_kept_or_refused(kind):
    "Wherever the line breaks, there is a reason and no other error; the first frame may be whole where a later one is not."
    frames = [Image.effect_noise((48, 64), 90 + number).convert("P" if kind == "GIF" else "RGB") for number in range(3)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    data, refused = file.getvalue(), 0
    for end in range(1, len(data), max(1, len(data) // 400)):
        try:
            check_poster(data[:end])
        except BadImage:
            refused += 1
    assert refused > 50 and check_poster(data)["kept"].startswith("first frame")


SHARES = {"error": 0.04, "unavailable": 0.02, "too_many": 0.004, "cut": 0.05, "gone": 0.03, "away": 0.02, "circle": 0.005, "truncated": 0.03,
          "mislabelled": 0.02, "empty": 0.01, "vector": 0.005, "giant": 0.005, "pixel": 0.005, "grey": 0.02, "printed": 0.02, "palette": 0.02,
          "lying": 0.02, "moving": 0.01}  # 30 % in all
LASTING = {"gone", "away", "circle", "truncated", "mislabelled", "empty", "vector", "giant", "pixel"}


@pytest.mark.parametrize("movies", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_faults_lose_nothing_that_could_be_had(tmp_path, monkeypatch, movies):
    archive, run = draw_posters(tmp_path / "archive", movies, lacking=movies // 20), tmp_path / "runs" / "run"
    for module in (scraping, download_module):
        monkeypatch.setattr(module, "site_client", lambda url, connections, cache, *args: client_for(url, cache, connections=8, attempts=5))
        misbehaving(monkeypatch, module, faults=SHARES)
    scrape(run, archive=archive, missing="all")
    download(run, archive=archive)
    catalogue, posters = read_table(run / "movies.parquet"), read_table(run / "posters.parquet")
    assert len(catalogue) == movies and catalogue.reason.notna().eq(catalogue.poster_link.isna()).all(), "a link or a reason for every movie"
    assert set(posters.imdb_id) == set(catalogue.imdb_id[catalogue.status == "found"])

    def fetchable(imdb_id, link):
        path = link.split("m.media-amazon.com")[1]
        return int(imdb_id[2:]) <= movies - movies // 20 and fault_of(SHARES, path, 9) not in LASTING
    expected = [fetchable(*row) for row in zip(posters.imdb_id, posters.poster_link)]
    assert list(posters.status == "ok") == expected
    assert posters.reason.notna().eq(posters.status != "ok").all(), "every other one is explained"
    assert 0.7 * movies < sum(expected) < 0.95 * movies
    for path in posters.path.dropna():
        assert (run / path).resolve().is_file()
