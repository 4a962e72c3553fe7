"""Downloads real posters from nginx on loopback, with our client and with img2dataset by turns, and measures both.

    python benchmarks/download.py ARCHIVE [--posters 10000] [--times 5] [--connections 16] [--peer PYTHON] [--rate-only]

ARCHIVE is a folder with posters/<imdb_id>.jpg. Needs nginx, and for img2dataset an environment of its own: --peer names
its Python, otherwise one is made in a temporary folder (a download of some hundred megabytes). Both clients fetch the
same posters, over the same number of connections, into a new folder, verify or decode them, and have no limit of rate.
Printed are medians: posters a second, CPU seconds a thousand posters (user and system, start-up and all), and the peak of
the memory of all processes of the client together (PSS, so that what processes share counts once). In the end, a limit of 40
requests a second is set, and nginx's log says what came of it.
"""
import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import contextmanager
from pathlib import Path

import psutil

VERSION = "1.47.0"
CONFIGURATION = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
events {{ worker_connections 1024; }}
http {{
  types {{ image/jpeg jpg; }}
  sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=20000;
  log_format when '$msec $status $request_uri';
  access_log {folder}/access.log when buffer=64k flush=1s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location /images/M/ {{ alias {posters}/; }} }}
}}
"""
OURS = """
import sys, pandas as pd
from pathlib import Path
from poster_genres.download import fetch_posters
from poster_genres.lib.client import Client, ClientPolicy
ids, out, url, connections, rate = Path(sys.argv[1]).read_text().split(), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
movies = pd.DataFrame({"imdb_id": ids, "poster_link": [f"https://m.media-amazon.com/images/M/{i}.jpg" for i in ids]})
client = Client(["m.media-amazon.com"], url, out / "posters", ClientPolicy(connections=connections, rate=rate), ending=".jpg")
table, _ = fetch_posters(movies, client, out / "run", connections)
print((table.status == "ok").sum())
"""
THEIRS = """
import sys
from img2dataset import download
if __name__ == "__main__":
    download(url_list=sys.argv[1], output_folder=sys.argv[2], input_format="txt", output_format="files", resize_mode="no", compute_hash="sha256",
             processes_count=int(sys.argv[4]), thread_count=int(sys.argv[3]), number_sample_per_shard=10_000 // int(sys.argv[4]), enable_wandb=False)
"""


@contextmanager
def nginx(posters, folder, port):
    "The address of an nginx that serves the posters, and the path of its log."
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, posters=posters, port=port, user=user))
    server = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL)
    time.sleep(1)
    if server.poll() is not None:
        sys.exit(f"nginx did not start on port {port}: {(folder / 'error.log').read_text()[-300:]}; choose another with --port")
    try:
        yield f"http://127.0.0.1:{port}", folder / "access.log"
    finally:
        server.terminate()
        server.wait()


def memory_of(process):
    "Megabytes of a process and its children together."
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            pass
    return total / 1e6


def measure(command, environment):
    "Seconds, CPU seconds and peak megabytes of a command, and the last line that it printed."
    before, started, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as said:
        process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        while process.poll() is None:
            try:
                peak = max(peak, memory_of(process))
            except psutil.Error:
                break
            time.sleep(0.25)
        if process.wait():
            said.seek(0)
            sys.exit(f"{command[1:3]} failed:\n{said.read()[-2000:]}")
        seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "memory": peak}


def peer_python(given):
    "The Python of an environment that has img2dataset."
    if given:
        return given
    folder = Path(tempfile.gettempdir(), f"img2dataset-{VERSION}")
    if not (folder / "bin/img2dataset").exists():
        print(f"making an environment for img2dataset {VERSION} in {folder}", flush=True)
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin/pip", "install", "-qq", f"img2dataset=={VERSION}"], check=True)
    return str(folder / "bin/python")


def compare(words, ids, work, url):
    "The measurements of each client, alternating; printed as they come."
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    (work / "ids").write_text("\n".join(ids))
    (work / "urls.txt").write_text("\n".join(f"{url}/images/M/{imdb_id}.jpg" for imdb_id in ids))
    (work / "theirs.py").write_text(THEIRS)
    found = {"poster_genres": []} | {f"img2dataset, {n} process{'es' * (n > 1)}": [] for n in words.processes}
    for turn in range(words.times):
        for number, name in enumerate(found):
            out = work / "out"
            ours = [sys.executable, "-c", OURS, str(work / "ids"), str(out), url, str(words.connections), "0"]
            processes = words.processes[number - 1]
            theirs = [words.peer, str(work / "theirs.py"), str(work / "urls.txt"), str(out), str(words.connections // processes), str(processes)]
            result = measure(theirs if number else ours, environment)
            files = [path for path in out.rglob("*.jpg") if path.stat().st_size]
            if len(files) != len(ids):
                print(f"  {name}: {len(files):,} of {len(ids):,} posters arrived")
            shutil.rmtree(out)
            found[name].append(result)
            print(f"  turn {turn + 1} {name:<26} {len(ids) / result['seconds']:7.0f} posters/s {1000 * result['cpu'] / len(ids):7.2f} CPU s/1,000 {result['memory']:7.0f} MB", flush=True)
    return found


def steady(words, ids, work, url, log):
    "Prints how close to 40 requests a second the client stays, by the server's log."
    chosen = ids[:40 * words.rate_seconds]
    (work / "few").write_text("\n".join(chosen))
    subprocess.run([sys.executable, "-c", OURS, str(work / "few"), str(work / "out"), url, str(words.connections), "40"], check=True, stdout=subprocess.DEVNULL)
    for _ in range(40):  # nginx writes its log when it finds the time
        time.sleep(0.5)
        if len([line for line in log.read_text().splitlines() if "/images/" in line]) >= len(chosen):
            break
    times = sorted(float(line.split()[0]) for line in log.read_text().splitlines()[-len(chosen) - 1:] if "/images/" in line)
    in_seconds = [sum(start <= moment < start + 1 for moment in times) for start in times if start + 1 <= times[-1]]
    print(f"limit 40 requests a second: {(len(times) - 1) / (times[-1] - times[0]):.2f} over {times[-1] - times[0]:.0f} s, "
          f"at most {max(in_seconds)} and at least {min(in_seconds)} in any second")


def main():
    "Measures and prints."
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nginx ends with us
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("--posters", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="img2dataset's processes; its threads are divided among them")
    parser.add_argument("--port", type=int, default=18_765)
    parser.add_argument("--peer", default="")
    parser.add_argument("--rate-only", action="store_true")
    parser.add_argument("--rate-seconds", type=int, default=20)
    words = parser.parse_args()
    if not shutil.which("nginx"):
        sys.exit("nginx is missing: expected Debian's package nginx-light, or any other")
    ids = sorted(path.stem for path in Path(words.archive, "posters").glob("*.jpg"))[:words.posters]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with nginx(Path(words.archive, "posters").resolve(), work, words.port) as (url, log):
            if not words.rate_only:
                words.peer = peer_python(words.peer)
                print(f"{len(ids):,} posters, {words.connections} connections, {os.cpu_count()} cores")
                medians = {name: {key: statistics.median(result[key] for result in results) for key in results[0]}
                           for name, results in compare(words, ids, work, url).items()}
                ours = medians["poster_genres"]
                for name, median in medians.items():
                    print(f"{name:<26} {len(ids) / median['seconds']:6.0f} posters/s ({median['seconds'] / ours['seconds']:.2f} of our time), "
                          f"{1000 * median['cpu'] / len(ids):.2f} CPU s/1,000 ({median['cpu'] / ours['cpu']:.2f}), {median['memory']:.0f} MB ({median['memory'] / ours['memory']:.2f})")
                print(json.dumps(medians))
            steady(words, ids, work, url, log)


if __name__ == "__main__":
    main()
