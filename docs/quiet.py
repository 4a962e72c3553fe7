"""Take TensorFlow's start-up lines, which no setting silences, out of saved notebooks; every other message stays.

usage: quiet.py NOTEBOOK...
"""
import re
import sys

import nbformat

START_UP = re.compile(r"^(WARNING: All log messages before absl|[IW]0000 |To enable the following instructions|INFO: Created TensorFlow Lite).*\n?", re.M)

for path in sys.argv[1:]:
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                output.text = START_UP.sub("", output.text)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr" or output.text.strip()]
    nbformat.write(notebook, path)
