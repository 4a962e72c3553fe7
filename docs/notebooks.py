"""The notebooks as pages of the documentation: nbdev documents exported functions, adds links, and follows directives."""
import ast
import inspect
import json
import re
import tempfile
from importlib import import_module
from pathlib import Path

import nbformat
from execnb.nbio import read_nb
from fastcore.docments import docments, empty
from markupsafe import Markup
from nbdev.doclinks import NbdevLookup
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, Processor
from nbdev.processors import (add_links, add_show_docs, clean_magics, filter_stream_, hide_, hide_line, populate_language, rm_header_dash,
                              strip_ansi)


class Documented(Processor):
    "Replaces `show_doc(name)` by the documentation of that object, folds exported code, and removes hidden cells."

    def begin(self):
        found = (re.search(r"#\|\s*default_exp\s+([\w.]+)", cell.source) for cell in self.nb.cells)
        name = next((match[1] for match in found if match), None)
        self.module = import_module(f"poster_genres.{name}") if name else None
        self.lookup = NbdevLookup()

    def cell(self, cell):
        if cell.cell_type != "code" or not cell.source:
            return
        if shown := re.match(r"show_doc\((\w+)\)", cell.source):
            cell.cell_type, cell.source = "markdown", documentation(getattr(self.module, shown[1]), shown[1], self.lookup)
            cell.metadata["documentation"] = True
            cell.pop("outputs", None)
        elif cell.directives_.keys() & {"hide", "default_exp"}:
            del cell["source"]
        elif cell.directives_.keys() & {"export", "exports"}:
            tree = ast.parse(cell.source).body
            if all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree):
                del cell["source"]
            else:
                names = [node.name for node in tree if hasattr(node, "name")]
                cell.metadata["folded"] = Markup(" of ") + Markup(", ").join(Markup("<code>{}</code>").format(name) for name in names) if names else " "


def documentation(thing, name, lookup):
    "Markdown for a function or class: heading, link to its source, docstring, a row for each parameter, and its methods."
    source, (_, comment) = lookup.code(name), comment_behind(thing)
    lines = [f"### {name}", "", f"[source]({source})" if source else "", "",
             f"```python\n{call_of(thing, name)}{'  # ' * bool(comment)}{comment}\n```", "", inspect.getdoc(thing) or "", "", *parameter_rows(thing)]
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            if inspect.isfunction(function) and (not method.startswith("_") or method == "__call__"):
                lines += ["", f"`{call_of(function, method)}`: {inspect.getdoc(function) or ''}"]
    return re.sub(r"<function (?:\w+\.)*<?(\w+)>? at 0x\w+>", r"\1", "\n".join(lines))  # a default that is a function: its name


def call_of(thing, name):
    "How the thing is called, without types: name(a, b=1)."
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (ValueError, TypeError):
        return name
    written = [str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters if parameter.name != "self"]
    text = f"{name}({', '.join(written)})"
    return text if len(text) < 90 else f"{name}(\n    " + ",\n    ".join(written) + ",\n)"


def comment_behind(thing):
    "The comment behind a signature of one line with several parameters: one piece for each of them, or all of it, which tells of something else."
    try:
        names = [name for name in inspect.signature(thing).parameters if name != "self"]
        start = "def __init__(" if inspect.isclass(thing) else "def "
        line = next(line for line in inspect.getsource(thing).splitlines() if line.lstrip().startswith(start))
    except (OSError, TypeError, ValueError, StopIteration):
        return [], ""
    signature, _, comment = line.partition("  # ")
    if len(names) < 2 or not signature.endswith(":"):
        return [], ""
    pieces = comment.split("; ")
    return (pieces, "") if len(pieces) == len(names) else ([], comment)


def as_table(first, rows):
    "The rows (name, type, default, explanation) as a Markdown table without columns in which nothing stands; empty without rows."
    columns = [(title, cells) for title, cells in zip((first, "type", "default", "what it is"), zip(*rows)) if any(cells)]
    lines = [[title for title, _ in columns], ["---"] * len(columns), *zip(*(cells for _, cells in columns))] if rows else []
    return [f"| {' | '.join(line)} |" for line in lines]


