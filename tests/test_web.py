"""What goes wrong on the web, and what must come of it: a client, and the steps that use it, against a server that misbehaves."""
import functools
import gzip
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import urllib3
from web_help import client_for, draw_posters, fetch_poster, misbehaving, read_log, served

from poster_genres import download as download_module
from poster_genres import scraping
from poster_genres.demo.server import StandInServer, index_archive, poster_link
from poster_genres.download import download
from poster_genres.lib import client as client_module
from poster_genres.lib.client import Client, ClientPolicy, HostBudget, fetch_all
from poster_genres.lib.runs import InputError, RefusedError, read_table
from poster_genres.lib.sites import site_client
from poster_genres.scraping import scrape

IDS = [f"tt{number:07}" for number in range(1, 31)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    "Thirty movies, each with a poster of its own."
    return draw_posters(tmp_path_factory.mktemp("web") / "archive", 30)


def title(imdb_id):
    return f"https://www.imdb.com/title/{imdb_id}/"


# --- blocks

@pytest.mark.parametrize("fault, words", [("challenge", "challenge.*HTTP 202"), ("captcha", "a captcha"),
                                          ("consent", "a consent form"), ("come_tomorrow", "come back in 360 minutes or later")])
def test_a_block_ends_the_step_and_the_requests(archive, tmp_path, monkeypatch, fault, words):
    misbehaving(monkeypatch, scraping, faults={fault: "/title/"}, log=tmp_path / "log")
    with pytest.raises(RefusedError, match=f"www.imdb.com .*{words}.*-p source tmdb.* 0 of 30 title pages") as error:
        scrape(tmp_path / "run", archive=archive, connections=1)
    assert error.value.exit_status == 3 and "\n" not in str(error.value)
    assert len(read_log(tmp_path / "log")) == 1
    assert not (tmp_path / "run" / "movies.parquet").exists()


def test_a_robots_txt_that_forbids_ends_the_step_before_any_request(archive, tmp_path, monkeypatch):
    misbehaving(monkeypatch, scraping, faults={"robots": 1.0}, log=tmp_path / "log")
    with pytest.raises(RefusedError, match="forbids /title/.* in its robots.txt"):
        scrape(tmp_path / "run", archive=archive)
    assert read_log(tmp_path / "log") == []


@pytest.mark.parametrize("fault", ["error", "unavailable", "cut"])
def test_a_robots_txt_that_cannot_be_read_allows_nothing(archive, tmp_path, fault):
    with served(archive, faults={fault: "/robots.txt"}, log=tmp_path / "log") as url:
        with pytest.raises(RefusedError, match="does not let us read its robots.txt .*which means: ask nothing"):
            client_for(url).fetch(title(IDS[0]))
    assert read_log(tmp_path / "log") == []


@pytest.mark.parametrize("faults, expected", [({"forbidden": IDS[3]}, 29), ({"forbidden": 0.1}, None), ({"forbidden": "/title/"}, "in a row")])
def test_one_forbidden_file_is_that_files_fate_and_many_in_a_row_are_a_block(archive, tmp_path, monkeypatch, faults, expected):
    misbehaving(monkeypatch, scraping, faults=faults, log=tmp_path / "log")
    if expected == "in a row":
        with pytest.raises(RefusedError, match=r"www.imdb.com forbids 5 different links in a row \(HTTP 403\)") as error:
            scrape(tmp_path / "runs" / "run", archive=archive, connections=1)
        assert error.value.exit_status == 3 and len(read_log(tmp_path / "log")) == 5
        misbehaving(monkeypatch, scraping)
        assert scrape(tmp_path / "runs" / "run", archive=archive)["out"] == 30, "none of the five is given up for it"
        return
    scrape(tmp_path / "runs" / "run", archive=archive, connections=1)
    table = read_table(tmp_path / "runs" / "run" / "movies.parquet")
    assert set(table.reason.dropna()) == {"the server answers 403 (forbidden)"} and 0 < table.reason.notna().sum() < 5
    assert expected is None or (table.status == "found").sum() == expected


def test_after_a_challenge_no_further_request_comes(archive, tmp_path):
    "Eight threads and four connections: what the other three were about to ask when the challenge was seen may still arrive, and nothing after that."
    seen = []

    def fetch(imdb_id):
        try:
            return client.fetch(title(imdb_id))
        except RefusedError:
            seen.append(time.time())
            raise

    with served(archive, faults={"challenge": IDS[9], "slow": 1.0}, log=tmp_path / "log") as url:
        client = client_for(url, connections=4)
        with pytest.raises(RefusedError):
            list(fetch_all(fetch, IDS * 40, threads=8))
        time.sleep(0.3)
    log = read_log(tmp_path / "log")
    assert len(log) < len(IDS) * 40 and len([entry for entry in log if entry.time > min(seen)]) <= 3


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


def test_two_clients_can_share_the_budget_of_a_host(archive, tmp_path):
    "As the workers of a cluster do: what blocks the one is not asked by the other."
    budgets = {}
    with served(archive, faults={"challenge": IDS[0]}, log=tmp_path / "log") as url:
        one, other = (Client(["www.imdb.com"], url, budget=lambda *about: budgets.setdefault(about, HostBudget(*about))) for _ in range(2))
        with pytest.raises(RefusedError, match="challenge"):
            one.fetch(title(IDS[0]))
        with pytest.raises(RefusedError, match="challenge"):
            other.fetch(title(IDS[1]))
    assert len(read_log(tmp_path / "log")) == 1


def test_a_host_that_answers_nothing_is_left_alone(archive, tmp_path):
    with served(archive, faults={"error": "/title/"}, log=tmp_path / "log") as url:
        client = client_for(url, attempts=2, unanswered=5)
        outcomes = []
        with pytest.raises(RefusedError, match="has answered none of the last 5 links"):
            outcomes.extend(fetch_all(lambda imdb_id: client.fetch(title(imdb_id)), IDS, threads=1))
    assert len(read_log(tmp_path / "log")) == 10


# --- rate limiting, by recorded times

@pytest.fixture
def recorded(monkeypatch):
    "The start, the end, the host and the `Attempt` of each request that the client makes."
    requests, ask_once = [], client_module._ask_once

    def recording(host, target, headers):
        started = time.monotonic()
        outcome = ask_once(host, target, headers)
        requests.append((started, time.monotonic(), host.name, outcome[0]))
        return outcome
    monkeypatch.setattr(client_module, "_ask_once", recording)
    return requests


def test_the_rate_is_kept(archive):
    with served(archive) as url:
        client, started = client_for(url, rate=50, connections=8), time.monotonic()
        list(fetch_all(client.fetch, map(title, IDS * 3), threads=8))
        assert time.monotonic() - started >= 90 / 50, "ninety pages and robots.txt, and the first is not waited for"


def test_several_threads_share_one_limit():
    "A clock that only moves when a thread sleeps, and never back: each slot is taken once."
    now, lock, slots = [0.0], threading.Lock(), []

    def sleep(seconds):
        with lock:
            now[0] += seconds
    budget = HostBudget("example.org", ClientPolicy(rate=10))
    budget.clock, budget.sleep = lambda: now[0], sleep

    def ask():
        for _ in range(20):
            budget.acquire()
            slots.append(1)
    threads = [threading.Thread(target=ask) for _ in range(5)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(slots) == 100 and budget.next >= 100 / 10 - 1e-9


def test_the_connections_are_kept(archive, recorded):
    with served(archive, faults={"slow": "/title/"}) as url:
        client = client_for(url, connections=3)
        list(fetch_all(client.fetch, map(title, IDS), threads=12))
    changes = sorted([(start, 1) for start, *_ in recorded] + [(end, -1) for _, end, *_ in recorded])
    assert 1 < max(sum(change for _, change in changes[:end]) for end in range(len(changes))) <= 3


@pytest.mark.parametrize("fault, least", [("too_many", 1.0), ("too_many_until", 0.9)])
def test_retry_after_holds_everything_that_concerns_the_host(archive, recorded, fault, least):
    with served(archive, faults={fault: 0.03, "slow": 1.0}) as url:
        client = client_for(url, connections=4)
        outcomes = list(fetch_all(client.fetch, [title(f"tt{number:07}") for number in range(1, 100)], threads=4))
    busy = [end for _, end, _, attempt in recorded if attempt.status == 429]
    assert busy and not any("429" in (fetched.reason or "") for _, fetched in outcomes)
    for end in busy:
        during = [start for start, *_ in recorded if end < start < end + least - 0.05]
        assert len(during) <= 3, "a request during a pause that was asked for; the other three connections may have been about to ask"


def test_a_slow_server_is_asked_less(archive):
    with served(archive, faults={"slow": "/title/"}) as url:
        client = client_for(url, connections=4, target_concurrency=1)
        list(fetch_all(client.fetch, map(title, IDS), threads=4))
        assert client.hosts["www.imdb.com"].budget.delay >= 0.02


def test_no_lock_is_held_while_robots_txt_is_waited_for(archive):
    "Another host is asked, and counted, while one does not answer."
    with served(archive, faults={"stall": "/robots.txt"}) as url:
        client = client_for(url, attempts=1, read_timeout=2)
        waiting = threading.Thread(target=lambda: pytest.raises(RefusedError, client.fetch, title(IDS[0])))
        waiting.start()
        host = client.hosts["www.imdb.com"]
        while not host.reading.locked():
            time.sleep(0.01)
        assert waiting.is_alive() and host.lock.acquire(timeout=0.5), "its requests are counted meanwhile"
        host.lock.release()
        assert client.fetch(poster_link(IDS[0]), obey=False).reason is None, "another host is asked"
        waiting.join()


# --- troubles that pass, and those that do not

@pytest.mark.parametrize("fault", ["error", "unavailable", "cut", "too_many"])
def test_what_passes_is_asked_for_again(archive, fault):
    with served(archive, faults={fault: 1.0}) as url:
        answer = client_for(url).fetch(poster_link(IDS[0]))
    assert len(answer.attempts) == 2 and len(answer.body) > 1000


def test_a_server_in_trouble_is_given_up(archive):
    with served(archive, faults={"error": "/title/", "stall": "/images/"}) as url:
        client = client_for(url, attempts=2, read_timeout=0.4)
        answer = client.fetch(title(IDS[0]))
        assert answer.reason == "the server answers 500 (internal server error)" and [attempt.status for attempt in answer.attempts] == [500, 500]
        assert client.fetch(poster_link(IDS[0])).reason == "the server did not answer in time, asked 2 times"


def raw_server(answers, pause=0.05):
    "The address of a server that sends these bytes, one after the other for each connection, with a pause between the pieces; and what it was asked."
    listener, asked = socket.create_server(("127.0.0.1", 0)), []

    def answer(line):
        with line:
            asked.append(line.recv(10_000))
            try:
                for piece in answers:
                    line.sendall(piece)
                    time.sleep(pause)
            except OSError:
                pass

    def serve():
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(line,), daemon=True).start()
    threading.Thread(target=serve, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}", asked


HEAD, CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", b"Transfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "headers": [HEAD, *[b"X-Slow: 1\r\n"] * 99], "interim answers": [b"HTTP/1.1 100 Continue\r\n\r\n"] * 100, "a status line": [b"H"] * 100,
    "a body": [HEAD + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 100], "a body without an end": [HEAD + b"\r\n", *[b"x"] * 100],
    "a chunk's length": [HEAD + CHUNKED, *[b"0"] * 100], "chunks": [HEAD + CHUNKED, *[b"1\r\nx\r\n"] * 100],
    "a chunk's extension": [HEAD + CHUNKED + b"1;", *[b"x"] * 100], "trailers": [HEAD + CHUNKED + b"1\r\nx\r\n0\r\n", *[b"X: 1\r\n"] * 100],
    "a packed file's name": [HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08" + bytes(5) + b"\x03", *[b"name"] * 100],
    "empty packed blocks": [HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], *[b"\0\0\0\xff\xff"] * 100]}


