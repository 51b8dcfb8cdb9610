"""Every error a user can cause.

    UdeverError (ValueError)
    ├── DataError        a file, folder, table or row is not what was expected
    │   └── FileRefused      a file is not read: no regular file, a link out of its folder, too large
    ├── TextError        a text cannot be embedded; names its row
    ├── RecipeError      a recipe or option has a wrong key, type or value
    ├── ModelError       a model folder or architecture cannot be used
    │   └── ContractError    a model does not do what its contract says (self-test, fingerprint, vectors)
    ├── OutputError      a result could not be written
    └── MissingExtra     a package of an optional part is not installed; names the line that installs it

Each message is one line: what was given, what was expected, what to do. The command line prints it and
exits with 2. A broken assumption of our own is an `assert`, never one of these.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class UdeverError(ValueError):
    """Base of all errors that the caller can mend."""


class DataError(UdeverError):
    """A file, folder, table or row is not what was expected."""


class FileRefused(DataError):
    """A file is not read; `reason` says why without naming it, so that files can be counted by reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.reason = reason


class TextError(UdeverError):
    """A text cannot be embedded; the message names its row."""


class RecipeError(UdeverError):
    """A recipe or option has a wrong key, type or value."""


class ModelError(UdeverError):
    """A model folder or architecture cannot be used."""


class ContractError(ModelError):
    """A model does not do what its contract says: self-test, fingerprint or reference vectors."""


class OutputError(UdeverError):
    """A result could not be written."""


class MissingExtra(UdeverError):
    """A package of an optional part is not installed; the message names the line that installs it."""


def first_line(error: object) -> str:
    """What an exception of another package says, on one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]


@contextmanager
def needs(package: str, extra: str, what: str) -> Iterator[None]:
    """Around the import of an optional package: an ImportError becomes MissingExtra.

    `package` is the name that pip knows, `what` the part of udever that asks for it.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"{what} needs {package}, which cannot be imported ({error}); run pip install 'udever[{extra}]'"
        ) from error
