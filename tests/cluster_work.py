"""Work for the tests of a cluster, which its workers import: numbers are doubled, and some numbers bring trouble where a file asks for it."""
import contextlib
import errno
import os
import time
from pathlib import Path

import numpy as np

from poster_genres.lib.budgets import SharedBudget
from poster_genres.lib.client import ClientPolicy
from poster_genres.lib.runs import RefusedError


def double(numbers, place="", seconds=0.0):
    "The numbers doubled; what was begun and done is noted in `place`, a file a shard and process. A file `hang`, `die` or `full` there does that to number 13."
    if place:
        Path(place, f"begun-{numbers[0]:04}-{os.getpid()}").touch()
    for trouble in ("hang", "die", "full") if place and 13 in numbers else ():
        if Path(place, trouble).exists():
            _trouble(trouble)
    time.sleep(seconds)
    if place:
        Path(place, f"done-{numbers[0]:04}-{os.getpid()}").touch()
    return {"doubled": np.array(numbers) * 2}


def _trouble(kind):
    if kind == "hang":
        time.sleep(60)
    if kind == "die":
        os._exit(1)
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def blind():
    "Make this process one that sees no file of another machine."
    import poster_genres.lib.cluster
    poster_genres.lib.cluster.fingerprint = lambda path: "missing"


def old():
    "Make this process one with an older Pillow."
    import poster_genres.lib.cluster
    found = poster_genres.lib.cluster.software() | {"pillow": "9.0"}
    poster_genres.lib.cluster.software = lambda: found


def block(call, host, policy):
    "Tell the budget of a host, which all workers share, that a challenge came; its message."
    budget = SharedBudget(call, host, ClientPolicy(*policy))
    with contextlib.suppress(RefusedError):
        budget.block("answers with a challenge")
    return budget.blocked
