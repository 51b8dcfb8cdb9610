"""Where the running interpreter keeps its own library: a corpus that every machine already has."""

import sysconfig
from pathlib import Path

STANDARD_LIBRARY_EXCLUDE = (
    "site-packages/",
    "dist-packages/",
    "test/",
    "tests/",
    "idle_test/",
    "config-*/",
)
"""What `mine(..., exclude=)` leaves out of it: installed packages, tests, build settings."""


def standard_library() -> Path:
    """Return the folder of the interpreter's own library, also from within a virtual environment."""
    return Path(sysconfig.get_path("stdlib")).resolve()
