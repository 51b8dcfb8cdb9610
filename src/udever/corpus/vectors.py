"""The vectors of a job's output as one array in memory-mapped file, whatever their number."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.corpus import folder as layout
from udever.corpus.shards import read_columns, to_numpy
from udever.errors import DataError
from udever.storage import atomic_file


def read_vectors(folder: str | Path) -> tuple[list[str], NDArray[np.floating[Any]]]:
    """Ids and vectors [rows, dimensions] of an output of `udever embed`, in the order of its input.

    The array is a read-only memory-mapped file: only parts that are read take memory. The file, `.vectors.npy`, is made
    in the folder at the first call and again after the job has changed something. Raises DataError where the folder
    holds no vectors or its job has not ended, OutputError where the file cannot be written.
    """
    folder = Path(folder)
    ids: list[str] = []
    for shard in layout.read_manifest(folder).files(folder):
        ids += read_columns(shard, ["id"]).column(0).to_pylist()
    return ids, map_vectors(folder)


def map_vectors(folder: Path) -> NDArray[np.floating[Any]]:
    """The array of `read_vectors` alone. Raises what that raises."""
    manifest = layout.read_manifest(folder)
    found = mapped(folder)
    if found is None:
        _copy(manifest.files(folder), manifest.num_rows - manifest.num_failed, folder / layout.VECTORS)
        found = mapped(folder)
        assert found is not None, "what was just written is there and newer"
    return found


def mapped(folder: Path) -> NDArray[np.floating[Any]] | None:
    """The array where it has been made since the manifest was written."""
    path = folder / layout.VECTORS
    try:
        if path.stat().st_mtime_ns < (folder / layout.MANIFEST).stat().st_mtime_ns:
            return None
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
