"""The house is in order: package in step with the notebooks, notebooks clean and tested, wheel complete."""
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import papermill
import pytest

from poster_genres.lib.runs import STEPS
from poster_genres.run.pipeline import check_in_step

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted(path for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


@pytest.fixture(scope="session")
def copy(tmp_path_factory):
    "A copy of what is in the repository, to try things on."
    target = tmp_path_factory.mktemp("copy") / "project"
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(".venv", ".git", "outputs", "*.egg-info", "__pycache__", "build"))
    return target


def run(*words, cwd):
    return subprocess.run([str(word) for word in words], cwd=cwd, check=True, capture_output=True, text=True)


def test_environment_is_the_lock_file():
    "What is tested is what a fresh clone installs: pip has nothing to add or change."
    pip = run(sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", "-r", "requirements.lock", cwd=ROOT)
    assert "Would install" not in pip.stdout


def test_package_is_in_step(copy):
    check_in_step()
    run(BIN / "nbdev_export", cwd=copy)
    for module in sorted((copy / "poster_genres").rglob("*.py")):
        assert module.read_text() == (ROOT / module.relative_to(copy)).read_text(), f"run `make export`: {module.name}"


def test_readme_is_made_from_the_index():
    text = run(BIN / "jupyter", "nbconvert", "--to", "markdown", "--stdout", "nbs/index.ipynb", cwd=ROOT).stdout
    expected = re.sub(r"\]\(([\w/]+)\.ipynb\)", r"](nbs/\1.ipynb)", text).replace("](images/", "](nbs/images/")
    assert (ROOT / "README.md").read_text() == expected, "run `make export`"


def test_notebooks_are_clean(copy):
    run(BIN / "nbdev_clean", cwd=copy)
    for notebook in NOTEBOOKS:
        assert (copy / notebook.relative_to(ROOT)).read_text() == notebook.read_text(), f"run `make export`: {notebook.name}"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_notebook_is_fit_to_publish(notebook):
    assert notebook.stat().st_size < 1_000_000
    text = notebook.read_text(encoding="utf-8")
    assert str(ROOT) not in text and not re.search(r"/(home|tmp|root)/", text), "a path of this machine"
    for cell in nbformat.read(notebook, 4).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"a saved error: {output.get('evalue')}"
            assert output.get("name") != "stderr", f"a saved warning: {output.get('text')}"
            shown = output.get("data", {})
            assert not str(shown.get("text/plain", "")).startswith("<Figure") or "image/png" in shown, "a plot that shows its name only"


@pytest.mark.parametrize("step", STEPS)
def test_step_declares_its_parameters(step):
    declared = papermill.inspect_notebook(str(ROOT / "nbs" / f"{STEPS[step].notebook}.ipynb"))
    assert {"run_dir", "seed"} <= set(declared)
    for name, entry in declared.items():
        assert entry["inferred_type_name"] in ("int", "float", "str", "bool"), name
        assert entry["help"], name


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_notebook_passes(notebook):
    done = subprocess.run([BIN / "nbdev_test", "--path", notebook, "--n_workers", "0"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_nothing_to_complain_of():
    done = subprocess.run([BIN / "ruff", "check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_wheel_carries_the_notebooks(copy, tmp_path):
    "A wheel that is made from the source distribution, as most are."
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, copy, cwd=tmp_path)
    source = next(tmp_path.glob("*.tar.gz"))
    run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source, cwd=tmp_path)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    for notebook in NOTEBOOKS:
        assert f"poster_genres/notebooks/{notebook.relative_to(ROOT / 'nbs').as_posix()}" in names
    assert "poster_genres/notebooks/profiles/demo.yaml" in names and {"poster_genres/notebooks/styles.css", "poster_genres/notebooks/page.js"} <= set(names)
    assert {f"poster_genres/shipped/{name}" for name in ("predictor.tflite", "MODEL_CARD.md", "LICENSE-APACHE")} <= set(names)

    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    script = ("import poster_genres.lib.runs as core, sys; print(core.notebooks_folder()); "
              "from poster_genres.run.cli import main; sys.exit(main(['run', '--dry-run']))")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(installed), "PATH": ""},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(installed / "poster_genres" / "notebooks") in done.stdout and str(tmp_path / "outputs" / "demo") in done.stdout
