"""A disk that is full is a fault of this machine: the step stops with one line, no link is given up for it, and with room made all is as it should be."""
import os
import shutil
import subprocess
import sys

import pytest
from web_help import draw_posters, misbehaving

from poster_genres import download as download_module
from poster_genres import scraping
from poster_genres.download import download
from poster_genres.lib.runs import StepError
from poster_genres.scraping import scrape

LEAVE = "needs root on Linux"


@pytest.fixture
def disk(tmp_path):
    "A function that makes a folder a disk of so many kilobytes, and one that ends it."
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(kilobytes, again=False):
        options = f"{'remount,' if again else ''}size={kilobytes}k"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True).returncode:
            pytest.skip("this machine does not let us mount")
    yield folder, resize
    subprocess.run(["umount", folder], capture_output=True)


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason=f"mounting a small disk {LEAVE}")
def test_a_full_cache_costs_no_link(tmp_path, monkeypatch, disk):
    archive, (folder, resize), stopped = draw_posters(tmp_path / "archive", 24, lacking=4), disk, []
    for module in (scraping, download_module):
        misbehaving(monkeypatch, module)

    def steps(run):
        for step, options in ((scrape, {"missing": "all"}), (download, {})):
            for attempt in range(3):
                try:
                    step(run, archive=archive, cache=str(folder), connections=4, **options)
                    break
                except StepError as error:
                    assert f"cannot use the cache {folder}" in str(error) and "No space left on device" in str(error) and "delete" not in str(error)
                    assert not (run / ("movies.parquet" if step is scrape else "posters.parquet")).exists()
                    stopped.append(step)
                    if attempt:
                        resize(60_000, again=True)

    steps(tmp_path / "quiet")
    shutil.rmtree(folder, ignore_errors=True), folder.mkdir(exist_ok=True)
    for kilobytes in (8, 24, 48, 90, 140, 200, 260, 330, 400, 470):
        resize(kilobytes)
        run = tmp_path / f"full-{kilobytes}"
        steps(run)
        for table in ("movies.parquet", "posters.parquet"):
            assert (run / table).read_bytes() == (tmp_path / "quiet" / table).read_bytes(), (kilobytes, table)
        subprocess.run(["umount", folder], check=True)
    assert {scrape, download} == set(stopped), "neither step was stopped"
