"""How far an index is believed that lies in a folder: it may be somebody else's, and come with a clone or an archive.

Its texts are shown. What it says about the world outside, which model to load, which folder to read, counts only where
it stays within the folder it lies in, or where a person says the same.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from udever.bundled import bundled_folder
from udever.errors import DataError, ModelError
from udever.search.coverage import base_of
from udever.search.locate import NAME
from udever.search.manifest import Manifest, parse_manifest
from udever.search.store import Store


def home_of(folder: Path) -> Path:
    """The folder that an index speaks for: the one whose `.udever/index` it is, else the one it lies in."""
    folder = folder.resolve()
    return folder.parent.parent if folder.parts[-2:] == NAME.parts else folder.parent


def check_owner(folder: Path) -> None:
    """Raise DataError where an index that was found, not named, belongs to neither this user nor the system's own."""
    if not hasattr(os, "getuid"):  # Windows
        return
    for path in (folder, folder.parent):
        if path.stat().st_uid not in (os.getuid(), 0):
            raise DataError(
                f"{folder} belongs to another user, and was found, not named; name it if you trust it: {folder}"
            )


def readable_base(manifest: Manifest, store: Store, given: Path | None) -> Path:
    """The folder that files are read from: `given`, else the index's own. Raises DataError where the two differ."""
    if given is not None:
        return given.resolve()
    base = base_of(manifest, store)
    if store.folder is None or base != home_of(store.folder):
        raise DataError(
            f"this index says its files lie in {base}, which is not the folder it lies in; "
            f"if that is so, start with --base {base}"
        )
    return base


def check_found(store: Store, given: Sequence[Path]) -> None:
    """Raise DataError where an index that was found covers more than its own folder and the paths `given`."""
    text = store.read_manifest()
    if text is None or store.folder is None:
        return
    check_owner(store.folder)
    manifest = parse_manifest(text, store.uri)
    base, home = base_of(manifest, store), home_of(store.folder)
    known = [home, *(path.resolve() for path in given)]
    for root in manifest.roots:
        path = (base / root).resolve()
        if not any(path.is_relative_to(one) for one in known):
            raise DataError(f"the index {store.uri} covers {path} too; name all it should cover, or its place with -o")


def own_model(name: str, uri: str) -> str:
    """The model an index remembers, if it is on this machine. Raises ModelError for one that would be fetched."""
    if bundled_folder(name) is not None:
        return name
    path = Path(name)
    if path.is_absolute() and path.exists():
        return name
    cached = None if path.is_absolute() else _cached(name)
    if cached is None:
        raise ModelError(f"{uri} was made with {name}, which is not on this machine; to fetch it, name it: -m {name}")
    return cached


def _cached(name: str) -> str | None:
    """The folder of a hub model that was fetched before."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None
