"""One run at a time in a folder, and nothing of dead runs left in it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from udever.errors import OutputError
from udever.storage import clean
from udever.training.checkpoint import NAME, STATE_FILE

LOCK = ".lock"


@contextmanager
def claimed(kept: Path, output: Path, *, enabled: bool = True) -> Iterator[None]:
    """Take the folder of checkpoints `kept` (made if missing) and the place `output` for one run.

    What killed runs left half-written in `kept` is removed. Raises OutputError while another process has one of them.
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
            yield
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _clean(kept: Path) -> None:
    """Remove what killed runs left of checkpoints; temporary folders are `storage`'s to clean."""
    for path in kept.glob("step-*"):
        if NAME.fullmatch(path.name) and path.is_dir() and not (path / STATE_FILE).is_file():
            shutil.rmtree(path, ignore_errors=True)
    for path in kept.glob(".step-*.parts"):  # of sharded checkpoints
        shutil.rmtree(path, ignore_errors=True)
    clean(kept)
