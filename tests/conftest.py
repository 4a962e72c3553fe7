"""What several tests share: a small made-up archive, the command line as a user calls it, and the real archive if there is one."""
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from poster_genres.demo.archive import draw_archive

ROOT = Path(__file__).parent.parent


LONGEST = ["test_chain", "test_training", "test_house", "test_odd_archives", "test_site"]  # these begin, so that no process waits for one of them at the end


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def call(*words, cwd=None, timeout=900):
    "The finished process of `poster-genres WORDS`."
    return subprocess.run([sys.executable, "-m", "poster_genres.run.cli", *map(str, words)], cwd=cwd, timeout=timeout,
                          capture_output=True, text=True)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder():
    "What notebooks and commands put into temporary folders is gone when the tests are over."
    tempfile.gettempdir()  # this process keeps its own: it cleans up itself, and later than this
    with tempfile.TemporaryDirectory(prefix="tests-", ignore_cleanup_errors=True) as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "TEMP", "TMP"):
            patch.setenv(name, folder)
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def strict():
    "A picture that cannot be drawn fails a run of the tests, instead of becoming a sentence."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTER_GENRES_STRICT", "1")
        yield


@pytest.fixture(scope="session")
def cli():
    "The command line: cli('status', ...) gives returncode, stdout and stderr."
    return call


def call_here(*words):
    "The same in this process, for commands that are refused before anything starts: a tenth of the time."
    from poster_genres.run.cli import main
    out, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaints):
        status = main([str(word) for word in words])
    return subprocess.CompletedProcess(words, status, out.getvalue(), complaints.getvalue())


@pytest.fixture(scope="session")
def quick_cli():
    "The command line in this process."
    return call_here


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    "An archive of 160 made-up movies."
    folder = tmp_path_factory.mktemp("archives") / "small"
    draw_archive(folder, 160, seed=3)
    return folder


@pytest.fixture(scope="session")
def poster_archive():
    "The real archive that POSTER_ARCHIVE names."
    folder = os.environ.get("POSTER_ARCHIVE")
    if not folder:
        pytest.skip("POSTER_ARCHIVE names no archive of real posters")
    return Path(folder)
