"""Writing so that a reader never sees half a file: to a temporary name beside the target, then moved."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from udever.errors import OutputError

_OURS = ("udever.json", "results.json", "checkpoint.json", "filter.json")
"""A folder with one of these was written by this project and may be replaced."""

_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _explain(error: OSError, target: Path) -> OutputError:
    reason = error.strerror or str(error)
    if error.errno in _OUT_OF_SPACE:
        return OutputError(f"cannot write {target}: {reason}; free some space or choose another output")
    return OutputError(f"cannot write {target}: {reason}; check the path and its permissions")


def _sync(path: Path) -> None:
    if os.name == "nt":  # where a folder cannot be opened, nor a file synced that is open for reading
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")


@contextmanager
def atomic_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target`; move it there when the block ends without an exception.

    Parent folders are made. On any exception the temporary file is removed and `target` is as before.
    Raises OutputError where the file system refuses (full disk, permission, a folder in the way).
    """
    target = Path(target)
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder; give a file name")
    temporary = _temporary(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _explain(error, target) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_replaceable(folder: str | os.PathLike[str]) -> None:
    """Raise OutputError unless `folder` is missing, empty, or an output of this project.

    To be called before long work whose result goes there: replacing a folder deletes what it holds.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write {folder}: it is a file; give a folder name")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in _OURS):
        raise OutputError(f"{folder} holds files that are not an earlier output; give a new or empty folder")


@contextmanager
def atomic_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; swap it into place when the block ends without an exception.

    An existing folder at `target` is replaced as a whole and only then. Raises OutputError where it holds
    something this project did not write, or where the file system refuses.
    """
    target = Path(target)
    check_replaceable(target)
    temporary, old = _temporary(target), _temporary(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*"):
            _sync(path)
        if target.exists():
            target.replace(old)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _explain(error, target) from error
    finally:
        if old.exists() and not target.exists():
            old.replace(target)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
