"""The one table of file formats: what a file's name says about how its rows are read."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from udever.errors import DataError

Kind = Literal["parquet", "jsonl", "csv", "tsv", "txt"]
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


@dataclass(frozen=True, slots=True)
class Format:
    """How the bytes of a file become rows. `in_folders`: whether a folder that holds such a file means it as data."""

    kind: Kind
    packing: Packing = ""
    in_folders: bool = True


def format_of(path: Path) -> Format | None:
    """The format that the name of a file tells, without case; None for a name that the table does not have."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    packing = _PACKINGS.get(last, "")
    suffix = before if packing else last
    kind = _KINDS.get(suffix)
    if kind is None or (kind == "parquet" and packing):
        return None
    return Format(kind, packing, suffix not in _NOT_IN_FOLDERS)


def text_format(path: Path) -> Format:
    """The format of a file that is read whatever its name: lines of text where the table does not have it.

    Raises DataError for a name that says that the file has a structure of another kind.
    """
    found = format_of(path)
    if found is not None:
        return found
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    packing = _PACKINGS.get(suffixes[-1], "") if suffixes else ""
    rest = suffixes[:-1] if packing else suffixes[-1:]
    if any(_STRUCTURED.fullmatch(suffix) or suffix in _KINDS for suffix in rest):
        raise DataError(
            f"{path} is a {''.join(rest[-1:])} file that is not read{' packed' if packing else ''}; give {READ}"
        )
    return Format("txt", packing)


def pairs_format(path: Path) -> Format:
    """The format of a file of pairs. Raises DataError for one that cannot hold any."""
    found = format_of(path)
    if found is None or found.kind == "txt":
        raise DataError(f"{path} is of a type that holds no pairs; give {READ.replace(', .txt', '')}")
    return found
