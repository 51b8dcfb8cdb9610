"""A teacher's vectors by text, out of the folders that `udever embed` wrote with it."""

import glob
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.corpus.folder import MANIFEST, read_manifest
from udever.corpus.scan import HASH, from_arrow, hash_bytes
from udever.corpus.shards import read_columns
from udever.corpus.vectors import map_vectors
from udever.embedder import Embedder
from udever.errors import DataError
from udever.pairs.settings import DataSettings
from udever.search.embeddings_file import Role

_AT_ONCE = 65_536


@dataclass(frozen=True)
class Teacher:
    """The vectors of one model by the hash of their texts; they stay in their files, mapped. Made by `open`."""

    role: Role
    dimensions: int
    fingerprint: str
    digest: str
    _arrays: list[NDArray[np.floating[Any]]] = field(repr=False)
    _hashes: NDArray[np.bytes_] = field(repr=False)
    _rows: NDArray[np.int64] = field(repr=False)
    _middle: NDArray[np.float64] = field(repr=False)

    @classmethod
    def open(cls, folders: Sequence[str], *, centre: bool = False) -> "Teacher":
        """The vectors of outputs of `udever embed` together; a folder may be a pattern that several fit.

        With `centre` their mean is taken off each. Raises DataError where one is none or has not come to its end, where
        two are of different models, sizes or roles, and for a vector that is not finite.
        """
        first: tuple[str, str, str] | None = None
        arrays, hashes, sums, digest = [], [], [], hashlib.sha256()
        found = [Path(name) for given in folders for name in _matching(given)]
        for folder in found:
            manifest = read_manifest(folder)
            names = ("udever.fingerprint", "udever.dimensions", "udever.role")
            said = tuple(manifest.identity.get(name, "") for name in names)
            first = first or (said[0], said[1], said[2])
            for name, own, other in zip(names, said, first, strict=True):
                if own != other:
                    raise DataError(
                        f"{folder}: its {name.removeprefix('udever.')} is {own}, and that of {found[0]} {other}; one "
                        f"dataset's vectors come from one model and one role: embed the texts again"
                    )
            digest.update((folder / MANIFEST).read_bytes())
            hashes += [from_arrow(read_columns(file, ["text_hash"]).column(0)) for file in manifest.files(folder)]
            arrays.append(map_vectors(folder))
            sums.append(_finite_sum(arrays[-1], folder))
        assert first is not None, "a dataset of plain texts names a teacher"
        whole = np.concatenate([np.empty(0, HASH), *hashes])
        order = np.argsort(whole, kind="stable")
        middle = np.sum(sums, axis=0) / max(len(whole), 1) if centre else np.zeros(int(first[1]))
        return cls(first[2], int(first[1]), first[0], digest.hexdigest(), arrays, whole[order], order, middle)  # pyright: ignore[reportArgumentType]

    def _places(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        wanted = np.array([hash_bytes(text.encode()) for text in texts], HASH)
        if not len(self._hashes):
            return np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
        places = np.searchsorted(self._hashes, wanted).clip(max=len(self._hashes) - 1)
        return self._rows[places], self._hashes[places] == wanted

    def known(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """See `udever.pairs.taught.Taught`."""
        return self._places(texts)[1]

    def targets(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `udever.pairs.taught.Taught`."""
        rows, known = self._places(texts)
        assert known.all(), "texts without a target are in no batch"
        out = np.empty((len(texts), self.dimensions), np.float32)
        start = 0
        for array in self._arrays:
            here = (rows >= start) & (rows < start + len(array))
            out[here] = array[rows[here] - start]
            start += len(array)
        return out - self._middle.astype(np.float32)


def _matching(given: str) -> list[str]:
    """The folders that a pattern fits, sorted; a name that is none stands for itself."""
    if not glob.has_magic(given) or Path(given).exists():
        return [given]
    names = sorted(glob.glob(given))  # noqa: PTH207 # Path.glob takes no absolute pattern
    if not names:
        raise DataError(f"teacher: no folder matches {given}; give the output of a udever embed")
    return names


def _finite_sum(vectors: NDArray[np.floating[Any]], folder: Path) -> NDArray[np.float64]:
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _AT_ONCE):
        part = vectors[start : start + _AT_ONCE]
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise DataError(f"{folder}: the vector of row {row} is not finite; embed the texts again")
        total += part.sum(axis=0, dtype=np.float64)
    return total


def teachers_of(settings: DataSettings) -> dict[str, Teacher]:
    """The teacher of every dataset of plain texts, by the dataset's name. Raises DataError as `Teacher.open` does."""
    taught = [dataset for dataset in settings.all_datasets if dataset.teachers]
    return {str(dataset.name): Teacher.open(dataset.teachers, centre=dataset.centre) for dataset in taught}


def check_sizes(settings: DataSettings, teachers: dict[str, Teacher], embedder: Embedder) -> None:
    """Raise DataError where vectors are to come close that are of different sizes."""
    for dataset in settings.all_datasets:
        teacher = teachers.get(str(dataset.name))
        if teacher and dataset.closeness and teacher.dimensions != embedder.dimensions:
            raise DataError(
                f"dataset {dataset.name!r}: the teacher's vectors have {teacher.dimensions} dimensions and the model's "
                f"{embedder.dimensions}, so they cannot come close; set closeness = 0 to learn from neighbours alone"
            )