def parameter_rows(thing):
    "A Markdown table of the parameters with their types, defaults and explanations; empty when there are none."
    if hasattr(thing, "_fields"):
        lines = re.findall(r"^    (\w+): ([^#=\n]+?)(?: = ([^#\n]+?))?(?:  # (.*))?$", inspect.getsource(thing), re.M)
        return as_table("field", [(f"`{name}`", kind.replace("|", "\\|"), f"`{default}`" if default else "", words) for name, kind, default, words in lines])
    try:
        known = docments(thing, full=True, returns=False)
    except (ValueError, TypeError):
        return []
    known = {name: about for name, about in known.items() if name not in ("self", "return") and isinstance(about, dict)}
    comments = [about.get("docment") or "" for about in known.values()]
    pieces, other = comment_behind(thing)
    comments = pieces or ([""] * len(comments) if other else comments)
    rows = []
    for (name, about), comment in zip(known.items(), comments):
        kind = about.get("anno", empty)
        kind = "" if kind is empty else getattr(kind, "__name__", str(kind)) if "[" not in str(kind) and "|" not in str(kind) else str(kind)
        default = "" if about.get("default", empty) is empty else f"`{about['default']!r}`"
        words = comment.replace("|", "\\|").replace("\n", " ")
        rows.append((f"`{name}`", kind.replace("|", "\\|"), default.replace("|", "\\|"), words))
    return as_table("parameter", rows)


def split_title(path):
    "A copy of the notebook in which title and subtitle have a cell of their own: nbdev drops the whole cell that they are in."
    notebook = nbformat.read(path, 4)
    for place, cell in enumerate(notebook.cells):
        if found := cell.cell_type == "markdown" and re.match(r"# .*\n+(?:>.*(?:\n|$))*", cell.source):
            notebook.cells.insert(place + 1, nbformat.v4.new_markdown_cell(cell.source[found.end():].strip()))
            cell.source = found[0]
            break
    copy = Path(tempfile.mkdtemp(), path.name)
    nbformat.write(notebook, copy)
    return copy


def processed(path):
    "The notebook after nbdev's processing, and its front matter: title, description, name of its page."
    steps = [FrontmatterProc, populate_language, add_show_docs, strip_ansi, hide_line, filter_stream_, rm_header_dash, Documented, clean_magics,
             hide_, add_links]
    processor = NBProcessor(nb=read_nb(split_title(path)), procs=steps)
    processor.process()
    about = dict(processor.nb.frontmatter_)
    cells = [{key: value for key, value in cell.items() if not key.endswith("_")} for cell in processor.nb.cells if cell.source and cell.cell_type != "raw"]
    notebook = nbformat.from_dict({"cells": json.loads(json.dumps(cells, default=str)), "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
        cell.pop("idx_", None), cell.pop("has_sd", None)
        for output in cell.get("outputs", []):
            output.update({key: "".join(output[key]) for key in ("text",) if key in output})
            output.get("data", {}).update({kind: "".join(data) for kind, data in output.get("data", {}).items() if isinstance(data, list)})
        if cell.cell_type == "code":
            cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)
            cell.setdefault("outputs", []), cell.setdefault("execution_count", None)
            if all(line.startswith(("import ", "from ", " ")) or not line for line in cell.source.splitlines()) and not cell.outputs:
                cell.metadata["folded"] = ": imports"
    notebook.cells = in_order(notebook.cells)
    return notebook, about


def from_markdown(text):
    "The text as a notebook, and its front matter: the first line is `# title` or `# title: description`."
    heading, _, rest = text.partition("\n")
    title, _, description = heading.removeprefix("# ").partition(": ")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(rest.strip())])
    return notebook, {"title": title, "description": description[:1].upper() + description[1:]}


def in_order(cells):
    "The cells with the documentation of what a cell exports before its code, and in the order of the code."
    kept, code, documented = [], None, []
    for cell in [*cells, None]:
        if cell is not None and cell.metadata.get("documentation"):
            documented.insert(0, cell)
            continue
        kept, code, documented = [*kept, *documented, *([code] if code else [])], None, []
        if cell is not None and cell.metadata.get("folded"):
            code = cell
        elif cell is not None:
            kept.append(cell)
    return kept
