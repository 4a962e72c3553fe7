"""What the tests of a cluster share: a scheduler and workers on loopback, which can be killed one by one."""
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poster_genres.lib.cluster import ADDRESS

HERE = Path(__file__).parent
PATHS = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
ENVIRONMENT = os.environ | {"PYTHONPATH": PATHS, "DASK_DISTRIBUTED__WORKER__DAEMON": "False", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}


class Dask:
    "A scheduler and workers, all on loopback, which can be killed one by one."

    def __init__(self, folder, failures=3):
        self.folder, self.workers, self.failures = folder, [], failures
        folder.mkdir(exist_ok=True)
        self.start()

    def _run(self, *words):
        environment = ENVIRONMENT | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(self.failures), "TMPDIR": str(self.folder)}
        return subprocess.Popen([sys.executable, "-m", *map(str, words)], cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        "Start the scheduler."
        place = self.folder / "scheduler.json"
        place.unlink(missing_ok=True)
        self.scheduler = self._run("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", place)
        wait_for(place.exists)
        wait_for(lambda: "tcp://" in place.read_text())
        self.address = next(part for part in place.read_text().split('"') if part.startswith("tcp://"))

    def add(self, count=1, preload=""):
        "Start workers of one thread, without a nanny that would start them again; wait until they have joined."
        more = ["--preload", "poster_genres.lib.shards"]  # who has joined is ready to work
        if preload:
            script = self.folder / f"{preload}.py"
            script.write_text(f"import cluster_work\ncluster_work.{preload}()\n")
            more += ["--preload", script]
        joined = self.joined()
        for _ in range(count):
            self.workers.append(self._run("distributed.cli.dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", 1, "--no-nanny", "--no-dashboard",
                                          "--local-directory", self.folder, "--memory-limit", 0, *more))
        wait_for(lambda: self.joined() >= joined + count)

    def joined(self):
        "How many workers the scheduler knows."
        from distributed import Client
        with Client(self.address, timeout=30, set_as_default=False) as client:
            return len(client.nthreads())

    def kill(self, *processes, how=signal.SIGKILL):
        "Kill processes; all workers when none is named."
        for process in processes or self.workers:
            process.send_signal(how)
            process.wait()
        self.workers = [worker for worker in self.workers if worker.poll() is None]


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


@contextlib.contextmanager
def a_cluster(folder, workers=2, **options):
    "A cluster that the process's environment names."
    dask = Dask(folder, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, dask.address)
        try:
            dask.add(workers) if workers else None
            yield dask
        finally:
            dask.kill(*dask.workers, dask.scheduler)
