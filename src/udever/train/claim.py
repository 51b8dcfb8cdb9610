"""One run at a time in a folder, and nothing of dead runs left in it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from udever.errors import OutputError
from udever.train.checkpoint import STATE_FILE

LOCK = ".lock"


@contextmanager
def claimed(kept: Path, output: Path, *, enabled: bool = True) -> Iterator[None]:
    """Take the folder of checkpoints `kept` (made if missing) and the place `output` for one run.

    What killed runs left half-written in both is removed. Raises OutputError while another process has one of them.
    Nothing happens where not `enabled`.
    """
    if not enabled:
        yield
        return
    try:
        kept.mkdir(parents=True, exist_ok=True)
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {error.filename}: {error.strerror}; give another output folder") from error
    beside = output.with_name(f".{output.name}{LOCK}")
    try:
        with ExitStack() as stack:
            for path, what in ((kept / LOCK, kept), (beside, output)):
                try:
                    stack.enter_context(FileLock(path, timeout=0))
                except Timeout as error:
                    raise OutputError(
                        f"another run is writing to {what}; wait for it, or give another output folder"
                    ) from error
            _clean(kept)
            if output.exists():  # while it does not, one of the halves is what a killed run was to replace
                remove_halves(output)
            yield
            if output.exists():
                remove_halves(output)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _clean(kept: Path) -> None:
    for path in kept.iterdir():
        half = path.name.startswith(".") and path.suffix in (".tmp", ".parts")
        pruned = path.name.startswith("step-") and path.is_dir() and not (path / STATE_FILE).is_file()
        if half or pruned:
            _remove(path)


def remove_halves(target: Path) -> None:
    """Remove what was to become `target` when a run was killed."""
    for path in target.parent.glob(f".{target.name}.????????.tmp"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
