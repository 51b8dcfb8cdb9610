"""Which files of a tree git ignores: as git says where it is installed, else by its three layers of patterns.

The layers are `core.excludesFile`, `info/exclude` of the repository, and every .gitignore on the way down; a
repository inside another (a submodule, a clone) starts anew. Outside a repository the .gitignore files count alone.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from udever.errors import DataError, FileRefused
from udever.files import read_regular
from udever.source.git import MAX_BYTES, GitRepository, read_settings
from udever.source.gitignore import Patterns
from udever.source.globs import MAX_PATTERN

MAX_PATTERNS = 10_000
"""Lines of one file of patterns; a folder with a longer one is left out, since what it hides cannot be told."""


@dataclass(frozen=True)
class _Layer:
    """Lines that hold for paths below `folder`."""

    folder: Path
    lines: tuple[str, ...]

    @cached_property
    def patterns(self) -> Patterns:
        return Patterns(self.lines)


@dataclass(frozen=True)
class Rules:
    """What is ignored in one folder; `inside` gives those of a folder in it.

    `layers` come farthest first. `asks_git` is False once git may not be asked: below a .gitignore that is no
    regular file it would wait for ever.
    """

    layers: tuple[_Layer, ...] = ()
    repository: GitRepository | None = None
    asks_git: bool = True

    def inside(self, folder: Path, names: Collection[str], skipped: Counter[str]) -> "Rules | None":
        """The rules in `folder`, which holds `names`; None, counted, where it is not to be entered."""
        rules = self
        if ".git" in names and (self.repository is None or folder != self.repository.top):
            own = GitRepository.at(folder)
            if own is not None and self.repository is not None and own.common == self.repository.common:
                skipped["folder: another work tree of the same repository"] += 1
                return None
            rules = self if own is None else _start(own)
        return rules._with(folder / ".gitignore", skipped) if ".gitignore" in names else rules

    def _with(self, path: Path, skipped: Counter[str]) -> "Rules | None":
        if path.is_symlink() or not path.is_file():
            skipped["file: .gitignore that is no regular file"] += 1
            return replace(self, asks_git=False)
        try:
            lines = _lines(read_regular(path, max_bytes=MAX_BYTES))
        except FileRefused:
            lines = None
        if lines is None or len(lines) > MAX_PATTERNS:
            skipped["folder: its .gitignore is too large or cannot be read"] += 1
            return None
        if over := sum(len(line) > MAX_PATTERN for line in lines):
            skipped[f"pattern: over {MAX_PATTERN:,} characters"] += over
        return replace(self, layers=(*self.layers, _Layer(path.parent, tuple(lines))))

    def ignored(self, folder: Path, entries: Sequence[tuple[str, bool]]) -> set[str]:
        """The names among `entries` (name and whether it is a folder) of `folder` that are ignored."""
        if not entries:
            return set()
        if self.repository is not None and self.asks_git:
            above = below(folder, self.repository.top)
            answer = self.repository.git.ignored([above + name for name, _ in entries])
            if answer is not None:
                return {name for name, _ in entries if above + name in answer}
        places = [(layer.patterns, below(folder, layer.folder)) for layer in reversed(self.layers)]
        return {name for name, is_folder in entries if _decide(places, name, is_folder)}


def below(folder: Path, top: Path) -> str:
    """What stands before a name in `folder` in its path from `top`: "" or the folders with a slash behind each."""
    relative = folder.relative_to(top).as_posix()
    return "" if relative == "." else f"{relative}/"


def _decide(places: Iterable[tuple[Patterns, str]], name: str, is_folder: bool) -> bool:
    """The nearest layer that speaks of it decides."""
    answers = (patterns.decide(above + name, is_folder=is_folder) for patterns, above in places)
    return next((answer for answer in answers if answer is not None), False)


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8-sig", "surrogateescape").split("\n")


def _start(repository: GitRepository) -> Rules:
    files = map(read_settings, repository.exclude_files())
    layers = (_Layer(repository.top, tuple(_lines(data)[:MAX_PATTERNS])) for data in files)
    return Rules(tuple(layers), repository)


def rules_above(root: Path) -> Rules:
    """The rules that the folders above `root` set for it; none outside a repository or where that ignores `root`.

    A folder that its repository ignores (an environment, a checkout of something else) is not part of it. Raises
    DataError where a .gitignore on the way cannot be read.
    """
    found = (GitRepository.at(folder) for folder in (root, *root.parents))
    start = next((repository for repository in found if repository is not None), None)
    if start is None:
        return Rules()
    rules = _start(start)
    try:
        for folder in reversed([root, *root.parents][: len(root.parts) - len(start.top.parts) + 1]):
            if folder != start.top and rules.ignored(folder.parent, [(folder.name, folder.is_dir())]):
                return Rules()
            if folder == root:
                break
            names = [name for name in (".git", ".gitignore") if os.path.lexists(folder / name)]
            within = rules.inside(folder, names, Counter())
            if within is None:
                raise DataError(f"{folder / '.gitignore'} is too large or cannot be read; mend it or leave it out")
            rules = within
        return rules
    finally:
        start.git.close()


def repository(root: Path) -> Path | None:
    """Return the folder that holds the .git of `root`; None outside a repository or where it ignores `root`."""
    found = rules_above(root).repository
    return None if found is None else found.top
