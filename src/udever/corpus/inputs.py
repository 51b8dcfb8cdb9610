"""What a job reads: files, folders, globs and `datasets` become one list of sources in a fixed order."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from udever.errors import DataError, FileRefused
from udever.files import (
    READ,
    Format,
    format_of,
    is_hub_name,
    is_saved_dataset,
    open_regular,
    printable,
    text_format,
)
from udever.nearest import path_suggestion

_JOBS = ("job.json", "_job.json", ".job.json")


@dataclass(frozen=True, slots=True)
class Source:
    """One file, saved dataset or hub dataset. `name` is what rows and messages call it; always valid UTF-8.

    `format` is None for a dataset, `is_hub` says that it is on a hub. `alone` says that it is the job's only
    source by the way it was asked for, so that row numbers suffice as ids. `root` is the folder that was
    given instead of the file: a link that leaves it is not followed.
    """

    name: str
    location: str
    format: Format | None
    alone: bool
    split: str | None = None
    is_hub: bool = False
    root: str | None = None

    @property
    def shown(self) -> str:
        """The location for messages."""
        return printable(self.location)


def _walk(root: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Every file below `root` by name, without hidden ones and those in hidden or linked folders."""

    def refused(error: OSError) -> None:
        skipped["folder: cannot be read"] += 1

    for folder, names, files in os.walk(root, onerror=refused):
        kept = []
        for name in sorted(names):
            if name.startswith("."):
                skipped["folder: hidden"] += 1
            elif (Path(folder) / name).is_symlink():
                skipped["folder: symbolic link"] += 1
            else:
                kept.append(name)
        names[:] = kept
        for name in files:
            if name.startswith("."):
                skipped["file: hidden"] += 1
            else:
                yield Path(folder) / name


def _usable(root: Path, file: Path, skipped: Counter[str]) -> bool:
    """Whether a file that was not named itself can be opened; counted if not."""
    try:
        open_regular(file, root=root).close()
    except FileRefused as error:
        skipped[f"file: {error.reason}"] += 1
        return False
    return True


def _folder(path: Path, split: str | None, skipped: Counter[str]) -> list[Source]:
    if is_saved_dataset(path):
        return [Source(_named(path), str(path), None, True, split)]
    if any((path / name).is_file() for name in _JOBS):
        raise DataError(f"{printable(path)} is the output of a corpus job; give the texts it was made from")
    found: list[Source] = []
    here: Counter[str] = Counter()
    for file in sorted(_walk(path, here)):
        form = format_of(file)
        if form is None or not form.in_folders:
            here[f"file: {printable(file.suffix.lower()) or 'without a suffix'}, not read in folders"] += 1
        elif _usable(path, file, here):
            found.append(Source(_named(file, path), str(file), form, False, root=str(path)))
    skipped.update(here)
    if not found:
        passed = "; passed over: " + ", ".join(f"{n} {why}" for why, n in here.most_common(5)) if here else ""
        raise DataError(f"{printable(path)} holds no files that are read ({READ}){passed}; give another folder")
    return found


def _glob(given: str, skipped: Counter[str]) -> list[Source]:
    """The files that match, by name; hidden ones, and those in hidden folders, are left out."""
    fixed = _fixed_parts(given)
    root = Path(*fixed)
    matching = sorted(file for file in root.glob("/".join(Path(given).parts[len(fixed) :])) if not file.is_dir())
    found: list[Source] = []
    for file in matching:
        if any(part.startswith(".") for part in file.relative_to(root).parts):
            skipped["file: hidden"] += 1
        elif _usable(root, file, skipped):
            found.append(Source(_named(file, root), str(file), text_format(file), False, root=str(root)))
    if not found:
        raise DataError(f"no file matches {printable(given)}; check the pattern")
    return found


def _named(path: Path, root: Path | None = None) -> str:
    return printable(path.name if root is None else path.relative_to(root).as_posix())


def _one(given: str, split: str | None, alone: bool, skipped: Counter[str]) -> list[Source]:
    path = Path(given)
    if path.is_dir():
        return _folder(path, split, skipped)
    if path.exists():
        form = text_format(path)
        open_regular(path).close()  # refused now, before any work
        return [Source(_named(path), str(path), form, alone)]
    if has_magic(given):
        return _glob(given, skipped)
    if is_hub_name(given):
        return [Source(given, given, None, True, split, is_hub=True)]
    otherwise = "give a file, folder, glob, saved dataset or a hub dataset (org/name)"
    raise DataError(f"{printable(given)} does not exist; {path_suggestion(given, otherwise)}")


def _fixed_parts(pattern: str) -> list[str]:
    """The folders of a glob before its first wildcard."""
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        parts.append(part)
    return parts


def find_sources(inputs: list[str], split: str | None = None, skipped: Counter[str] | None = None) -> list[Source]:
    """The sources of `inputs`, in the order given, files of a folder or glob by name.

    A folder stands for its files of known format at any depth, or is a dataset saved to disk. What is passed
    over in folders and globs is counted in `skipped`, by reason. Raises DataError for what does not exist,
    matches nothing, is given twice, or is a file of a structure that is not read.
    """
    if not inputs:
        raise DataError("no input was given; give a file, folder, glob or dataset")
    counts: Counter[str] = Counter() if skipped is None else skipped
    sources = [source for given in inputs for source in _one(given, split, len(inputs) == 1, counts)]
    seen: dict[str, Source] = {}
    for source in sources:
        if source.name in seen:
            raise DataError(
                f"two inputs are called {source.name} ({seen[source.name].shown} and {source.shown}); "
                f"give each once, or their common folder"
            )
        seen[source.name] = source
    return sources
