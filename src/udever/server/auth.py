"""Bearer keys, compared in constant time."""

import hashlib
import hmac
import os
import stat
import warnings
from collections.abc import Iterable
from pathlib import Path

from udever.errors import DataError
from udever.nearest import path_suggestion

ENVIRONMENT = "UDEVER_KEYS"
"""Keys separated by commas or blanks."""

_LEAST = 8


class Keys:
    """The keys that open the server; none are kept, only their digests."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = tuple(_digest(key.encode()) for key in dict.fromkeys(keys))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._digests)

    def admit(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries one of the keys.

        Digests of equal length are compared, every one of them, so that the time tells neither how much of a
        key was right nor which one it was.
        """
        scheme, _, key = (authorization or "").partition(" ")
        digest = _digest(key.strip().encode("utf-8", "surrogateescape"))
        found = False
        for known in self._digests:
            found |= hmac.compare_digest(digest, known)
        return found and scheme.lower() == "bearer"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(path: Path | None) -> Keys | None:
    """Keys of a file (one a line, `#` begins a comment), else of the environment; None where neither is given.

    Raises DataError for a file without keys, that others than its owner may write, or for a key that is too
    short or not plain ASCII: an open server must be meant.
    """
    if path is not None:
        return _checked(_lines_of(path), str(path))
    if ENVIRONMENT in os.environ:
        return _checked(os.environ[ENVIRONMENT].replace(",", " ").split(), f"the environment variable {ENVIRONMENT}")
    return None


def _lines_of(path: Path) -> list[str]:
    try:
        mode = path.stat().st_mode
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        hint = path_suggestion(path, "check the path")
        raise DataError(f"cannot read the keys file {path}: {error.strerror}; {hint}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the keys file {path} is not UTF-8; write one key a line") from error
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DataError(f"the keys file {path} can be written by others than its owner; run chmod go-w {path}")
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        warnings.warn(f"the keys file {path} can be read by others than its owner; run chmod go-r {path}", stacklevel=2)
    return [stripped for line in lines if (stripped := line.partition("#")[0].strip())]


def _checked(keys: list[str], where: str) -> Keys:
    if not keys:
        raise DataError(f"{where} holds no key; write one a line, or leave the option out for an open server")
    for number, key in enumerate(keys, 1):
        if len(key) < _LEAST or not key.isascii() or not key.isprintable() or " " in key:
            raise DataError(
                f"key {number} of {where} cannot be used; expected {_LEAST} or more ASCII characters without blanks"
            )
    return Keys(keys)
