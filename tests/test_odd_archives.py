"""The whole chain on archives that differ from the demo: all six steps, pages and prediction, in one process with a toy network.

The notebooks run in this process instead of in kernels, so that Keras is loaded once; nothing else differs from a run.
Strict: a picture that cannot be drawn fails the test.
"""
import json
import os

import nbformat
import pytest
from execnb.shell import CaptureShell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_archives import COMMON, ODD, RARE, TITLES, movies, numbers, write
from papermill.engines import Engine, papermill_engines

from poster_genres.lib.runs import InputError
from poster_genres.prediction import predict
from poster_genres.run import pipeline
from poster_genres.run.report import write_report

TOY = {"epochs": 1, "width": 16, "height": 24, "resamples": 50, "network": "compact", "vocabulary": "own"}


class InProcess(Engine):
    "Executes a notebook's cells in this process."

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
        shell = CaptureShell()
        nb_man.notebook_start()
        for number, cell in enumerate(nb_man.nb.cells):
            if cell.cell_type == "code":
                nb_man.cell_start(cell, number)
                cell.outputs = [nbformat.from_dict(output) for output in shell.run(cell.source)]
                if shell.exc:
                    raise shell.exc
                nb_man.cell_complete(cell, number)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    "The runner executes notebooks here, and takes no failed picture for granted."
    monkeypatch.setenv("POSTER_GENRES_STRICT", "1")
    usual = papermill_engines.get_engine("poster_genres")
    papermill_engines.register("poster_genres", InProcess)
    yield
    papermill_engines.register("poster_genres", usual)


def chain(archive, run, **parameters):
    "The record of a run of all steps on the archive."
    pipeline.run_chain("demo", str(run), TOY | parameters, archive=str(archive), after=write_report)
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize("kind", ODD)
def test_chain_on(kind, tmp_path):
    archive, run = ODD[kind](tmp_path / "archive"), tmp_path / "run"
    try:
        record = chain(archive, run)
    except InputError as error:
        assert kind in ("one movie", "four movies", "one picture"), error  # too little to train on: one line before the work begins
        assert len(str(error).splitlines()) == 1 and "take more movies" in str(error)
        return
    assert record["state"] == "done" and all(step["state"] == "done" for step in record["steps"].values())
    assert not any(step.get("notes") for step in record["steps"].values())
    pages = list((run / "report").glob("*.html"))
    assert len(pages) == 7 and max(page.stat().st_size for page in pages) < 8_000_000
    answer, = predict([next((archive / "posters").iterdir())], run / "evaluation" / "predictor.keras")
    assert answer["genres"] and os.path.exists(answer["file"])


@pytest.mark.slow
@settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 60), st.sampled_from([COMMON, RARE, ("Drama",), tuple(f"Genre {n}" for n in range(80))]), st.booleans(), st.booleans(),
       st.sampled_from([None, TITLES]), st.sampled_from([(60, 90), (160, 60), (33, 200)]), st.sampled_from([(0.0, 1.0), (0.2, 1.0), (0.3, 1.0)]))
def test_chain_on_combinations(tmp_path_factory, count, genres, years, same, titles, size, hashes):
    folder = tmp_path_factory.mktemp("odd")
    archive = write(folder / "archive", movies(numbers(count, *hashes), genres, years, titles), size, same)
    try:
        record = chain(archive, folder / "run")
    except InputError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert record["state"] == "done" and not any(step.get("notes") for step in record["steps"].values())
