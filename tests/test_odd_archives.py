"""The whole chain on archives that differ from the demo: all six steps, pages and prediction, in one process with a toy network.

The notebooks run in this process instead of in kernels, so that Keras is loaded once, and nothing is compiled, because a toy network
answers before its graph is traced. Nothing else differs from a run. A picture that cannot be drawn fails the test.
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
from toy_network import toy_network

from poster_genres.lib.runs import PosterGenresError
from poster_genres.prediction import predict
from poster_genres.run import pipeline
from poster_genres.run.report import write_report

TOY = {"epochs": 1, "width": 16, "height": 24, "resamples": 20, "network": "compact", "vocabulary": "own", "min_movies": 1}
PICTURES = {"bbox_inches": None, "dpi": 30}  # drawn once, not also to be measured; small


def execute_here(source, target, parameters, listener=None, environment=None):
    "Execute the notebook's cells in this process, as the runner does in a kernel; the first failure ends it. Code without outputs is not kept."
    notebook = parameterize_notebook(pipeline.without_tests(load_notebook_node(str(source))), parameters, kernel_name="python3", language="python")
    shell = CaptureShell()
    shell.run(f"%config InlineBackend.print_figure_kwargs = {PICTURES}")
    try:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = [nbformat.from_dict(output) for output in shell.run(cell.source)]
                if shell.exc:
                    raise shell.exc
    finally:
        notebook.cells = [cell for cell in notebook.cells if cell.cell_type != "code" or cell.outputs]
        nbformat.write(notebook, target)
    return []


@pytest.fixture(scope="module", autouse=True)
def in_process():
    "The runner executes notebooks here, and TensorFlow computes without compiling."
    import tensorflow as tf

    from poster_genres.networks import RECIPES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "execute_notebook", execute_here)
        patch.setitem(RECIPES, "compact", RECIPES["compact"]._replace(build=toy_network))
        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)


def chain(archive, run, **parameters):
    "The record of a run of all steps on the archive, with its pages."
    pipeline.run_chain(pipeline.prepare("demo", str(run), TOY | parameters, archive=str(archive)))
    write_report(run)
    return json.loads((run / "run.json").read_text())


def check(kind, folder):
    "Run the chain on an odd archive, and look at its record, its pages and the answer for one of its posters."
    archive, run = ODD[kind](folder / "archive"), folder / "run"
    record = chain(archive, run)
    assert record["state"] == "done" and all(step["state"] == "done" for step in record["steps"].values())
    assert not any(step.get("notes") for step in record["steps"].values())
    pages = list((run / "report").glob("*.html"))
    assert len(pages) == 7 and max(page.stat().st_size for page in pages) < 8_000_000
    answer, = predict([next((archive / "posters").iterdir())], run / "evaluation" / "predictor.keras")
    assert answer["genres"] and os.path.exists(answer["file"])


class TestFew:
    "Next to nothing to learn from. Classes, because that is how the tests are shared out among processes."

    @pytest.mark.parametrize("kind", ["one movie", "four movies", "no test part", "no validation part, odd titles"])
    def test_chain_on(self, kind, tmp_path):
        check(kind, tmp_path)


class TestGenres:
    @pytest.mark.parametrize("kind", ["one genre, landscape", "three genres, no years", "400 genres", "rare genres, long ids"])
    def test_chain_on(self, kind, tmp_path, monkeypatch):
        if kind == "400 genres":
            monkeypatch.setitem(PICTURES, "dpi", "figure")  # so many genres may make pictures too large for a page
        check(kind, tmp_path)

    def test_one_picture_behind_all_links_is_no_poster(self, tmp_path):
        with pytest.raises(PosterGenresError, match="placeholder") as raised:
            check("one picture", tmp_path)
        assert len(str(raised.value).splitlines()) == 1


def test_every_odd_archive_has_its_test():
    kinds = {kind for test in (TestFew, TestGenres) for kind in test.test_chain_on.pytestmark[0].args[1]}
    assert kinds | {"one picture"} == set(ODD)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 60), st.sampled_from([COMMON, RARE, ("Drama",), tuple(f"Genre {n}" for n in range(80))]), st.booleans(), st.booleans(),
       st.sampled_from([None, TITLES]), st.sampled_from([(60, 90), (160, 60), (33, 200)]), st.sampled_from([(0.0, 1.0), (0.2, 1.0), (0.3, 1.0)]))
def test_chain_on_combinations(tmp_path_factory, count, genres, years, same, titles, size, hashes):
    folder = tmp_path_factory.mktemp("odd")
    archive = write(folder / "archive", movies(numbers(count, *hashes), genres, years, titles), size, same)
    try:
        record = chain(archive, folder / "run")
    except PosterGenresError as error:  # too little to learn from, or one picture behind all links
        assert len(str(error).splitlines()) == 1
    else:
        assert record["state"] == "done" and not any(step.get("notes") for step in record["steps"].values())
