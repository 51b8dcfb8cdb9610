"""The vectors of a job's output as one array in memory-mapped file, whatever their number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from udever.corpus import folder as layout
from udever.corpus.shards import read_columns
from udever.errors import DataError
from udever.records import to_numpy
from udever.storage import atomic_file

T = TypeVar("T")


def read_vectors(folder: str | Path) -> tuple[list[str], NDArray[np.floating[Any]]]:
    """Ids and vectors [rows, dimensions] of an output of `udever embed`, in the order of its input.

    The array is a read-only memory-mapped file: only parts that are read take memory. The file, `.vectors-DIGEST.npy`,
    is made in the folder at the first call and again after the job has changed something. Both are of one version of
    the output, also where a job replaces it meanwhile. Raises DataError where the folder holds no vectors or its job
    has not ended, OutputError where the file cannot be written.
    """
    folder = Path(folder)
    return _of_one_version(folder, lambda manifest: (_ids(folder, manifest), _array(folder, manifest)))


def map_vectors(folder: Path) -> NDArray[np.floating[Any]]:
    """The array of `read_vectors` alone. Raises what that raises."""
    return _of_one_version(folder, lambda manifest: _array(folder, manifest))


def _of_one_version(folder: Path, read: Callable[[layout.JobManifest], T]) -> T:
    """What `read` makes of the manifest; of the next one where a job has written that meanwhile, and removed shards."""
    manifest = layout.read_manifest(folder)
    try:
        found = read(manifest)
    except (DataError, FileNotFoundError):
        if layout.read_manifest(folder) == manifest:
            raise
    else:
        if layout.read_manifest(folder) == manifest:
            return found
    layout.vectors_file(folder, manifest).unlink(missing_ok=True)  # it may have been made after the job removed it
    return _of_one_version(folder, read)


def _ids(folder: Path, manifest: layout.JobManifest) -> list[str]:
    return [name for shard in manifest.files(folder) for name in read_columns(shard, ["id"]).column(0).to_pylist()]


def _array(folder: Path, manifest: layout.JobManifest) -> NDArray[np.floating[Any]]:
    path = layout.vectors_file(folder, manifest)
    found = mapped(path)
    if found is None:
        _copy(manifest.files(folder), manifest.num_rows - manifest.num_failed, path)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def mapped(path: Path) -> NDArray[np.floating[Any]] | None:
    """The array of a file where it is there and whole."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None


def _copy(shards: list[Path], num_rows: int, target: Path) -> None:
    # Written, not mapped for writing: on a full disk a mapped page ends the process, a write says so.
    with atomic_file(target) as temporary, temporary.open("wb") as file:
        for number, shard in enumerate(shards):
            try:
                rows = np.ascontiguousarray(to_numpy(read_columns(shard, ["embedding"]).column("embedding")))
            except KeyError:
                raise DataError(f"{shard} holds no vectors; give an output of udever embed") from None
            if not number:
                told = np.lib.format.header_data_from_array_1_0(rows)
                np.lib.format.write_array_header_1_0(file, {**told, "shape": (num_rows, rows.shape[1])})
            file.write(rows.tobytes())
