"""What goes wrong on the web, and what must come of it: a client, and the steps that use it, against a server that misbehaves."""
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from web_help import client_for, draw_posters, misbehaving, read_log, served

from poster_genres import download as download_module
from poster_genres import scraping, web
from poster_genres.lib.runs import InputError, RefusedError, read_table
from poster_genres.download import download, fetch_poster
from poster_genres.demo.server import poster_link, replay
from poster_genres.scraping import scrape, web_client
from poster_genres.lib.client import Manners, WebError, fetch_all

IDS = [f"tt{number:07}" for number in range(1, 31)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    "Thirty movies, each with a poster of its own."
    return draw_posters(tmp_path_factory.mktemp("web") / "archive", 30)


def title(imdb_id):
    return f"https://www.imdb.com/title/{imdb_id}/"


# --- refusals

@pytest.mark.parametrize("fault, words", [("challenge", "challenge.*HTTP 202"), ("forbidden", "HTTP 403"), ("captcha", "a captcha"),
                                          ("consent", "a consent form"), ("come_tomorrow", "come back in 360 minutes or later")])
def test_a_refusal_ends_the_step_and_the_questions(archive, tmp_path, monkeypatch, fault, words):
    misbehaving(monkeypatch, scraping, faults={fault: "/title/"}, log=tmp_path / "log")
    with pytest.raises(RefusedError, match=f"www.imdb.com .*{words}.*-p source tmdb.* 0 of 30 title pages") as error:
        scrape(tmp_path / "run", archive=archive, connections=1)
    assert error.value.exit_status == 3 and "\n" not in str(error.value)
    assert len(read_log(tmp_path / "log")) == 1
    assert not (tmp_path / "run" / "movies.parquet").exists()


def test_a_robots_txt_that_forbids_ends_the_step_before_any_question(archive, tmp_path, monkeypatch):
    misbehaving(monkeypatch, scraping, faults={"robots": 1.0}, log=tmp_path / "log")
    with pytest.raises(RefusedError, match="forbids /title/.* in its robots.txt"):
        scrape(tmp_path / "run", archive=archive)
    assert read_log(tmp_path / "log") == []


@pytest.mark.parametrize("fault", ["error", "challenge"])
def test_a_robots_txt_that_cannot_be_read_allows_nothing(archive, tmp_path, monkeypatch, fault):
    with served(archive, faults={"error": "/robots.txt"}, log=tmp_path / "log") as url:
        with pytest.raises(RefusedError, match="does not let us read its robots.txt .*which means: ask nothing"):
            client_for(url).get(title(IDS[0]))
    assert read_log(tmp_path / "log") == []


def test_after_a_challenge_no_further_question_comes(archive, tmp_path):
    "Eight threads and four connections: what was on its way when the challenge came may arrive, and nothing after that."
    with served(archive, faults={"challenge": IDS[9], "slow": 1.0}, log=tmp_path / "log") as url:
        client = client_for(url, connections=4)
        with pytest.raises(RefusedError):
            list(fetch_all(lambda imdb_id: client.get(title(imdb_id)), IDS * 4, threads=8))
        time.sleep(0.3)
    log = read_log(tmp_path / "log")
    answered = next(entry.time + entry.seconds for entry in log if entry.outcome == "challenge")
    later = [entry for entry in log if entry.time > answered]
    assert len(log) < 20 and len(later) <= 3, "the other three connections may have been about to ask"


def test_after_a_refusal_a_step_goes_on_where_it_was(archive, tmp_path, monkeypatch):
    run = tmp_path / "runs" / "run"
    misbehaving(monkeypatch, scraping, faults={"challenge": f"/title/{IDS[20]}/"}, log=tmp_path / "log")
    with pytest.raises(RefusedError):
        scrape(run, archive=archive, connections=1)
    before = {entry.path for entry in read_log(tmp_path / "log")}
    misbehaving(monkeypatch, scraping, log=tmp_path / "log2")
    assert scrape(run, archive=archive, connections=1)["out"] == len(IDS)
    after = [entry.path for entry in read_log(tmp_path / "log2")]
    assert 0 < len(before) - 1 and not set(after) & (before - {f"/title/{IDS[20]}/"}) and len(after) == len(set(after))

    found = read_table(run / "movies.parquet")
    key = found.poster_link[20].split("/")[-1]
    misbehaving(monkeypatch, download_module, faults={"challenge": key}, log=tmp_path / "log3")
    with pytest.raises(RefusedError, match="m.media-amazon.com.*of 30 links were done before that, and their posters are kept"):
        download(run, archive=archive, connections=1)
    before = read_log(tmp_path / "log3")
    misbehaving(monkeypatch, download_module, log=tmp_path / "log4")
    assert download(run, archive=archive, connections=1)["out"] == len(IDS)
    assert len(before) > 1 and len(read_log(tmp_path / "log4")) == len(IDS) - len(before) + 1


def test_the_command_ends_with_a_status_of_its_own(archive, tmp_path, cli, monkeypatch):
    monkeypatch.setenv("POSTER_GENRES_FAULTS", '{"challenge": "/title/"}')
    done = cli("run", "--profile", "real", "--archive", archive, "--out", tmp_path / "run", "--to", "scraping")
    assert done.returncode == 3, done.stderr
    said = done.stderr.splitlines()[-1]
    assert "challenge" in said and "-p source tmdb" in said and "Traceback" not in done.stderr


def test_a_host_that_answers_nothing_is_left_alone(archive, tmp_path):
    with served(archive, faults={"error": "/title/"}, log=tmp_path / "log") as url:
        client = client_for(url, attempts=2, unanswered=5)
        outcomes = []
        with pytest.raises(RefusedError, match="has answered none of the last 5 links"):
            outcomes.extend(fetch_all(lambda imdb_id: client.get(title(imdb_id)), IDS, threads=1))
    assert len(read_log(tmp_path / "log")) == 10


# --- politeness, measured by the server's log

def test_the_rate_is_kept(archive, tmp_path):
    with served(archive, log=tmp_path / "log") as url:
        client = client_for(url, rate=50, connections=8)
        list(fetch_all(lambda imdb_id: client.get(title(imdb_id)), IDS * 20, threads=8))
    times = [entry.time for entry in read_log(tmp_path / "log")]
    seconds = times[-1] - times[0]
    assert len(times) == 600 and (len(times) - 1) / seconds <= 50.5, "twelve seconds, so that one late arrival is no matter"
    assert max(sum(start <= time < start + 0.5 for time in times) for start in times) <= 30, "no half second has more than its share"


def test_the_connections_are_kept(archive, tmp_path):
    with served(archive, faults={"slow": "/title/"}, log=tmp_path / "log") as url:
        client = client_for(url, connections=3)
        list(fetch_all(lambda imdb_id: client.get(title(imdb_id)), IDS, threads=12))
    assert max(entry.busy for entry in read_log(tmp_path / "log")) == 3


@pytest.mark.parametrize("fault, least", [("too_many", 1.0), ("too_many_until", 0.9)])
def test_retry_after_holds_everything_that_concerns_the_host(archive, tmp_path, fault, least):
    with served(archive, faults={fault: 0.03, "slow": 1.0}, log=tmp_path / "log") as url:
        client = client_for(url, connections=4)
        outcomes = dict(fetch_all(lambda imdb_id: client.get(title(imdb_id)), [f"tt{number:07}" for number in range(1, 100)], threads=4))
    log = read_log(tmp_path / "log")
    busy = [entry for entry in log if entry.outcome == fault]
    assert busy and not any(isinstance(outcomes[imdb_id], WebError) for imdb_id in IDS)
    for entry in busy:
        end = entry.time + entry.seconds
        during = [other for other in log if end < other.time < end + least - 0.15]
        assert len(during) <= 3, "a question during a pause that was asked for; the other three connections may have been about to ask"


def test_a_slow_server_is_asked_less(archive, tmp_path):
    with served(archive, faults={"slow": "/title/"}, log=tmp_path / "log") as url:
        client = client_for(url, connections=4, in_flight=1)
        list(fetch_all(lambda imdb_id: client.get(title(imdb_id)), IDS, threads=4))
        assert client.adapter.host("www.imdb.com").pace.delay >= 0.02
    log = read_log(tmp_path / "log")[10:]
    assert sum(entry.busy for entry in log) / len(log) < 1.7


# --- troubles that pass, and those that do not

@pytest.mark.parametrize("fault", ["error", "unavailable", "cut", "too_many"])
def test_what_passes_is_asked_for_again(archive, fault):
    with served(archive, faults={fault: 1.0}) as url:
        answer = client_for(url).get(poster_link(IDS[0]))
    assert len(answer.attempts) == 2 and len(answer.body) > 1000


def test_a_server_in_trouble_is_given_up(archive, tmp_path):
    with served(archive, faults={"error": "/title/", "stall": "/images/"}, log=tmp_path / "log") as url:
        client = client_for(url, attempts=2, read_timeout=0.4)
        with pytest.raises(WebError, match=r"answers 500 \(internal server error\)") as error:
            client.get(title(IDS[0]))
        assert [attempt.status for attempt in error.value.attempts] == [500, 500]
        started = time.monotonic()
        with pytest.raises(WebError, match="did not answer in time, asked 2 times"):
            client.get(poster_link(IDS[0]))
    assert time.monotonic() - started < 5


def test_an_answer_that_drips_does_not_take_forever(archive):
    with served(archive, faults={"drip": "/title/"}) as url:
        started = time.monotonic()
        with pytest.raises(WebError, match="takes too long"):
            client_for(url, total_timeout=0.5, read_timeout=2).get(title(IDS[0]))
    assert time.monotonic() - started < 4


def raw_server(answers):
    "The address of a server that sends these bytes, one after the other for each connection, with a pause between the pieces."
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.recv(10_000)
                try:
                    for piece in answers:
                        line.sendall(piece)
                        time.sleep(0.05)
                except OSError:
                    pass
    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_headers_that_drip_do_not_take_forever():
    listener, url = raw_server([b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 90])
    with listener:
        started = time.monotonic()
        with pytest.raises((WebError, RefusedError)):
            client_for(url, total_timeout=0.5, attempts=1).get(title(IDS[0]))
    assert time.monotonic() - started < 3


def test_a_small_answer_does_not_unpack_to_a_large_one():
    import gzip
    body = gzip.compress(bytes(50_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    listener, url = raw_server([head.encode() + body])
    with listener:
        client = client_for(url, largest=1_000_000)
        client.adapter.read_rules = lambda host: web.Protego.parse("")
        with pytest.raises(WebError, match="larger than 1,000,000 bytes"):
            client.get(title(IDS[0]))


def answering(head, body=b""):
    "A server that answers every question with these lines and this body, and hangs up."
    lines = [*head, f"Content-Length: {len(body)}"] if not any("Content-Length" in line for line in head) else head
    return raw_server(["\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body])


@pytest.mark.parametrize("head", [("HTTP/1.1 403 Forbidden", "Content-Length: 500"), ("HTTP/1.1 403 Forbidden", "Content-Encoding: gzip"),
                                  ("HTTP/1.1 202 Accepted", "x-amzn-waf-action: challenge", "Content-Encoding: gzip")])
def test_a_refusal_counts_although_its_body_is_broken(head):
    listener, url = answering(head, b"short")
    with listener:
        client = client_for(url)
        client.adapter.read_rules = lambda host: web.Protego.parse("")
        with pytest.raises(RefusedError, match="HTTP (403|202)"):
            client.get(title(IDS[0]))
        assert client.adapter.host("www.imdb.com").counts["requests"] == 1


def test_a_pause_that_was_asked_for_outlives_the_link(archive, tmp_path):
    with served(archive, faults={"too_many": "/title/"}, log=tmp_path / "log") as url:
        client = client_for(url, attempts=1)
        list(fetch_all(lambda imdb_id: client.get(title(imdb_id)), IDS[:2], threads=1))
    first, second = (entry.time for entry in read_log(tmp_path / "log"))
    assert second - first > 0.9


def test_the_refusal_of_one_host_does_not_end_what_concerns_another(archive):
    with served(archive, faults={"challenge": "/title/"}) as url:
        client, done = client_for(url), []
        with pytest.raises(RefusedError, match="www.imdb.com"):
            for link, _ in fetch_all(client.get, [title(IDS[0]), *map(poster_link, IDS)], threads=2):
                done.append(link)
    assert done and set(done) == set(map(poster_link, IDS))


@pytest.mark.parametrize("head, body, words", [
    (("HTTP/1.1 302 Found", "Location: /robots2.txt"), b"", "does not let us read its robots.txt"),
    (("HTTP/1.1 302 Found", "Location: https://[::1/"), b"", "does not let us read its robots.txt"),
    (("HTTP/1.1 200 OK",), b"\xef\xbb\xbfUser-agent: *\nDisallow: /", "forbids /title/"),
    (("HTTP/1.1 200 OK",), b"User-agent: *\nCrawl-delay: 86400", "asks for 86,400 seconds between two requests")])
def test_odd_rules(head, body, words):
    listener, url = answering(head, body)
    with listener, pytest.raises(RefusedError, match=words):
        client_for(url).get(title(IDS[0]))


def test_a_redirect_to_nowhere_is_a_line_and_not_the_end():
    listener, url = answering(("HTTP/1.1 302 Found", "Location: https://[::1/"))
    with listener:
        client = client_for(url)
        client.adapter.read_rules = lambda host: web.Protego.parse("")
        with pytest.raises(WebError, match="leads to none"):
            client.get(title(IDS[0]))


# --- safety

def test_a_name_that_leads_into_a_private_network_is_refused(monkeypatch):
    monkeypatch.setenv("POSTER_GENRES_CONTACT", "someone@example.org")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))])
    client = web_client("")
    client.adapter.read_rules = lambda host: web.Protego.parse("")
    client.adapter.manners = Manners()
    with pytest.raises(WebError, match="leads to 127.0.0.1, which is no address of the public internet"):
        client.get(title(IDS[0]))


def test_the_web_is_not_asked_without_a_contact(archive, tmp_path, monkeypatch, cli):
    monkeypatch.delenv("POSTER_GENRES_CONTACT", raising=False)
    with pytest.raises(InputError, match="--contact you@example.org"):
        scrape(tmp_path / "run", catalogue=f"{archive}/movies_metadata.csv")
    assert "someone" in web.user_agent("someone@example.org")
    done = cli("run", "--profile", "tmdb", "--catalogue", f"{archive}/movies_metadata.csv", "--out", tmp_path / "run2", "--contact", "nobody", "--dry-run")
    assert done.returncode == 2 and "the contact is 'nobody'" in done.stderr


def test_nothing_is_written_outside_the_cache_and_the_run(archive, tmp_path, monkeypatch):
    misbehaving(monkeypatch, scraping), misbehaving(monkeypatch, download_module)
    scrape(tmp_path / "runs" / "run", archive=archive)
    download(tmp_path / "runs" / "run", archive=archive)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"cache", "run"}


