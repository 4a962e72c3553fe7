"""The project is in order: package in step with the notebooks, notebooks clean and tested, imports one way, wheel complete."""
import ast
import os
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


# ---- imports ----

PACKAGE = ROOT / "poster_genres"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py")) if path.stem not in ("__init__", "_modidx")}
ROOMS = {"lib": {"lib"}, "demo": {"lib", "demo"}, "run": {"lib", "", "demo", "run"}, "": {"lib", ""}}  # folder -> folders that it may import from


def imports(name):
    "The modules of the package that the module imports, by their path inside it."
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("poster_genres")):
            parents = name.split("/")[:-1]
            module = node.module or ""
            yield "/".join([*parents[:len(parents) - node.level + 1], *module.split(".")] if node.level else module.split(".")[1:]).strip("/")


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    "lib <- steps <- run; demo is known to run only."
    room = name.rpartition("/")[0]
    wrong = [other for other in imports(name) if other.rpartition("/")[0] not in ROOMS[room]]
    assert not wrong, f"{name} imports {wrong}"
    circles = [other for other in imports(name) if other in MODULES and name in imports(other)]
    assert not circles, f"{name} and {circles} import each other"


def test_numbers_look_back():
    "A numbered notebook imports lower-numbered ones and its own lettered ones, which import nothing of their step."
    number = {}
    for notebook in NOTEBOOKS:
        if found := re.match(r"(\d+)([a-z]?)_", notebook.name):
            source = "\n".join(cell.source for cell in nbformat.read(notebook, 4).cells)
            if module := re.search(r"#\|\s*default_exp\s+([\w.]+)", source):
                number[module[1]] = (int(found[1]), found[2])
    for name, (digits, letter) in number.items():
        for other in imports(name):
            if other in number and other != name:
                lower, own = number[other][0] < digits, number[other][0] == digits and number[other][1] and not letter
                earlier = number[other][0] == digits and letter and number[other][1] and number[other][1] < letter
                assert lower or own or earlier, f"{name} imports {other}"


def test_public_name_stands_in_one_module():
    owners = {}
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else [
                target.id for target in node.targets if isinstance(target, ast.Name) and target.id.isupper()] if isinstance(node, ast.Assign) else []
            for one in names:
                if not one.startswith("_") and one != "main":
                    owners.setdefault(one, []).append(name)
    assert not {one: where for one, where in owners.items() if len(where) > 1}


IMPORT_ALL = """
import importlib, logging, os, sys, warnings
import bleach, keras, matplotlib, numpy, pandas, papermill, skimage, tensorflow, urllib3  # what other packages do at import is theirs
before = dict(os.environ), list(warnings.filters), {name: logger.level for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "level")}, os.listdir()
for name in sys.argv[1:]:
    importlib.import_module(f"poster_genres.{name}")
after = dict(os.environ), list(warnings.filters), {name: logger.level for name, logger in logging.root.manager.loggerDict.items() if hasattr(logger, "level")}, os.listdir()
print([what for what, one, two in zip(("environment", "filters"), before, after) if one != two],
      {name: level for name, level in after[2].items() if level and before[2].get(name) != level}, set(after[3]) - set(before[3]))
"""


def test_nothing_happens_at_import(tmp_path):
    "No environment variable, no warning filter, no level of a logger, no file."
    names = [name.replace("/", ".") for name in MODULES]
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *names], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] {} set()", done.stdout


def test_program_gets_prediction_and_version_without_keras():
    script = ("import poster_genres, sys; print(poster_genres.__version__, callable(poster_genres.predict), "
              "sorted({'keras', 'tensorflow', 'numpy', 'pandas'} & set(sys.modules)))")
    said = run(sys.executable, "-c", script, cwd=ROOT).stdout
    version = re.search(r"^version = (.+)$", (ROOT / "settings.ini").read_text(), re.M)[1]
    assert said.strip() == f"{version} True []"
    script = "import poster_genres; print(next(iter(poster_genres.predict('nbs/images/surest.jpg')))['genres'][0]['probability'] > 0)"
    assert run(sys.executable, "-c", script, cwd=ROOT).stdout.strip() == "True"


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    "A function that tests a notebook or imports a program in a process of its own, and returns the exit status and what was printed."
    log = tmp_path_factory.mktemp("apart") / "log"
    environment = {name: value for name, value in os.environ.items() if name != "POSTER_GENRES_STRICT"}  # as a reader has it
    with subprocess.Popen([sys.executable, Path(__file__).with_name("forked.py")], cwd=ROOT, env=environment, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        def told(kind, path):
            print(kind, path, log, sep="\t", file=parent.stdin, flush=True)
            return int(parent.stdout.readline() or 1), log.read_text(encoding="utf-8")
        yield told
        parent.stdin.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("path", sorted(path for path in (ROOT / "benchmarks").rglob("*.py") if "poster_genres" in path.read_text(encoding="utf-8")),
                         ids=lambda path: path.stem)
def test_benchmark_can_be_imported(path, apart):
    "What a benchmark takes from the package is still there; nothing runs."
    failed, said = apart("program", path)
    assert not failed, said[-4000:]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "nbs").with_suffix("").as_posix())
def test_notebook_passes(notebook, apart):
    "As `nbdev_test` runs it."
    failed, said = apart("notebook", notebook)
    assert not failed, said[-4000:]


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
    assert {f"poster_genres/notebooks/templates/{path.name}" for path in (ROOT / "nbs" / "templates").glob("*.html")} <= set(names)
    assert {f"poster_genres/shipped/{name}" for name in ("predictor.tflite", "MODEL_CARD.md", "LICENSE-APACHE")} <= set(names)

    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    script = ("import poster_genres.lib.runs as core, sys; print(core.notebooks_folder()); "
              "from poster_genres.run.cli import main; sys.exit(main(['run', '--dry-run']))")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(installed), "PATH": ""},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(installed / "poster_genres" / "notebooks") in done.stdout and str(tmp_path / "outputs" / "demo") in done.stdout
