"""The folder that a run lives in, `OUTPUT-checkpoints`: what is a run's there, and what is somebody else's.

It is no output that is replaced whole. Its marker, of the kind `run`, lists the names that runs of ours write there and
is written before them: what lies under another name, or under such a name without the marker, is never touched.
"""

import os
from collections.abc import Collection
from pathlib import Path

from udever.errors import OutputError
from udever.storage import MARKER, listed, refusals, write_marker


def check_own(folder: Path, names: Collection[str]) -> None:
    """Raise OutputError where something lies in `folder` under one of these names that no run of ours wrote."""
    own = listed(folder, "run")
    for name in (MARKER, *names):
        if name not in own and os.path.lexists(folder / name):
            raise OutputError(
                f"{folder / name} was not written by a run of udever, which would replace it; move it away, or give "
                f"another output folder"
            )


def take(folder: Path, names: Collection[str]) -> None:
    """Make `folder`, if missing, one that a run writes these names to. Raises OutputError as `check_own`."""
    check_own(folder, names)
    own = listed(folder, "run")
    if not own.issuperset(names):
        with refusals(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_marker(folder, "run", {*own, *names})