# --- offline and memory

def test_offline_repeats_both_steps_byte_for_byte(tmp_path, monkeypatch):
    archive = draw_posters(tmp_path / "archive", 60, lacking=20)
    faults = {"error": "tt0000007", "truncated": 0.2, "gone": 0.2, "moving": 0.3}
    options = {"archive": archive, "missing": "all"}
    misbehaving(monkeypatch, scraping, faults=faults), misbehaving(monkeypatch, download_module, faults=faults)
    monkeypatch.setattr(web.Manners, "__new__", impatient(web.Manners.__new__))
    scrape(tmp_path / "runs" / "online", **options), download(tmp_path / "runs" / "online", archive=archive)
    for module in (scraping, download_module):
        monkeypatch.setattr(module, "replay", lambda *args: pytest.fail("somebody was asked"))
    monkeypatch.setattr(socket, "create_connection", lambda *args: pytest.fail("a connection was opened"))
    scrape(tmp_path / "runs" / "offline", offline=True, **options), download(tmp_path / "runs" / "offline", archive=archive, offline=True)
    for name in ("movies.parquet", "posters.parquet", "attempts.parquet"):
        assert (tmp_path / "runs/online" / name).read_bytes() == (tmp_path / "runs/offline" / name).read_bytes(), name
    table = read_table(tmp_path / "runs/online/posters.parquet")
    assert {"ok", "failed"} == set(table.status) and table.reason.nunique() >= 3


