"""The whole chain on archives that differ from the demo: all six steps, pages and prediction, in one process with a toy network.

The notebooks run in this process instead of in kernels, so that Keras is loaded once; nothing else differs from a run.
A picture that cannot be drawn fails the test.
"""
import json
import os

import nbformat
import pytest
from execnb.shell import CaptureShell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_archives import COMMON, ODD, RARE, TITLES, movies, numbers, write
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from poster_genres.lib.runs import InputError, PosterGenresError
from poster_genres.prediction import predict
from poster_genres.run import pipeline
from poster_genres.run.report import write_report

TOY = {"epochs": 1, "width": 16, "height": 24, "resamples": 50, "network": "compact", "vocabulary": "own", "min_movies": 1}


def execute_here(source, target, parameters, listener=None, environment=None):
    "Execute the notebook's cells in this process, as the runner does in a kernel; the first failure ends it."
    notebook = parameterize_notebook(pipeline.without_tests(load_notebook_node(str(source))), parameters, kernel_name="python3", language="python")
    shell = CaptureShell()
    try:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [nbformat.from_dict(output) for output in shell.run(cell.source)]
                if shell.exc:
                    raise shell.exc
    finally:
        nbformat.write(notebook, target)
    return []


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    "The runner executes notebooks here."
    monkeypatch.setattr(pipeline, "execute_notebook", execute_here)


def chain(archive, run, **parameters):
    "The record of a run of all steps on the archive."
    pipeline.run_chain(pipeline.prepare("demo", str(run), TOY | parameters, archive=str(archive)), write_report)
    return json.loads((run / "run.json").read_text())


@pytest.mark.parametrize("kind", ODD)
def test_chain_on(kind, tmp_path):
    archive, run = ODD[kind](tmp_path / "archive"), tmp_path / "run"
    try:
        record = chain(archive, run)
    except PosterGenresError as error:
        assert kind == "one picture" and "placeholder" in str(error), error  # one picture behind all links is no movie's poster
        assert len(str(error).splitlines()) == 1, error
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
