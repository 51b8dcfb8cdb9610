"""What an index covers: the files and folders below the one that its paths start from, and the walk over them."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from udever.errors import DataError, FileRefused
from udever.search.store import IndexManifest, Store
from udever.search.words_weight import read_words_weight
from udever.source.reading import read
from udever.source.walk import FoundFile, comes_to, walk

if TYPE_CHECKING:
    from udever.embedder import Embedder


@dataclass(frozen=True)
class WalkedFile:
    """A file as the walk met it; `path` is the one in the index, below the base, with forward slashes."""

    path: str
    found: FoundFile
    size_bytes: int
    mtime_ns: int


def new_manifest(store: Store, paths: Sequence[Path], model: str, embedder: "Embedder") -> IndexManifest:
    """A manifest that covers `paths`, which are resolved, from the deepest folder above them all."""
    base = Path(os.path.commonpath(paths))
    base = base if base.is_dir() else base.parent
    folder = store.folder.resolve() if store.folder is not None else None
    inside = folder is not None and folder.is_relative_to(base)
    return IndexManifest(
        model=full_name(model),
        fingerprint=embedder.fingerprint,
        precision=embedder.precision,
        dimensions=embedder.dimensions,
        # An index inside its own folder can be moved together with it.
        base=Path(os.path.relpath(base, folder)).as_posix() if folder is not None and inside else str(base),
        roots=tuple(sorted({path.relative_to(base).as_posix() for path in paths})),
        words_weight=read_words_weight(model),
    )


def full_name(model: str) -> str:
    """A model's name as it can be found from anywhere."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def covering(manifest: IndexManifest, base: Path, paths: Sequence[Path]) -> IndexManifest:
    """`manifest` with the roots it needs to cover `paths` too; DataError for one that is not below `base`.

    A path inside another root becomes one itself where the walk from there leaves it out: it is named now.
    """
    roots = set(manifest.roots)
    for path in paths:
        if not path.is_relative_to(base):
            raise DataError(f"{path} is not below {base}, which this index covers; give it one of its own (-o)")
        name = path.relative_to(base).as_posix()
        above = [base / root for root in roots if path.is_relative_to(base / root)]
        if name not in roots and all(_leaves_out(path, root, manifest, base) for root in above):
            roots.add(name)
    covered = manifest.model_copy(update={"roots": tuple(sorted(roots))})
    missing_roots(covered, base)  # a disk that is not there is told before anything is dropped
    return covered


def _leaves_out(path: Path, root: Path, manifest: IndexManifest, base: Path) -> bool:
    """Whether the walk from `root`, above `path`, passes it by, or it is a file whose content would not be read."""
    if not comes_to(path, root, manifest.exclude, base):
        return True
    try:
        return path.is_file() and read(FoundFile(path, path.name, base).read(), path.name).text is None
    except FileRefused:
        return False


def is_under(path: str, roots: Collection[str]) -> bool:
    """Whether `path`, below the base, is one of `roots` or lies below one."""
    return any(PurePosixPath(path).is_relative_to(root) for root in roots)


def missing_roots(manifest: IndexManifest, base: Path) -> list[str]:
    """What is covered and not there any more.

    Raises DataError for what may lie on a disk that is not mounted: one whose folder is not there either, or is empty.
    """
    missing = [root for root in manifest.roots if not (base / root).exists()]
    for path in (base / root for root in missing):
        if not path.parent.is_dir() or not any(path.parent.iterdir()):
            raise DataError(
                f"{path} is gone, and nothing else is in the folder it was in, as where a disk is not mounted; mount "
                "it, or make an empty folder there to take its texts out of the index"
            )
    return missing


def scan(manifest: IndexManifest, base: Path, store: Store, skipped: Counter[str]) -> dict[str, WalkedFile]:
    """Every file there is below the roots that are there, by its path below `base`."""
    own = f"{store.folder.resolve()}{os.sep}" if store.folder is not None else None
    # Deepest first: a file that was named itself is met as such.
    roots = sorted(filter(Path.exists, map(base.joinpath, manifest.roots)), key=lambda root: -len(root.parts))
    seen: dict[str, WalkedFile] = {}
    for found in walk(roots, None, manifest.exclude, skipped, base=base, hidden=False):
        if own is not None and str(found.path).startswith(own):
            continue
        path = found.path.relative_to(base).as_posix()
        path = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        try:
            status = found.path.stat()
        except OSError:
            skipped["file: cannot be read"] += 1
            continue
        if path in seen:
            skipped["file: two names that read alike"] += 1
            continue
        seen[path] = WalkedFile(path, found, status.st_size, status.st_mtime_ns)
    return seen
