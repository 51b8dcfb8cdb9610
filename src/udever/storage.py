"""Writing so that a reader never sees half a file, and nothing is deleted that this project did not write.

A result is made in a hidden folder beside its place, `.NAME.HEX.tmp`, locked while its process lives, and moved
from there. Who writes to the same place next removes what dead processes left. A folder that is written whole has
a marker, `.udever-output.json`: its kind and every file of it. Only what a marker lists is ever replaced.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from glob import escape, has_magic
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from udever.errors import OutputError, UdeverError

Kind = Literal["model", "filter", "adapted", "report", "plane", "run", "checkpoint", "index", "exported"]

MARKER = ".udever-output.json"
JOB = "_job.json"
"""What lies in the output folder of a corpus job from its start (see `corpus.folder`)."""

_LOCK = ".udever-lock"
_FORMAT = 1
OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def cache_folder() -> Path:
    """`UDEVER_CACHE`, or `udever` in the user's cache folder."""
    given = os.environ.get("UDEVER_CACHE")
    if given:
        return Path(given)
    caches = os.environ.get("XDG_CACHE_HOME")
    home = home_folder()
    if not caches and home is None:
        raise OutputError("this user has no home folder to keep a cache in; set UDEVER_CACHE to a folder")
    return (Path(caches) if caches else Path(str(home)) / ".cache") / "udever"


def home_folder() -> Path | None:
    """The user's; None for one that has none: HOME unset, and not in the system's list of users."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def _explain(error: OSError, target: Path) -> OutputError:
    reason = error.strerror or str(error)
    if error.errno in OUT_OF_SPACE:
        return OutputError(f"cannot write {target}: {reason}; free some space or choose another output")
    return OutputError(f"cannot write {target}: {reason}; check the path and its permissions")


def _of_a_library(error: Exception) -> OSError | None:
    """The lack of space that a library in Rust (safetensors, tokenizers) met, which has no OSError for it."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = int(found[1]) if found else 0
    return OSError(number, os.strerror(number)) if number in OUT_OF_SPACE else None


def sync(path: Path) -> None:
    """Have a file or folder on the disk when this returns."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def resolved(target: str | os.PathLike[str]) -> Path:
    """Where an output is to be written: a symbolic link stays, what it leads to is the output."""
    try:
        return Path(target).resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot write {target}: a symbolic link that leads nowhere; remove it") from error


def check_folder(
    folder: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]] = (),
    suffixes: Collection[str] | None = None,
) -> None:
    """Raise OutputError for an output folder that is a file or in one, the working folder, or in, at or above an input.

    Of a glob that is its folder before the first wildcard, and whatever it may match below; but not where it wants
    files of a suffix that is none of `suffixes`, those that the output has (None: any). Inputs that are no paths that
    exist (names on a hub) are passed over.
    """
    target = resolved(folder)
    if target.exists() and not target.is_dir():
        raise OutputError(f"cannot write {folder}: it is a file; the output is a folder, give another name")
    if _working_folder().is_relative_to(target):
        raise OutputError(f"cannot write {folder}: it is the folder you are in, or above it; give a folder of its own")
    above = _nearest_above(target)
    if not above.is_dir():
        raise OutputError(f"cannot write {folder}: {above} is a file; give another folder")
    for given in inputs:
        path, pattern = Path(given), _ANY
        if not path.exists():
            path, pattern = cut_glob(given)
        if not pattern or not path.exists():
            continue
        path = path.resolve()
        wanted = Path(pattern[-1]).suffix
        reads = suffixes is None or not wanted or has_magic(wanted) or wanted in suffixes
        if reads and target.is_relative_to(path) and _matches_in(target.relative_to(path).parts, pattern):
            raise OutputError(f"cannot write {folder}: it lies in the input {given}; give a folder outside of it")
        if path.is_relative_to(target):
            raise OutputError(f"cannot write {folder}: the input {given} lies in it; give another folder")


def check_file(
    target: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], own: Collection[str] = ()
) -> None:
    """Raise OutputError where writing `target` would replace an input, or a file in a folder or glob that is one.

    To be called before long work. A file is the same by another path, a symbolic or a hard link. `own` are suffixes
    that outputs of this kind have and nothing that is read in a folder. Inputs that are no paths that exist are passed
    over.
    """
    path = Path(target)
    for given in inputs if path.exists() else ():
        root, pattern = (Path(given), ()) if Path(given).exists() else cut_glob(given)
        named = root.glob("/".join(pattern)) if pattern else [root]
        if any(one.exists() and path.samefile(one) for one in named):
            raise OutputError(f"cannot write {target}: it is the input {given}; give another name")
        if path.suffix.lower() not in own and not pattern and resolved(path).is_relative_to(root.resolve()):
            raise OutputError(f"cannot write {target}: it is a file of the input {given}; give another name")


_ANY = ("**",)


def cut_glob(pattern: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """The folder of a glob before its first wildcard, and the parts behind; none for a path without wildcards."""
    parts = Path(pattern).parts
    first = next((place for place, part in enumerate(parts) if has_magic(part)), len(parts))
    return Path(*parts[:first]), parts[first:]


def _matches_in(folder: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a glob may match something in a folder below its own; both by their parts."""
    if not pattern or not folder or pattern[0] == "**":
        return bool(pattern)
    return fnmatch(folder[0], pattern[0]) and _matches_in(folder[1:], pattern[1:])


