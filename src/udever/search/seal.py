"""The seal of an index in a folder: size and digest of every file of its tables, as the last update left them.

`.seal.json`: `finished` (false while somebody writes, and after a kill), `files` (path -> size and digest), `manifest`
(a copy of the index's own, so that a damaged index can be made again) and `digest` of all that.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from udever.errors import first_line
from udever.search.store import Store, digest_of
from udever.storage import atomic_file, digest_file, sync

NAME = ".seal.json"
_REWRITTEN = "latest_version_hint.json"
"""The one file of LanceDB that is written more than once under a name."""


@dataclass(frozen=True)
class Seal:
    """What the seal says."""

    finished: bool = False
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    manifest: str | None = None


def _digest(told: dict[str, object]) -> str:
    return digest_of(json.dumps(told, sort_keys=True).encode())


def read_seal(folder: Path) -> Seal | None:
    """The seal; None where there is none. Raises ValueError for a damaged one."""
    try:
        told = json.loads((folder / NAME).read_text("utf-8"))
    except FileNotFoundError:
        return None
    try:
        if told.pop("digest") != _digest(told):
            raise ValueError("its digest is not that of its content")
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in told["files"].items()}
        return Seal(bool(told["finished"]), files, told["manifest"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _write(folder: Path, seal: Seal) -> None:
    told = asdict(seal)
    with atomic_file(folder / NAME) as temporary:
        temporary.write_text(json.dumps({**told, "digest": _digest(told)}) + "\n", encoding="utf-8")


def _files(folder: Path) -> dict[str, Path]:
    """The files of the tables; what lies beside them, such as a file browser's notes, is none of the index's."""
    return {path.relative_to(folder).as_posix(): path for path in folder.glob("*.lance/**/*") if path.is_file()}


@contextmanager
def unsealed(store: Store, *, anew: bool = False) -> Iterator[None]:
    """Take the seal off for the time of the block and put it on again where that ends without an exception.

    `anew`: the block drops everything first, so that names come again. For one who holds the index for writing. An
    index that lies in no folder has no seal.
    """
    folder = store.folder
    if folder is None:
        yield
        return
    try:
        old = read_seal(folder) or Seal()
    except ValueError:
        old = Seal()
    old = Seal(False, {} if anew else old.files, old.manifest)
    _write(folder, old)
    yield
    files = {}
    for name, path in _files(folder).items():
        size = path.stat().st_size
        known = old.files.get(name)  # files are written once: one that was sealed is not believed anew
        if known is None:
            sync(path)
        is_same = known is not None and known[0] == size and path.name != _REWRITTEN
        files[name] = known if known is not None and is_same else (size, digest_file(path))
    _write(folder, Seal(True, files, store.read_manifest()))


def damage(folder: Path) -> list[str]:
    """What is not as it was sealed, a line each."""
    try:
        seal = read_seal(folder)
    except (ValueError, OSError) as error:
        return [f"{NAME} is damaged: {first_line(error)}"]
    if seal is None:
        return []
    there = _files(folder)
    found = []
    for name, (size, digest) in seal.files.items():
        path = there.get(name)
        if not seal.finished and name.endswith(_REWRITTEN):
            continue
        if path is None:
            if seal.finished:
                found.append(f"{name} is gone")
        elif path.stat().st_size != size or digest_file(path) != digest:
            found.append(f"{name}: its bytes are not those that were written (digest)")
    if seal.finished:
        found += [f"{name} has come from elsewhere" for name in there.keys() - seal.files.keys()]
    return sorted(found)
