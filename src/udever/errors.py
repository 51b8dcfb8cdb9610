"""Every error a user can cause.

    UdeverError (ValueError)
    ├── DataError        a file, folder, table or row is not what was expected
    │   └── FileRefused      a file is not read: no regular file, a link out of its folder, too large
    ├── TextError        a text cannot be embedded; names its row
    ├── RecipeError      a recipe or option has a wrong key, type or value
    ├── ModelError       a model folder or architecture cannot be used
    │   └── ContractError    a model does not do what its contract says (self-test, fingerprint, vectors)
    └── OutputError      a result could not be written

Each message is one line: what was given, what was expected, what to do. The command line prints it and
exits with 2. A broken assumption of our own is an `assert`, never one of these.
"""

import os


class UdeverError(ValueError):
    """Base of all errors that the caller can mend."""


class DataError(UdeverError):
    """A file, folder, table or row is not what was expected."""


class FileRefused(DataError):
    """A file is not read; `reason` says why without naming it, so that files can be counted by reason."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{os.fsencode(str(path)).decode(errors='replace')} {reason}")
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
