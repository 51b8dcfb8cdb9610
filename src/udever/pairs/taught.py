"""Datasets of plain texts that are to land where a teacher has them: what is asked of the teacher."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.errors import DataError
from udever.pairs.columns import are_blank
from udever.pairs.files import Rows
from udever.pairs.schema import Role
from udever.pairs.settings import DatasetSettings
from udever.pairs.sources import choose_rows


class Taught(Protocol):
    """A teacher's vectors of texts."""

    @property
    def role(self) -> Role:
        """The side of a search that the teacher took the texts for."""
        ...

    @property
    def digest(self) -> str:
        """Of all it knows."""
        ...

    def known(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which texts it has a vector of."""
        ...

    def targets(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts that it has one of: [texts, its dimensions]."""
        ...


def _known(texts: pa.Array, teacher: Taught) -> NDArray[np.bool_]:
    """Which of `texts` the teacher has a vector of: of none that is null or blank, whatever it was given."""
    there = ~are_blank(texts, texts).to_numpy(zero_copy_only=False)
    there[there] = teacher.known(texts.filter(pa.array(there)).to_pylist())
    return there


def have_targets(rows: Rows, settings: DatasetSettings, teacher: Taught) -> tuple[NDArray[np.bool_], int]:
    """Which texts of a dataset the teacher has a vector of, and of how many that the settings keep it has none.

    Raises DataError where it has none of any, or, without `skip_untaught`, not of all that the settings keep.
    """
    known = np.concatenate([_known(texts, teacher) for texts in rows.column("anchor")])
    wanted = np.ones(len(rows), bool)
    kept = choose_rows(rows, settings.model_copy(update={"cap": None}), "", least=0)
    if kept is not None:
        wanted[:] = False
        wanted[kept] = True
    missing = np.flatnonzero(wanted & ~known)
    asked = f"dataset {settings.name!r}: {', '.join(settings.teachers)}"
    if len(missing) == wanted.sum():
        raise DataError(f"{asked} has no vector of any of its texts; embed these very files with the teacher")
    if len(missing) and not settings.skip_untaught:
        text = rows.take(missing[:1])[0].anchor
        raise DataError(
            f"{asked} has no vector of {len(missing):,} of {int(wanted.sum()):,} texts (the first is row {missing[0]}, "
            f"{text[:40]!r}); embed them too, or leave them out by skip_untaught = true"
        )
    return known, len(missing)
