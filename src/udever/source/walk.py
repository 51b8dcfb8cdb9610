"""Find the files worth reading under the given paths.

Every file or folder left out is counted under its reason.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

from udever.errors import DataError
from udever.files import read_regular
from udever.nearest import path_suggestion
from udever.source.git import GitRepository, exists
from udever.source.gitignore import Patterns, parse_line
from udever.source.globs import check_pattern
from udever.source.ignored import Rules, below, rules_above

MAX_FILE_BYTES = 1_000_000
MAX_NOTEBOOK_BYTES = 20_000_000
"""Pictures, which are left out, are most of a long notebook."""
_MAX_OPEN = 16
"""Repositories inside one another whose git runs at the same time, at most."""

_SKIPPED_FOLDERS = {
    **dict.fromkeys((".git", ".hg", ".svn"), "version control"),
    **dict.fromkeys(("node_modules", "bower_components", "vendor", "third_party", "site-packages"), "vendored"),
    **dict.fromkeys((".venv", ".tox", ".nox", "dist-packages"), "vendored"),
    ".udever": "index",
    **dict.fromkeys(("dist", "build", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"), "built"),
}
_TAKEN_BACK = ("vendored", "built")
"""Kinds of folders that a pattern with a `!` takes back."""
_MINIFIED_NAME = re.compile(r"\.(?:min|bundle)\.[cm]?(?:js|css)$")


@dataclass(frozen=True)
class FoundFile:
    """A file to read. `source` is its path below the given root, with forward slashes; `root` that root.

    `is_asked`: it was named itself, or a pattern takes it back (`!data/*.csv`), so what it holds is not judged.
    """

    path: Path
    source: str
    root: Path
    is_asked: bool = False

    def read(self) -> bytes:
        """What the file holds. Raises FileRefused where it cannot be read or has become something else since."""
        root = self.root if self.root != self.path else self.root.parent
        return read_regular(self.path, root=root, max_bytes=_max_bytes(self.path))


def _max_bytes(path: Path) -> int:
    return MAX_NOTEBOOK_BYTES if path.suffix.lower() == ".ipynb" else MAX_FILE_BYTES


def _storable(name: str) -> str:
    # A file name need not be UTF-8; the column that stores it must be.
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _Exclusion:
    """The patterns of a walk; `idle` are those that have matched nothing yet.

    Of those with a `!` only the ones that name something take a vendored or built folder back: `!*/` says of every
    folder that files in it may be wanted.
    """

    def __init__(self, exclude: Sequence[str], *, hidden: bool):
        for pattern in exclude:
            check_pattern(pattern)
        # Hidden files hold settings and secrets; a pattern given takes one back ("!.github").
        self._patterns = Patterns(exclude if hidden else (".*", *exclude))
        self._naming = Patterns(line for line in exclude if line.strip("!*/ "))
        self.idle = {line: Patterns([line]) for line in exclude if parse_line(line) is not None}

    def decide(self, path: str, *, is_folder: bool) -> bool | None:
        """As `Patterns.decide`."""
        met = [line for line, own in self.idle.items() if own.decide(path, is_folder=is_folder) is not None]
        for line in met:
            del self.idle[line]
        return self._patterns.decide(path, is_folder=is_folder)

    def takes_back(self, path: str) -> bool:
        """Whether a pattern takes back this vendored or built folder."""
        return self._naming.decide(path, is_folder=True) is False


@dataclass
class _Walk:
    """The walk from one root; `base` is the folder that the paths start from which `exclude` is held against."""

    root: Path
    suffixes: Collection[str] | None
    exclude: _Exclusion
    skipped: Counter[str]
    base: Path
    repositories: dict[Path, GitRepository] = field(default_factory=dict)

    def files(self) -> Iterator[FoundFile]:
        """The files below the root, each folder where its name stands; a folder may lie as deep as paths go."""
        rules = rules_above(self.root)
        self._remember(rules)
        waiting = [self._folder(self.root, rules)]
        try:
            while waiting:
                found = next(waiting[-1], None)
                if found is None:
                    waiting.pop()
                elif isinstance(found, FoundFile):
                    yield found
                else:
                    waiting.append(self._folder(*found))
        finally:
            self._close()

    def comes_to(self, path: Path) -> bool:
        """Whether the walk meets `path`, which lies below the root."""
        folder, rules = self.root, rules_above(self.root)
        self._remember(rules)
        try:
            for name in path.relative_to(self.root).parts:
                entries = self._folder(folder, rules)
                found = next((one for one in entries if _path_of(one) == folder / name), None)
                if found is None or isinstance(found, FoundFile):
                    return found is not None
                folder, rules = found
            return True
        finally:
            self._close()

    def _close(self) -> None:
        for repository in self.repositories.values():
            repository.git.close()

    def _remember(self, rules: Rules) -> None:
        if rules.repository is None or rules.repository.top in self.repositories:
            return
        if len(self.repositories) % _MAX_OPEN == _MAX_OPEN - 1:
            self._close()
        self.repositories[rules.repository.top] = rules.repository

    def _folder(self, folder: Path, outer: Rules) -> Iterator[FoundFile | tuple[Path, Rules]]:
        """What is in `folder`: files, and folders to be looked into with the rules around them."""
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            self.skipped["folder: cannot be read"] += 1
            return
        rules = outer.inside(folder, {entry.name for entry in entries}, self.skipped)
        if rules is None:
            return
        self._remember(rules)
        above = below(folder, self.root)
        listed = [(entry, *self._judged(entry, folder)) for entry in entries]
        asked = [(entry.name, is_folder) for entry, is_folder, reason, _ in listed if reason is None]
        ignored = rules.ignored(folder, asked)
        for entry, is_folder, reason, wanted in listed:
            path = folder / entry.name
            if reason is None and entry.name in ignored:
                reason = "ignored by git"
            elif reason is None and wanted:
                reason = "excluded"
            elif reason is None and not is_folder:
                reason = self.file_reason(path, is_asked=wanted is False)
            if reason is not None:
                self.skipped[f"{'folder' if is_folder else 'file'}: {reason}"] += 1
            elif is_folder:
                yield path, rules
            else:
                yield FoundFile(path, _storable(above + entry.name), self.root, is_asked=wanted is False)

    def _judged(self, entry: os.DirEntry[str], folder: Path) -> tuple[bool, str | None, bool | None]:
        """Whether it is a folder, why it is left out whatever git says, and what the patterns say (False: take it)."""
        is_folder = _is_folder(entry)
        path = below(folder, self.base) + entry.name
        wanted = self.exclude.decide(path, is_folder=is_folder)
        kind = _SKIPPED_FOLDERS.get(entry.name) if is_folder else None
        reason = None
        if kind is not None:
            reason = f"{kind} ({entry.name})"
        elif is_folder and exists(folder / entry.name / "pyvenv.cfg"):
            kind, reason = "vendored", "vendored (virtual environment)"
        elif entry.is_symlink():  # what it points to is outside the root, or under it and found by its own name
            reason = "symbolic link"
        if wanted is False and kind in _TAKEN_BACK and self.exclude.takes_back(path):
            reason = None
        return is_folder, reason, wanted

    def file_reason(self, path: Path, *, is_asked: bool) -> str | None:
        """Why the file itself, however it was found, is left out."""
        try:
            status = path.stat()
        except OSError:
            return "cannot be read"
        if not S_ISREG(status.st_mode):
            return "not a regular file"
        if self.suffixes is not None and path.suffix.lower() not in self.suffixes:
            return "of a type that is not mined"
        if not is_asked and _MINIFIED_NAME.search(path.name.lower()):
            return "minified"
        limit = _max_bytes(path)
        return f"over {limit // 1_000_000} MB" if status.st_size > limit else None


def _path_of(found: FoundFile | tuple[Path, Rules]) -> Path:
    return found.path if isinstance(found, FoundFile) else found[0]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def walk(
    paths: Sequence[Path],
    suffixes: Collection[str] | None,
    exclude: Sequence[str],
    skipped: Counter[str],
    *,
    base: Path | None = None,
    hidden: bool = True,
) -> Iterator[FoundFile]:
    """Yield the files with one of `suffixes` (None: all) under `paths`, sorted by name folder by folder, each once.

    Left out and counted in `skipped`: what git ignores (`udever.source.ignored`), what `exclude` matches (patterns
    as in a .gitignore, below `base` where it is given, else below each path), version control, vendored and built
    folders, symbolic links, minified files, files over MAX_FILE_BYTES and, unless `hidden`, hidden ones. A pattern with
    a `!` takes back what is hidden, or a vendored or built folder that it names; one that matches nothing is in
    `skipped` with a count of 0. A path the caller names is searched even where such a rule would skip it. Raises
    DataError for a path that does not exist, RecipeError for a pattern that is too long.
    """
    patterns = _Exclusion(exclude, hidden=hidden)
    seen: set[Path] = set()
    for given in paths:
        if not given.exists():
            raise DataError(f"{given} does not exist; {path_suggestion(given, 'give a file or folder that does')}")
        root = given.resolve()
        search = _Walk(root, suffixes, patterns, skipped, base or root)
        if root.is_dir():
            found = search.files()
        else:
            reason = search.file_reason(root, is_asked=True)
            if reason is not None:
                skipped[f"file: {reason}"] += 1
            found = [] if reason is not None else [FoundFile(root, _storable(root.name), root, is_asked=True)]
        for file in found:
            if file.path in seen:
                if base is None:  # else `paths` were drawn up by the caller
                    skipped["file: given twice"] += 1
                continue
            seen.add(file.path)
            yield file
    for pattern in patterns.idle:
        skipped[f"pattern: matches nothing ({pattern})"] = 0


def comes_to(path: Path, root: Path, exclude: Sequence[str], base: Path) -> bool:
    """Whether a walk of all but hidden files from `root`, with these patterns below `base`, meets `path` below it."""
    return _Walk(root, None, _Exclusion(exclude, hidden=False), Counter(), base).comes_to(path)
