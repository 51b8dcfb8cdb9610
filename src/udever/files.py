"""The one way to open a file that others may have made: regular files only, within a folder, within a size."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from udever.errors import FileRefused

_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # opening a FIFO would wait for its writer
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_regular(path: Path, *, root: Path | None = None, max_bytes: int | None = None) -> BinaryIO:
    """Open a regular file to read its bytes.

    Links are followed, with `root` only where they end below it; a file of more than `max_bytes` is not opened.
    Raises FileRefused, which carries the reason, for everything that is not read: devices, FIFOs, sockets,
    folders, links that lead out or nowhere, files too large, files that the system does not open.
    """
    try:
        # What is opened is the path without links: a link put there in between is refused by O_NOFOLLOW.
        resolved = path.resolve(strict=True)
        if root is not None and not resolved.is_relative_to(root.resolve()):
            raise FileRefused(path, "is a link out of its folder")
        _check(path, resolved.stat(), max_bytes)  # before opening, since opening some devices does something
        descriptor = os.open(resolved, _FLAGS | _NO_WAITING)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise FileRefused(path, _reason(error)) from error
    try:
        _check(path, os.fstat(descriptor), max_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, *, root: Path | None = None, max_bytes: int) -> bytes:
    """The bytes of a file that `open_regular` opens, refused too where it holds more than its size said."""
    with open_regular(path, root=root, max_bytes=max_bytes) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise FileRefused(path, _reason(error)) from error
    if len(data) > max_bytes:
        raise FileRefused(path, f"holds more than {max_bytes:,} bytes")
    return data


def _check(path: Path, status: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(path, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    if max_bytes is not None and status.st_size > max_bytes:
        raise FileRefused(path, f"holds more than {max_bytes:,} bytes")


def _reason(error: OSError | RuntimeError) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "does not exist"
    if number == errno.ELOOP or isinstance(error, RuntimeError):
        return "is a loop of links"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