def impatient(new):
    "Makes manners that do not wait for long."
    return lambda cls, *args, **kwargs: new(cls, *args, **{"pause": 0.01} | kwargs)


def test_a_dead_link_is_asked_for_once_a_week(archive, tmp_path):
    with served(archive, faults={"gone": IDS[1]}, log=tmp_path / "log") as url:
        for fresh in (1000, 1000, 0):
            client = client_for(url, fresh=fresh)
            assert fetch_poster(client, "https://image.tmdb.org/t/p/w185/none.jpg", tmp_path / "posters").status == 404
            with pytest.raises(WebError, match="404"):
                client_for(url, tmp_path / "pages", fresh=fresh).get(title("tt9999999"))
    assert len(read_log(tmp_path / "log")) == 4


def test_an_old_poster_is_asked_for_with_a_condition(archive, tmp_path):
    with served(archive, log=tmp_path / "log") as url:
        fetched = [fetch_poster(client_for(url, fresh=0), poster_link(IDS[0]), tmp_path / "posters") for _ in range(2)]
    assert fetched[0] == fetched[1]
    assert [entry.outcome for entry in read_log(tmp_path / "log")] == ["200", "304"]
    with served(archive, faults={"error": "/images/"}) as url:
        assert fetch_poster(client_for(url, fresh=0, attempts=1), poster_link(IDS[0]), tmp_path / "posters") == fetched[0], "better than none"