def without_rules(client):
    "The same client, which takes everything for allowed."
    client.fetch = functools.partial(client.fetch, obey=False)
    return client


@pytest.mark.parametrize("what", DRIPS)
def test_no_answer_takes_longer_than_its_time(what):
    listener, url, _ = raw_server(DRIPS[what])
    with listener:
        started = time.monotonic()
        fetched = without_rules(client_for(url, total_timeout=0.5, attempts=1)).fetch(title(IDS[0]))
    assert "takes too long" in fetched.reason and time.monotonic() - started < 4, "it would drip for five seconds"


@pytest.mark.parametrize("pieces", [[HEAD, b"Content-Length: 9\r\n" + b"X-Large: 1\r\n" * 10 + b"X-Y: " + b"1" * 60_000 + b"\r\n"] * 40,
                                    [HEAD + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08" + bytes(5) + b"\x03", *[b"name" * 10_000] * 100],
                                    [HEAD + CHUNKED, *[b"1;" + b"x" * 60_000 + b"\r\nx\r\n"] * 40],
                                    [HEAD + b"Content-Length: 3000000\r\n\r\n"], [HEAD + CHUNKED, *[b"10000\r\n" + bytes(65_536) + b"\r\n"] * 40]])
def test_no_answer_is_larger_than_it_may_be(pieces):
    listener, url, _ = raw_server(pieces, 0)
    with listener:
        fetched = without_rules(client_for(url, max_bytes=1_000_000, attempts=1)).fetch(title(IDS[0]))
    assert "larger than 1,000,000 bytes" in fetched.reason or "the line broke" in fetched.reason or "cannot be reached" in fetched.reason
    assert not fetched.body


@pytest.mark.parametrize("times", [1, 2])
def test_a_small_answer_does_not_unpack_to_a_large_one(times):
    body = gzip.compress(bytes(50_000_000))
    kinds = ", ".join(["gzip"] * times)
    body = gzip.compress(body) if times == 2 else body
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {kinds}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    listener, url, _ = raw_server([head.encode() + body])
    with listener:
        fetched = without_rules(client_for(url, max_bytes=1_000_000)).fetch(title(IDS[0]))
    assert "larger than 1,000,000 bytes" in fetched.reason if times == 1 else "which we did not ask for" in fetched.reason


def answering(head, body=b""):
    "A server that answers every request with these lines and this body, and hangs up."
    lines = [*head, f"Content-Length: {len(body)}"] if not any("Content-Length" in line for line in head) else head
    return raw_server(["\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body])


@pytest.mark.parametrize("head", [("Content-Length: 500",), ("Content-Encoding: gzip",), ("Content-Encoding: br",)])
def test_a_block_counts_although_its_body_is_broken(head):
    listener, url, _ = answering(("HTTP/1.1 202 Accepted", "x-amzn-waf-action: challenge", *head), b"short")
    with listener:
        client = without_rules(client_for(url))
        with pytest.raises(RefusedError, match="challenge .*HTTP 202"):
            client.fetch(title(IDS[0]))
        assert client.hosts["www.imdb.com"].counts["requests"] == 1


def test_a_pause_that_was_asked_for_outlives_the_link(archive, recorded):
    with served(archive, faults={"too_many": "/title/"}) as url:
        list(fetch_all(client_for(url, attempts=1).fetch, map(title, IDS[:2]), threads=1))
    _, (_, ended, *_), (started, *_) = recorded
    assert started - ended > 0.9


def test_the_block_of_one_host_does_not_end_what_concerns_another(archive):
    with served(archive, faults={"challenge": "/title/"}) as url:
        client, done = client_for(url), []
        with pytest.raises(RefusedError, match="www.imdb.com"):
            for link, _ in fetch_all(client.fetch, [title(IDS[0]), *map(poster_link, IDS)], threads=2):
                done.append(link)
    assert done and set(done) == set(map(poster_link, IDS))


@pytest.mark.parametrize("head, body, words", [
    (("HTTP/1.1 302 Found", "Location: /robots2.txt"), b"", "does not let us read its robots.txt"),
    (("HTTP/1.1 302 Found", "Location: https://[::1/"), b"", "does not let us read its robots.txt"),
    (("HTTP/1.1 200 OK",), b"\xef\xbb\xbfUser-agent: *\nDisallow: /", "forbids /title/"),
    (("HTTP/1.1 200 OK",), b"User-agent: *\nDisallow: /*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t*t", "forbids /title/"),
    (("HTTP/1.1 200 OK",), b"User-agent: *\nCrawl-delay: 86400", "asks for 86,400 seconds between two requests")])
def test_odd_rules(head, body, words):
    listener, url, _ = answering(head, body)
    with listener, pytest.raises(RefusedError, match=words):
        client_for(url).fetch(title(IDS[0]))


@pytest.mark.parametrize("path", ["/a/../private", "/a/%2e%2e/private", "/%70rivate", "/./private", "/a/../private#top"])
def test_robots_txt_is_asked_about_the_path_that_is_requested(path):
    listener, url, asked = answering(("HTTP/1.1 200 OK",), b"User-agent: *\nDisallow: /private\n")
    with listener, pytest.raises(RefusedError, match="forbids /(p|%70)rivate to programs"):
        client_for(url).fetch(f"https://www.imdb.com{path}")
    assert len(asked) == 1


def test_a_redirect_to_nowhere_is_a_line_and_not_the_end():
    listener, url, _ = answering(("HTTP/1.1 302 Found", "Location: https://[::1/"))
    with listener:
        assert "leads to none" in without_rules(client_for(url)).fetch(title(IDS[0])).reason


# --- safety

@pytest.fixture
def on_the_web(monkeypatch):
    "A contact and no proxy: as it is on the web, but no name leads there."
    monkeypatch.setenv("POSTER_GENRES_CONTACT", "someone@example.org")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def leads_to(monkeypatch, address):
    "Let www.imdb.com lead to this address."
    resolve = socket.getaddrinfo
    entry = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **kwargs: entry if "imdb" in str(host) else resolve(host, *args, **kwargs))


def test_a_name_that_leads_into_a_private_network_is_refused(on_the_web):
    leads_to(on_the_web, "127.0.0.1")
    fetched = without_rules(site_client("")).fetch(title(IDS[0]))
    assert "leads to 127.0.0.1, which is no address of the public internet" in fetched.reason and len(fetched.attempts) == 1


def test_an_address_that_changes_between_check_and_connection_is_refused(on_the_web):
    listener, url, asked = answering(("HTTP/1.1 200 OK",))
    leads_to(on_the_web, "8.8.8.8")
    on_the_web.setattr(urllib3.connection.HTTPSConnection, "_new_conn", lambda self: socket.create_connection(listener.getsockname()))
    with listener:
        assert "leads to 127.0.0.1" in without_rules(site_client("")).fetch(title(IDS[0])).reason
    assert asked in ([], [b""]), "nothing was said"


def test_a_proxy_is_used_with_all_protections(on_the_web, tmp_path):
    "The proxy may stand on this machine; where a name leads that it is asked for is still checked, and its answer has a deadline."
    (tmp_path / ".netrc").write_text("default login me password secret-of-mine\n")
    on_the_web.setenv("HOME", str(tmp_path)), on_the_web.setenv("NETRC", str(tmp_path / ".netrc"))
    listener, url, asked = raw_server([b"HTTP/1.1 200 OK\r\n", *[b"X-Slow: 1\r\n"] * 99])
    with listener:
        on_the_web.setenv("HTTPS_PROXY", url.replace("//", "//us:them@"))
        client = without_rules(site_client(""))
        started = time.monotonic()
        leads_to(on_the_web, "10.0.0.1")
        assert "leads to 10.0.0.1" in client.fetch(title(IDS[0])).reason and not asked
        leads_to(on_the_web, "8.8.8.8")
        hasty = client_module.Client(client.hosts, policy=ClientPolicy(total_timeout=0.5, attempts=1, connect_timeout=0.5))
        assert hasty.fetch(title(IDS[0]), obey=False).reason and time.monotonic() - started < 4
    said = b"".join(asked)
    assert said.startswith(b"CONNECT www.imdb.com:443 ") and b"proxy-authorization: basic" in said.lower() and b"secret" not in said


@pytest.mark.parametrize("record", [{"when": "x"}, {"when": None}, {"etag": ["a"], "when": 0}, {"etag": "€", "when": 0}, {"etag": "a\nb", "when": 0}, {"facts": "text"},
                                    {"facts": {"width": "wide"}}, {"attempts": [["x", 1, {}, []]]}, {"status": []}, "[" * 100_000])
def test_a_damaged_record_is_asked_for_again(archive, tmp_path, record):
    with served(archive) as url:
        client = client_for(url, cache=tmp_path / "cache")
        whole = client.fetch(title(IDS[0]))
        path = client.memory.path(title(IDS[0]), ".json")
        path.write_text(record if isinstance(record, str) else json.dumps(json.loads(path.read_text()) | record))
        again = client.fetch(title(IDS[0]))
    assert again.reason is None and again.sha256 == whole.sha256 and again.when > whole.when


@pytest.mark.parametrize("name, value, expected", [("REQUESTS_CA_BUNDLE", "{folder}/hello.pem", "hello.pem: expected a file of certificates"),
                                                   ("HTTPS_PROXY", "http://127.0.0.1:99999", "proxy by no address"), ("HTTPS_PROXY", "http://[::", "proxy by no address")])
def test_what_is_wrong_with_this_machine_is_no_links_fate(on_the_web, tmp_path, name, value, expected):
    (tmp_path / "hello.pem").write_text("hello")
    on_the_web.setenv(name, value.format(folder=tmp_path))
    with pytest.raises(InputError, match=expected):
        without_rules(site_client("")).fetch(title(IDS[0]))


def test_a_proxy_of_another_kind_is_one_line(on_the_web):
    on_the_web.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(InputError, match="proxy of the kind socks5: expected http or https"):
        site_client("").fetch(title(IDS[0]))


def test_nothing_of_this_machine_goes_out(archive, monkeypatch, tmp_path):
    "No password of a .netrc, no cookie that an earlier answer set, no referrer, no name of a user or machine."
    (tmp_path / ".netrc").write_text("default login me password secret-of-mine\n")
    monkeypatch.setenv("HOME", str(tmp_path)), monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    listener, url, asked = raw_server([b"HTTP/1.1 302 Found\r\nSet-Cookie: who=you\r\nLocation: /next\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"])
    with listener:
        without_rules(client_for(url)).fetch(title(IDS[0]))
    assert len(asked) == 6
    for request in asked:
        names = {line.split(b":")[0].lower() for line in request.split(b"\r\n")[1:] if line}
        assert names == {b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language"}


def test_the_web_is_not_asked_without_a_contact(archive, tmp_path, monkeypatch, cli):
    monkeypatch.delenv("POSTER_GENRES_CONTACT", raising=False)
    with pytest.raises(InputError, match="--contact you@example.org"):
        scrape(tmp_path / "run", catalogue=f"{archive}/movies_metadata.csv")
    monkeypatch.setenv("POSTER_GENRES_CONTACT", "someone@example.org")
    assert site_client("").headers["User-Agent"].endswith(" (+someone@example.org)") and "+" not in client_for("http://127.0.0.1:1").headers["User-Agent"]
    monkeypatch.delenv("POSTER_GENRES_CONTACT")
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
    monkeypatch.setattr(ClientPolicy, "__new__", impatient(ClientPolicy.__new__))
    scrape(tmp_path / "runs" / "online", **options), download(tmp_path / "runs" / "online", archive=archive)
    for module in (scraping, download_module):
        monkeypatch.setattr(module, "stand_in", lambda *args, **options: pytest.fail("a server was started"))
    monkeypatch.setattr(socket, "create_connection", lambda *args: pytest.fail("a connection was opened"))
    scrape(tmp_path / "runs" / "offline", offline=True, **options), download(tmp_path / "runs" / "offline", archive=archive, offline=True)
    for name in ("movies.parquet", "posters.parquet", "attempts.parquet"):
        assert (tmp_path / "runs/online" / name).read_bytes() == (tmp_path / "runs/offline" / name).read_bytes(), name
    table = read_table(tmp_path / "runs/online/posters.parquet")
    assert {"ok", "failed"} == set(table.status) and table.reason.nunique() >= 3


def impatient(new):
    "Makes policies that do not wait for long."
    return lambda cls, *args, **kwargs: new(cls, *args, **{"back_off": 0.01} | kwargs)


def test_a_dead_link_is_asked_for_once_a_week(archive, tmp_path):
    with served(archive, faults={"gone": IDS[1]}, log=tmp_path / "log") as url:
        for max_age in (1000, 1000, 0):
            assert fetch_poster(client_for(url, tmp_path / "posters", max_age=max_age), "https://image.tmdb.org/t/p/w185/none.jpg").status == 404
            assert "404" in client_for(url, tmp_path / "pages", max_age=max_age).fetch(title("tt9999999")).reason
    assert len(read_log(tmp_path / "log")) == 4


def test_an_old_poster_is_asked_for_with_a_condition(archive, tmp_path):
    with served(archive, log=tmp_path / "log") as url:
        fetched = [fetch_poster(client_for(url, tmp_path, max_age=0), poster_link(IDS[0]))._replace(when=0) for _ in range(2)]
    assert fetched[0] == fetched[1]
    assert [entry.outcome for entry in read_log(tmp_path / "log")] == ["200", "304"]
    with served(archive, faults={"error": "/images/"}) as url:
        again = fetch_poster(client_for(url, tmp_path, max_age=0, attempts=1), poster_link(IDS[0]))
    assert again._replace(when=0) == fetched[0], "better than none"


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
        with pytest.raises(InputError, match=f"port {port} cannot be used"):
            StandInServer(index_archive(archive), port)
        done = subprocess.run([sys.executable, "-m", "poster_genres.run.cli", "serve-archive", archive, "--port", str(port)],
                              check=False, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not done.stdout


def test_a_server_does_not_outlive_what_started_it(archive):
    code = f"from poster_genres.lib.sites import stand_in\nwith stand_in({archive!r}) as url: print(url, flush=True); input()"
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
