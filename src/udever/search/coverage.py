"""What an index covers: the files and folders below the one that its paths start from, and the walk over them."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from udever.errors import DataError
from udever.search.fusion import read_words_weight
from udever.search.store import Manifest, Store
from udever.source.walk import FoundFile, walk

if TYPE_CHECKING:
    from udever.embedder import Embedder


@dataclass(frozen=True)
class WalkedFile:
    """A file as the walk met it; `path` is the one in the index, below the base, with forward slashes."""

    path: str
    found: FoundFile
    size_bytes: int
    mtime_ns: int


def new_manifest(store: Store, paths: Sequence[Path], model: str, embedder: "Embedder") -> Manifest:
    """A manifest that covers `paths`, which are resolved, from the deepest folder above them all."""
    base = Path(os.path.commonpath(paths))
    base = base if base.is_dir() else base.parent
    folder = store.folder.resolve() if store.folder is not None else None
    inside = folder is not None and folder.is_relative_to(base)
    return Manifest(
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


def covering(manifest: Manifest, base: Path, paths: Sequence[Path]) -> Manifest:
    """`manifest` with the roots it needs to cover `paths` too; DataError for one that is not below `base`."""
    roots = set(manifest.roots)
    for path in paths:
        if not path.is_relative_to(base):
            raise DataError(f"{path} is not below {base}, which this index covers; give it one of its own (-o)")
        if not any(path.is_relative_to(base / root) for root in roots):
            roots.add(path.relative_to(base).as_posix())
    return manifest.model_copy(update={"roots": tuple(sorted(roots))})


def scan(manifest: Manifest, base: Path, store: Store, skipped: Counter[str]) -> dict[str, WalkedFile]:
    """Every file there is, by its path below `base`."""
    own = f"{store.folder.resolve()}{os.sep}" if store.folder is not None else None
    # Hidden files hold settings and secrets; a pattern given later takes one back ("!.github").
    exclude = (".*", *manifest.exclude)
    seen: dict[str, WalkedFile] = {}
    for found in walk([base / root for root in manifest.roots], None, exclude, skipped):
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