def test_a_key_goes_nowhere(archive, tmp_path, monkeypatch):
    secret = f"{random.getrandbits(128):032x}"
    monkeypatch.setenv("TMDB_API_KEY", secret)
    misbehaving(monkeypatch, scraping)
    run = tmp_path / "runs" / "run"
    scrape(run, archive=archive, source="tmdb")
    misbehaving(monkeypatch, download_module, faults={"gone": "x.jpg"}, log=tmp_path / "log")
    done = download(run, archive=archive)
    assert done["out"] == len(IDS), "every path was dead, and every movie was looked up"
    posters = read_table(run / "posters.parquet")
    assert posters.poster_link.str.fullmatch(r"https://image.tmdb.org/t/p/w185/tt\d{7}.jpg").all() and posters.reason.isna().all()
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert len(written) > 30 and not any(secret.encode() in path.read_bytes() for path in written)


# --- the server itself

def test_a_port_that_is_taken_is_one_line(archive):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} cannot be used"), replay(archive, port=port):
            pass
        done = subprocess.run([sys.executable, "-m", "poster_genres.demo.server", archive, "--port", str(port)],
                              check=False, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_a_server_does_not_outlive_whoever_started_it(archive):
    code = f"from poster_genres.demo.server import replay\nwith replay({archive!r}) as url: print(url, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    port = int(parent.stdout.readline().rsplit(":", 1)[1])
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    parent.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    parent.wait()
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the server is still there")
