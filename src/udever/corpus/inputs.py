"""What a job reads: files, folders, globs and `datasets` become one list of sources in a fixed order."""

import re
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from udever.errors import DataError

_PACKED = (".gz", ".zst")
_FORMATS = (".parquet", ".jsonl", ".csv", ".tsv", ".txt")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """One file, saved dataset or hub dataset. `name` is what rows and messages call it.

    `kind` is its format's suffix without packing, "dataset" or "hub". `alone` says that it is the job's
    only source by the way it was asked for, so that row numbers suffice as ids.
    """

    name: str
    location: str
    kind: str
    alone: bool
    split: str | None = None

    @property
    def packing(self) -> str:
        """ ".gz", ".zst" or nothing."""
        suffix = Path(self.location).suffix
        return suffix if suffix in _PACKED else ""


def file_kind(path: Path) -> str:
    """The format a file's name tells; every name that tells none is lines of text."""
    suffix = Path(path.stem).suffix if path.suffix in _PACKED else path.suffix
    return suffix if suffix in _FORMATS else ".txt"


def _is_readable(path: Path) -> bool:
    """Whether a file inside a folder is taken for input."""
    suffix = Path(path.stem).suffix if path.suffix in _PACKED else path.suffix
    return suffix in _FORMATS


def _is_saved_dataset(path: Path) -> bool:
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _shown(root: Path, pattern: str) -> list[Path]:
    """Files under `root` that match, by name; hidden ones, and those in hidden folders, are left out."""
    found = (file for file in root.glob(pattern) if file.is_file())
    return sorted(file for file in found if not any(p.startswith(".") for p in file.relative_to(root).parts))


def _folder(path: Path, split: str | None) -> list[Source]:
    if _is_saved_dataset(path):
        return [Source(path.name, str(path), "dataset", True, split)]
    if (path / "_job.json").is_file():
        raise DataError(f"{path} is the output of a corpus job; give the texts it was made from")
    files = [file for file in _shown(path, "**/*") if _is_readable(file)]
    if not files:
        raise DataError(f"{path} holds no {', '.join(_FORMATS)} files; give another folder")
    return [Source(file.relative_to(path).as_posix(), str(file), file_kind(file), False) for file in files]


def _one(given: str, split: str | None, alone: bool) -> list[Source]:
    path = Path(given)
    if path.is_file():
        return [Source(path.name, str(path), file_kind(path), alone)]
    if path.is_dir():
        return _folder(path, split)
    if has_magic(given):
        fixed = _fixed_parts(given)
        root = Path(*fixed)
        files = _shown(root, "/".join(path.parts[len(fixed) :]))
        if not files:
            raise DataError(f"no file matches {given}; check the pattern")
        return [Source(file.relative_to(root).as_posix(), str(file), file_kind(file), False) for file in files]
    if _HUB_NAME.fullmatch(given) and not path.parent.is_dir() and file_kind(path) == ".txt":
        return [Source(given, given, "hub", True, split)]
    raise DataError(f"{given} does not exist; give a file, folder, glob, saved dataset or a hub dataset (org/name)")


def _fixed_parts(pattern: str) -> list[str]:
    """The folders of a glob before its first wildcard."""
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        parts.append(part)
    return parts


def find_sources(inputs: list[str], split: str | None = None) -> list[Source]:
    """The sources of `inputs`, in the order given, files of a folder or glob by name.

    A folder stands for its files of known format at any depth, or is a dataset saved to disk. Raises
    DataError for what does not exist, matches nothing, or is given twice.
    """
    if not inputs:
        raise DataError("no input was given; give a file, folder, glob or dataset")
    sources = [source for given in inputs for source in _one(given, split, len(inputs) == 1)]
    seen: dict[str, Source] = {}
    for source in sources:
        if source.name in seen:
            raise DataError(
                f"two inputs are called {source.name} ({seen[source.name].location} and {source.location}); "
                f"give each once, or their common folder"
            )
        seen[source.name] = source
    return sources
