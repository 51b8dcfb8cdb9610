"""Where an index is, and how far one is believed that lies in a folder.

It is beside what it covers, in a folder of its own, in an object store, on a server. One in a folder may be somebody
else's, and come with a clone or an archive. Its texts are shown. What it says about the world outside, which model to
load, which folder to read, counts only where it stays within the folder it lies in, or where a person says the same.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from udever.errors import DataError, ModelError, OutputError
from udever.nearest import path_suggestion
from udever.packaged import bundled_folder
from udever.search.embeddings_file import embeddings_files
from udever.search.store import IndexManifest, Store, base_of, parse_manifest
from udever.storage import MARKER, check_folder, clean, held_alone, is_job, is_output, write_marker

NAME = Path(".udever") / "index"
"""Where the index of a folder lies inside it unless another place is given."""


def is_uri(place: str) -> bool:
    """Whether `place` is no path: an object store or a server."""
    return "://" in place


_POSTGRES = ("udever.search.postgres", "PostgresStore")
_LANCE = ("udever.search.lance", "LanceStore")
STORES: dict[str, tuple[str, str]] = {"postgresql": _POSTGRES, "postgres": _POSTGRES}
"""Module and class of the store by the scheme of its URIs; folders and all other schemes are LanceDB's."""


def open_store(place: str | Path) -> Store:
    """The store at `place`: `postgresql://user@host/database#name`, else LanceDB's (folder or object store)."""
    module, name = STORES.get(str(place).partition("://")[0], _LANCE) if is_uri(str(place)) else _LANCE
    return getattr(import_module(module), name)(str(place))


def nearest_index(start: Path) -> Path | None:
    """The `.udever/index` of `start` or of the nearest folder above it that has one."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if is_index(folder / NAME):
            return folder / NAME
    return None


def is_index(folder: Path) -> bool:
    """Whether `folder` holds an index."""
    return any((folder / "manifest.lance" / "_versions").glob("*.manifest"))


def index_at(place: str) -> str | None:
    """The index at `place` or inside that folder, a damaged one too; None where there is none."""
    if is_uri(place):
        return place
    if is_job(Path(place)):
        return None
    found = (path for path in (Path(place), Path(place) / NAME) if is_index(path) or is_output(path, "index"))
    return next(map(str, found), None)


def embeddings_at(place: str) -> bool:
    """Whether `place` is an embeddings file or a folder of them; where there is an index too, it is the index."""
    if is_uri(place):
        return False
    path = Path(place)
    if is_index(path) or is_index(path / NAME):
        return False
    return path.is_file() or (path.is_dir() and bool(embeddings_files(path)))


def find_index(place: str | None) -> str:
    """The index that `place` means: a URI, an index's folder, a folder with one inside; None: at or above here.

    Raises DataError where there is none.
    """
    if place is not None and is_uri(place):
        return place
    if place is not None:
        folder = Path(place)
        found = next((path for path in (folder, folder / NAME) if is_index(path)), None)
    else:
        folder = Path.cwd()
        found = nearest_index(folder)
    if found is None:
        otherwise = f"make one with: udever index {place or '.'} -m MODEL"
        raise DataError(f"no index in {folder}; {path_suggestion(folder, otherwise)}")
    return str(found)


def check_paths(paths: Iterable[Path]) -> None:
    """Raise DataError for a path that does not exist, naming the nearest."""
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist; {path_suggestion(path, 'give a file or folder that does')}")


def place_for(paths: list[Path], given: str | None) -> str:
    """Where to keep the index of `paths`: as given, the one that covers them already, or inside the first folder."""
    if given is not None:
        if not is_uri(given):
            check_folder(given)
        return given
    first = paths[0] if paths[0].is_dir() else paths[0].parent
    return str(nearest_index(first) or first.resolve() / NAME)


def prepare(folder: Path) -> None:
    """Make the folder of an index; git is told to leave `.udever` alone. Raises OutputError where it cannot be."""
    if folder.is_dir():
        clean(folder)  # what one left that was killed while it wrote the marker
    held = sorted(path.name for path in folder.iterdir() if not _is_beginning(path)) if folder.is_dir() else []
    if held and not is_output(folder, "index"):
        raise OutputError(f"{folder} holds files that are not an index, such as {held[0]}; give a new or empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not held:
            write_marker(folder, "index")
        ignore = folder.parent / ".gitignore"
        if folder.parent.name == NAME.parent.name and not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}; check the path and its permissions") from error


def _is_beginning(path: Path) -> bool:
    """Whether it is the marker that another process is writing for the first time, or its lock."""
    return path.name == "lock" or (path.name.startswith(f".{MARKER}.") and path.suffix == ".tmp")


@contextmanager
def only_writer(folder: Path | None) -> Iterator[None]:
    """Hold the index in `folder` for writing; DataError where another process does. Nothing to hold without one."""
    if folder is None:
        yield
        return
    busy = DataError(f"another process is writing the index {folder}; wait until it has ended")
    with held_alone(folder / "lock", busy):
        yield


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
                f"the index {folder} was found, not named, and belongs to another user; name it if you trust it"
            )


def readable_base(manifest: IndexManifest, store: Store, given: Path | None) -> Path:
    """The folder that files are read from: `given`, else the index's own. Raises DataError where the two differ."""
    if given is not None:
        return given.resolve()
    base = base_of(manifest, store.folder)
    if store.folder is None or base != home_of(store.folder):
        raise DataError(
            f"this index says its files lie in {base}, which is not the folder it lies in; "
            f"if that is so, start with --root {base}"
        )
    return base


def check_found(store: Store, given: Sequence[Path]) -> None:
    """Raise DataError where an index that was found covers more than its own folder and the paths `given`."""
    text = store.read_manifest()
    if text is None or store.folder is None:
        return
    check_owner(store.folder)
    manifest = parse_manifest(text, store.uri)
    base, home = base_of(manifest, store.folder), home_of(store.folder)
    known = [home, *(path.resolve() for path in given)]
    for root in manifest.roots:
        path = (base / root).resolve()
        if not any(path.is_relative_to(one) for one in known):
            raise DataError(
                f"the index {store.uri} covers {path} too; name every path that it is to cover, or name the index "
                f"itself with -o"
            )


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
