"""Runs what it is told in processes of their own that begin with the heavy packages loaded, which saves each of them some seconds of the processor.

Reads a line for each: `notebook` (its tests) or `program` (imported), a path, and a file for what is printed. Answers with the exit status."""
if __name__ == "__main__":  # worker processes that a notebook starts import this file
    import atexit
    import os
    import runpy
    import sys
    import traceback
    from pathlib import Path

    import bleach, bs4, keras, matplotlib.figure, nbconvert, pandas, papermill, pyarrow.parquet, requests, skimage.io, sklearn.linear_model  # noqa: E401, F401
    from nbdev.config import get_config
    from nbdev.test import test_nb

    def work(kind, path):
        "Whether it failed."
        if kind == "notebook":
            return not test_nb(Path(path), get_config().tst_flags.split(), basepath=get_config().config_path)[0]
        runpy.run_path(path, run_name="imported")

    for line in sys.stdin:
        kind, path, log = line.rstrip("\n").split("\t")
        if not (child := os.fork()):
            for descriptor, file, mode in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
                os.dup2(os.open(file, mode), descriptor)
            os.dup2(1, 2)
            status = 1
            try:
                status = int(bool(work(kind, path)))
            except BaseException:
                traceback.print_exc()
            finally:
                atexit._run_exitfuncs()
                sys.stdout.flush()
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
