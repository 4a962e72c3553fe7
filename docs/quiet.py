"""Take TensorFlow's start-up lines, which no setting silences, out of saved notebooks; every other message stays.

usage: quiet.py NOTEBOOK...
"""
import sys

import nbformat

from poster_genres.run.pages import without_start_up

for path in sys.argv[1:]:
    nbformat.write(without_start_up(nbformat.read(path, 4)), path)
