"""What can be set is said three times (tagged cell, signature, call) and must be one thing: name, type, default, bounds and comment agree."""
import ast
import inspect
import math
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

from poster_genres.lib.runs import STEPS, InputError
from poster_genres.run.settings import bounds, choices, step_parameters

NBS = Path(__file__).parent.parent / "nbs"


def tagged(step, tag):
    "The source of the step's cell with this tag."
    found = [cell.source for cell in nbformat.read(NBS / f"{STEPS[step].notebook}.ipynb", 4).cells if tag in cell.metadata.get("tags", [])]
    assert len(found) == 1, f"{STEPS[step].notebook}: expected one cell tagged {tag}, found {len(found)}"
    return found[0]


def comment(source, line):
    "The comment at the end of a line of code."
    return source.splitlines()[line - 1].partition("  # ")[2].strip()


def declared(step):
    "The parameters of the tagged cell: name -> type, default, comment."
    source = tagged(step, "parameters")
    return {node.target.id: (ast.unparse(node.annotation), ast.unparse(node.value), comment(source, node.end_lineno))
            for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)}


def step_function(step):
    "The step's function, without the decorator that makes it a step."
    module = import_module(f"poster_genres.{step}")
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    name = next(node.name for node in tree.body if isinstance(node, ast.FunctionDef) for one in node.decorator_list
                if isinstance(one, ast.Call) and ast.unparse(one.func) == "step" and one.args[0].value == step)
    return inspect.unwrap(getattr(module, name))


def signature(step):
    "The parameters of the step's function: name -> type, default, comment."
    function = step_function(step)
    source = inspect.getsource(function)
    node = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    arguments = node.args.args
    defaults = [None] * (len(arguments) - len(node.args.defaults)) + node.args.defaults
    return {one.arg: (ast.unparse(one.annotation), default and ast.unparse(default), comment(source, one.lineno)) for one, default in zip(arguments, defaults)}


@pytest.mark.parametrize("step", STEPS)
def test_cell_signature_and_call_agree(step):
    cell, function = declared(step), signature(step)
    call = next(node for node in ast.walk(ast.parse(tagged(step, "step"))) if isinstance(node, ast.Call) and ast.unparse(node.func) == step_function(step).__name__)
    assert list(cell) == list(function), "the same names in the same order"
    given = [ast.unparse(argument) for argument in call.args] + [f"{one.arg}={ast.unparse(one.value)}" for one in call.keywords]
    assert given == ["run_dir", *(f"{name}={name}" for name in cell if name != "run_dir")], "the call passes each parameter under its name"
    for name in set(cell) - {"run_dir"}:
        assert cell[name] == function[name], f"{name}: type, default and comment of the tagged cell and of the signature"


@pytest.mark.parametrize("step, name", [(step, name) for step in STEPS for name, entry in step_parameters(step).items() if entry["type"] in ("int", "float")])
def test_number_has_bounds_that_the_step_checks(step, name, tmp_path):
    "What the comment says is what the function refuses, also when it is called without the runner."
    entry = step_parameters(step)[name]
    low, high = bounds(entry)
    assert math.isfinite(low) and math.isfinite(high), f"{name}: the comment begins with both bounds, such as `0 to 1000: `"
    for wrong in (low - 1, high + 1):
        with pytest.raises(InputError, match=f"parameter {name} is"):
            step_function(step)(tmp_path, **{name: int(wrong) if entry["type"] == "int" else wrong})


@pytest.mark.parametrize("step, name", [(step, name) for step in STEPS for name, entry in step_parameters(step).items() if choices(entry)])
def test_choice_is_one_that_the_step_checks(step, name, tmp_path):
    assert not choices(step_parameters(step)[name]) or step_parameters(step)[name]["type"] == "str"
    with pytest.raises(InputError, match=f"parameter {name} is 'nonsense': expected one of"):
        step_function(step)(tmp_path, **{name: "nonsense"})