def _is_text(path: Path) -> bool:
    """Whether libraries that take paths as text can be given this one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _nearest_above(target: Path) -> Path:
    """The nearest thing above `target` that exists."""
    return next(path for path in target.parents if path.exists())


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except OSError:  # somebody deleted it
        return Path("/")


def _is_inside(name: str) -> bool:
    """Whether a marker's entry stays in its folder: a marker may come from anybody."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _read_marker(folder: Path) -> tuple[str, set[str]] | None:
    """Kind and files of a folder's marker; None where there is none that is whole."""
    try:
        content = json.loads((folder / MARKER).read_text("utf-8"))
        kind, files = content["udever_output"], content["files"]
        if content["format"] != _FORMAT or kind not in get_args(Kind) or not all(map(_is_inside, files)):
            return None
        return kind, set(files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_marker(folder: Path, kind: Kind, names: Iterable[str] | None = None) -> None:
    """Make `folder` an output: its marker lists these names, or every file that is in it now.

    Replaced whole or not at all.
    """
    listed = sorted({*(_names(folder) if names is None else names)} - {MARKER})
    content = {"udever_output": kind, "format": _FORMAT, "files": listed}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with atomic_file(folder / MARKER) as temporary:
        temporary.write_text(text, encoding="utf-8")


def listed(folder: Path, kind: Kind) -> set[str]:
    """What the marker of an output of this kind lists, and its own name; nothing where there is no such marker."""
    found = _read_marker(folder)
    return {MARKER, *found[1]} if found is not None and found[0] == kind else set()


def is_output(folder: str | os.PathLike[str], kind: Kind) -> bool:
    """Whether `folder` carries the marker of an output of this kind."""
    return bool(listed(Path(folder), kind))


def is_job(folder: Path) -> bool:
    """Whether `folder` is the output of a corpus job."""
    return (folder / JOB).is_file()


def _names(folder: Path, prefix: str = "") -> Iterator[str]:
    """Everything below `folder` by its path from there: files, links (none is followed), and empty folders as `x/`."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _names(path, f"{prefix}{path.name}/")
            if not any(path.iterdir()):
                yield f"{prefix}{path.name}/"
        else:
            yield prefix + path.name


def _foreign(folder: Path, listed: set[str] | None = None) -> Path | None:
    """Something in `folder` that no marker lists, the folder's own or that of an output inside it."""
    own = _read_marker(folder)
    here = {MARKER, *own[1]} if own else set()
    listed = {*here, *(listed or ())}
    for path in sorted(folder.iterdir()):
        below = {name.removeprefix(f"{path.name}/") for name in listed if name.startswith(f"{path.name}/")}  # "": empty
        if path.is_symlink() or not path.is_dir():
            if path.name not in listed:
                return path
        elif not below and _read_marker(path) is None:
            return path
        else:
            found = _foreign(path, below)
            if found is not None:
                return found
    return None


def _remove_listed(folder: Path) -> None:
    """Delete what the markers in `folder` list and folders that are empty then; anything else stays."""
    for inner in [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]:
        _remove_listed(inner)
    found = _read_marker(folder)
    if found is not None:
        root = folder.resolve()
        for name in found[1]:
            with suppress(OSError):
                if (folder / name).parent.resolve().is_relative_to(root):
                    (folder / name).unlink()
        (folder / MARKER).unlink()
    for place, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(place).rmdir()


def check_replaceable(
    folder: str | os.PathLike[str], kind: Kind, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Raise OutputError unless `folder` is missing, empty, or holds an earlier output of this kind and nothing else.

    Also where nothing can be made beside it, or above it where that is missing too.

    To be called before long work whose result goes there. `inputs` are the files and folders that are read.
    """
    check_folder(folder, inputs)
    target = resolved(folder)
    if not _is_text(target):
        raise OutputError(f"cannot write {os.fspath(folder)!r}: its path is not UTF-8; give another name")
    if target.is_mount():
        raise OutputError(f"cannot write {folder}: it is a mount point, which cannot be replaced; give a folder in it")
    with refusals(Path(folder)):  # tried, since permissions alone do not tell
        probe = _nearest_above(target) / _temporary_name(target)
        probe.mkdir()
        with suppress(FileNotFoundError):  # another that writes there has taken it for a dead one's
            probe.rmdir()
    if not target.is_dir():
        return
    found = _read_marker(target)
    if found is None:
        first = next(iter(sorted(target.iterdir())), None)
        if first is not None:
            raise OutputError(
                f"{folder} holds files that are not an earlier output, such as {first.name}; give a new or empty folder"
            )
    elif found[0] != kind:
        raise OutputError(f"{folder} holds an output of another kind ({found[0]}, not {kind}); give another folder")
    elif (foreign := _foreign(target)) is not None:
        raise OutputError(
            f"{folder} holds something that udever did not write: {foreign.relative_to(target)}; move it away, or give "
            f"another folder"
        )


def remove_output(folder: Path, kind: Kind) -> None:
    """Delete an output of this kind, what its marker lists and no more; a folder without the marker stays."""
    if is_output(folder, kind) and not folder.is_symlink():
        _remove_listed(folder)


def _locked(folder: Path) -> Any:
    """An open file whose lock says that the owner of a temporary folder lives; None where locks are not to be had.

    Raises BlockingIOError where another has it, FileNotFoundError where another has removed the folder meanwhile.
    """
    path = folder / _LOCK
    lock = path.open("w")
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                raise FileNotFoundError(path)
        except (BlockingIOError, FileNotFoundError):
            lock.close()
            raise
        except OSError:
            lock.close()
            return None
    return lock


def clean(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in `folder` that were writing there; give back what one had taken away.

    `name`: only of those that were writing this entry.
    """
    if sys.platform == "win32":
        return
    for left in folder.glob(f".{'*' if name is None else escape(name)}.????????.tmp"):
        target = folder / left.name[1:-13]
        with suppress(OSError):
            if not left.is_dir() or left.is_symlink():
                continue
            if not (left / _LOCK).exists():  # killed, or about to make it: empty, else not ours
                left.rmdir()
                continue
            lock = _locked(left)
            if lock is None:
                continue
            with lock:
                old = left / _OLD
                if old.exists() and not target.exists():
                    old.rename(target)
                for made in [path for path in left.iterdir() if path.is_dir()]:
                    if _read_marker(made) is not None:
                        _remove_listed(made)
                    else:
                        shutil.rmtree(made)
                for file in left.iterdir():
                    if file.name != _LOCK:
                        file.unlink()
                (left / _LOCK).unlink()
                left.rmdir()


_OLD = ".old"


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new hidden folder beside `target` for the time of the block; leftovers of dead ones are removed first."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        clean(target.parent, target.name)
        room, lock = _room(target)
    except OSError as error:
        raise _explain(error, target) from error
    try:
        yield room
    except Exception as error:
        refused = error if isinstance(error, OSError) else _of_a_library(error)
        if refused is None:
            raise
        raise _explain(refused, target) from error
    finally:
        if lock is not None and sys.platform == "win32":  # an open file cannot be deleted there
            lock.close()
        shutil.rmtree(room, ignore_errors=True)
        if lock is not None:
            lock.close()


def _temporary_name(target: Path) -> str:
    return f".{target.name}.{uuid.uuid4().hex[:8]}.tmp"


def _room(target: Path) -> tuple[Path, Any]:
    """A new temporary folder and its lock."""
    while True:
        room = target.with_name(_temporary_name(target))
        room.mkdir()
        # Another writer may take it for a dead one's before it is locked.
        with suppress(FileNotFoundError, BlockingIOError):
            return room, _locked(room)


@contextmanager
def atomic_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path; move it to `target` when the block ends without an exception.

    Parent folders are made. On any exception the temporary file is removed and `target` is as before. A symbolic
    link stays and the file it leads to is replaced. Raises OutputError where the file system refuses (full disk,
    permission, a folder or a device in the way).
    """
    given, target = target, resolved(target)
    if target.is_dir():
        raise OutputError(f"cannot write {given}: it is a folder; give a file name")
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {given}: it is no regular file; give another name")
    with _beside(target) as room:
        yield room / target.name
        move(room / target.name, target)


@contextmanager
def held_alone(lock: Path, busy: UdeverError | None = None) -> Iterator[None]:
    """Hold a lock file for the block; where another process does, raise `busy`, or without one wait for it.

    The system lets go when the process ends, however it ends. Raises OutputError where the file cannot be made.
    """
    from filelock import FileLock, Timeout

    own = FileLock(lock, timeout=-1 if busy is None else 0)
    try:
        own.acquire()
    except Timeout:
        assert busy is not None, "without one it is waited for"
        raise busy from None
    except OSError as error:
        raise _explain(error, lock) from error
    try:
        yield
    finally:
        own.release()


@contextmanager
def refusals(target: Path) -> Iterator[None]:
    """Turn what the file system refuses in the block into an OutputError that names `target` and what to do."""
    try:
        yield
    except OSError as error:
        raise _explain(error, target) from error


def move(source: Path, target: Path) -> None:
    """Put a file that is written under its name, whole and for good; both are on one file system."""
    with refusals(target):
        sync(source)
        source.replace(target)
        sync(target.parent)


def _stamps(paths: Iterable[Path]) -> list[tuple[int, ...]]:
    """What changes where one of these files is replaced, written to or removed: to be compared before and after."""
    found: list[tuple[int, ...]] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:  # who reads it says what is wrong
            found.append(())
        else:
            found.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return found


def unchanged(paths: Iterable[Path]) -> Callable[[], bool]:
    """A question to ask later: whether these files are still what they are now."""
    listed = list(paths)
    read = _stamps(listed)
    return lambda: _stamps(listed) == read


def digest_file(path: Path) -> str:
    """A name for the bytes of a file: 32 hexadecimal digits of BLAKE2b."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def atomic_folder(target: str | os.PathLike[str], kind: Kind) -> Iterator[Path]:
    """Yield a temporary folder; put it in the place of `target` when the block ends without an exception.

    It gets a marker that lists what is in it. An output of the same kind at `target` is replaced as a whole and only
    then. Raises as `check_replaceable`, before and after the block, and where the file system refuses.
    """
    check_replaceable(target, kind)
    given, target = target, resolved(target)
    with _beside(target) as room:
        new = room / target.name
        new.mkdir()
        yield new
        write_marker(new, kind)
        for path in [*new.rglob("*"), new]:
            if not path.is_symlink():
                sync(path)
        check_replaceable(given, kind)
        if target.exists():
            _swap(new, target, room)
        else:
            new.replace(target)
        sync(target.parent)


def _swap(new: Path, target: Path, room: Path) -> None:
    """Put the folder `new` where `target` is, and delete what was there: the files its marker lists."""
    if _exchange(new, target):
        old = new
    else:  # not in one step: whoever comes after a kill gives `target` back (see `clean`)
        old = room / _OLD
        target.replace(old)
        try:
            new.replace(target)
        except BaseException:
            old.replace(target)
            raise
    left = _foreign(old)
    if left is not None:  # came while we were at it
        if not _exchange(old, target):
            target.replace(new)
            old.replace(target)
        raise OutputError(f"{target} has got something that udever did not write: {left.name}; move it away")
    _remove_listed(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or its file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    return call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0
