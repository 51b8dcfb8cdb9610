"""Not a test: a process that updates an index again and again and is killed a step later each time.

`killing.py INDEX TREE WORK STRIDE`: for each STRIDEth step N the index is copied to WORK/N and updated by a child
that SIGKILLs itself at step N. LanceDB is imported before the fork but not used, so that none of its runtime has
begun. Prints N of the last child, which came to its end.
"""

import importlib.util
import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

import udever.search.update as updating
from udever.search.lance import LanceStore

STEPS = ("create", "write_manifest", "put_files", "replace", "forget_files", "optimise", "known")


def conftest():
    spec = importlib.util.spec_from_file_location("index_conftest", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def killed_at(step, helpers, index, tree):
    seen = 0

    def count():
        nonlocal seen
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    def counted(method):
        def run(*args, **kwargs):
            count()
            result = method(*args, **kwargs)
            count()
            return result

        return run

    for name in STEPS:
        setattr(LanceStore, name, counted(getattr(LanceStore, name)))
    embedder = helpers.FakeEmbedder()
    embedder.encode_document = counted(embedder.encode_document)
    helpers.update(LanceStore(index), [tree], embedder)


def main(index, tree, work, stride):
    helpers = conftest()
    updating.WINDOW_FILES = 2
    import lancedb  # noqa: F401

    warnings.simplefilter("ignore")
    step = 0
    while True:
        copy = work / str(step)
        if index.exists():
            shutil.copytree(index, copy)
        child = os.fork()
        if child == 0:
            killed_at(step, helpers, copy, tree)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            sys.stdout.write(f"{step}\n")
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        step += stride


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
