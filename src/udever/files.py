"""Files that others may have made: opened safely, told apart by their names, unpacked within bounds."""

import errno
import gzip
import io
import os
import re
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from udever.errors import DataError, FileRefused

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
            raise FileRefused(printable(path), "is a link out of its folder")
        _check(path, resolved.stat(), max_bytes)  # before opening, since opening some devices does something
        descriptor = os.open(resolved, _FLAGS | _NO_WAITING)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise FileRefused(printable(path), _reason(error)) from error
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
            raise FileRefused(printable(path), _reason(error)) from error
    if len(data) > max_bytes:
        raise FileRefused(printable(path), f"holds more than {max_bytes:,} bytes")
    return data


def printable(path: object) -> str:
    """A path as text that can be written anywhere: bytes of a name that are no UTF-8 are escaped."""
    return os.fsencode(str(path)).decode(errors="backslashreplace")


def _check(path: Path, status: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(printable(path), "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    if max_bytes is not None and status.st_size > max_bytes:
        raise FileRefused(printable(path), f"holds more than {max_bytes:,} bytes")


def _reason(error: OSError | RuntimeError) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "does not exist"
    if number == errno.ELOOP or isinstance(error, RuntimeError):
        return "is a loop of links"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


Kind = Literal["parquet", "jsonl", "csv", "tsv", "txt", "dataset"]
Packing = Literal["", "gz", "zst"]

_KINDS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "txt",
    ".text": "txt",
}
_PACKINGS: dict[str, Packing] = {".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst"}
_NOT_IN_FOLDERS = {".json"}  # settings and manifests, nearly always; read where it is named
# Files with a structure that would be lost where they are read as lines of text.
_STRUCTURED = re.compile(
    r"\.(?:"
    r"7z|arrow|avro|bin|br|bz2|db|doc|docx|epub|feather|gguf|h5|hdf5|htm|html|ipc|ipynb|json5|lz4|mdb|"
    r"npy|npz|ods|odt|orc|pdf|pickle|pkl|ppt|pptx|pt|pth|rar|rtf|safetensors|snappy|sqlite|sqlite3|"
    r"svg|tar|tgz|toml|xls|xlsx|xml|xz|yaml|yml|z|zip"
    r")"
)
READ = ".parquet, .jsonl, .ndjson, .json, .csv, .tsv, .txt, each but Parquet also as .gz or .zst"
"""The table in words, for messages."""
TABLES = f"{READ.replace(', .txt', '')}, a saved data set, or one of the hub (org/name)"
"""What holds pairs, in words."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Format:
    """How the bytes of a file become rows. `in_folders`: whether a folder that holds such a file means it as data.

    A "dataset" is none of bytes: a folder that the `datasets` package saved, or a name on its hub.
    """

    kind: Kind
    packing: Packing = ""
    in_folders: bool = True


def format_of(path: Path) -> Format | None:
    """The format that the name of a file tells, without case; None for a name that the table does not have."""
    suffix, packing = _suffix(path)
    kind = _KINDS.get(suffix)
    if kind is None or (kind == "parquet" and packing):
        return None
    return Format(kind, packing, suffix not in _NOT_IN_FOLDERS)


def _suffix(path: Path) -> tuple[str, Packing]:
    """The last suffix of a name before that of its packing, and the packing; "" where there is none."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    packing = _PACKINGS.get(last, "")
    return before if packing else last, packing


def text_format(path: Path) -> Format:
    """The format of a file that is read whatever its name: lines of text where the table does not have it.

    Raises DataError for a name that says that the file has a structure of another kind.
    """
    found = format_of(path)
    if found is not None:
        return found
    suffix, packing = _suffix(path)
    if suffix in _KINDS or _STRUCTURED.fullmatch(suffix):
        raise DataError(f"{path} is a {suffix} file, not read{' compressed' if packing else ''}; give {READ}")
    return Format("txt", packing)


def is_saved_dataset(path: Path) -> bool:
    """Whether `path` is a folder that the `datasets` package saved."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def is_hub_name(given: str | Path) -> bool:
    """Whether `given` can only be the name of a data set on a hub: org/name, and no path here."""
    path = Path(given)
    named = _HUB_NAME.fullmatch(str(given)) is not None and path.parts[0] not in (".", "..")
    return named and not path.exists() and not path.parent.is_dir() and format_of(path) is None


def may_hold_pairs(path: Path) -> bool:
    """Whether `path` can hold pairs, as its name tells: a file, a saved data set, or a name on a hub."""
    form = format_of(path)
    if form is not None and form.kind != "txt" and path.is_file():
        return True
    return is_saved_dataset(path) or is_hub_name(path)


def pairs_format(path: Path) -> Format:
    """The format of a table of pairs. Raises DataError for what cannot hold any."""
    if is_saved_dataset(path) or is_hub_name(path):
        return Format("dataset")
    found = format_of(path)
    if found is None or found.kind == "txt":
        raise DataError(f"{path} is of a type that holds no pairs; give {TABLES}")
    return found


CONVERT = "convert the file (iconv -f WINDOWS-1252 -t UTF-8, or from what it was saved in)"
"""What to do about a file that is not UTF-8: as Excel saves CSV in the West, most likely."""


def not_utf8(error: UnicodeDecodeError) -> str:
    """Why a file is not read as text, and what to do about it."""
    return f"not UTF-8: {error.reason} at byte {error.start}; {CONVERT}"


MAX_RATIO = 200
"""Packed text is a third to a fiftieth of its size; what expands further is made to."""
FREE_BYTES = 256 << 20
"""As much is unpacked in any case: it does no harm."""


class Expands(Exception):
    """A packed file holds more than MAX_RATIO times its size."""


class _Bounded(io.RawIOBase):
    """What `unpacked` gives, as far as it is not more than MAX_RATIO times what was read of `packed`."""

    def __init__(self, packed: BinaryIO, unpacked: Any) -> None:
        self._packed, self._unpacked = packed, unpacked
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._unpacked.read(len(buffer))
        except zlib.error as error:
            raise OSError(str(error)) from error
        self._given += len(data)
        if self._given > FREE_BYTES and self._given > MAX_RATIO * self._packed.tell():
            raise Expands(f"the file unpacks to more than {MAX_RATIO} times its size; the rest of it is left out")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._packed.close()
        super().close()


def open_bytes(path: Path, packing: Packing, root: Path | None = None) -> io.BufferedReader:
    """The bytes of a regular file, unpacked; reading on raises Expands where it is packed too well to be true."""
    file = open_regular(path, root=root)
    if not packing:
        return file  # pyright: ignore[reportReturnType]
    if packing == "gz":
        unpacked: Any = gzip.GzipFile(fileobj=file, mode="rb")
    else:
        import pyarrow as pa  # here alone: it takes longer to import than most files to read

        unpacked = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")
    return io.BufferedReader(_Bounded(file, unpacked), 1 << 16)
