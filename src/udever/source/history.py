"""What a repository's history says: the messages of its commits, and the lines that each brought to a file.

git is asked by `udever.source.git`. Merges are not asked for, nor are files that a commit made: what the oldest commit
of a shallow clone seems to bring is every file whole.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from udever.source.git import Git, GitRepository, Unfinished, exists
from udever.source.ignored import below, repository
from udever.source.walk import FoundFile

MAX_COMMITS = 2_000
"""The newest commits of a repository that are read."""
MAX_BYTES = 100_000_000
"""Of what they changed."""
MAX_FILES = 8
"""A commit that changes more files says nothing about one of them."""

_MIN_WORDS, _MAX_CHARS = 4, 300
_LOG = (
    *("log", "--no-merges", "--diff-filter=M", "--no-renames", "--patch", "--unified=0"),
    *("--no-color", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--no-notes", "--no-mailmap"),
    *("--encoding=UTF-8", "--src-prefix=a/", "--dst-prefix=b/", "--format=%x00%s%x00"),
)
_KIND = re.compile(
    r"^(?:feat|fix|docs?|chore|refactor|perf|tests?|style|build|ci)(?:\([^()]*\))?!?:\s+|^\[[^\[\]]*\]\s*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\s*\(?(?:#|gh-)\d+\)?")
_SILENT = re.compile(
    r"^(?:(?:un)?revert|merge|bump|release|version|prepare|update (?:changelog|version|dependenc)|wip)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Commit:
    """A commit: its message, and for each file that it changed (as in `Found.source`) the lines it brought."""

    message: str
    lines: Mapping[str, frozenset[str]]


def changes(files: Sequence[FoundFile], suffixes: Collection[str], skipped: Counter[str]) -> list[Commit]:
    """The commits that changed some of `files` (with one of `suffixes`), newest first, one repository at a time.

    Reverts, releases, messages of few words and commits that change more than MAX_FILES such files are left out; they
    and the bounds that were met are counted in `skipped`. No repository, or no git: nothing.
    """
    sources = {file.path: file.source for file in files if file.path.suffix.lower() in suffixes}
    return [change for at, top in _places(files).items() for change in _of(at, top, sources, suffixes, skipped)]


def _places(files: Sequence[FoundFile]) -> dict[Path, Path]:
    """The folders to ask about, each with the repository that it lies in: those given, and repositories within."""
    places: dict[Path, Path] = {}
    for root in {file.root for file in files}:
        at = root if root.is_dir() else root.parent
        above = {folder for file in files if file.root == root for folder in file.path.parents if at in folder.parents}
        places |= {folder: folder for folder in above if exists(folder / ".git")}
        top = repository(at)
        if top is not None:
            places[at] = top
    return dict(sorted(places.items()))


def _of(
    at: Path, top: Path, sources: Mapping[Path, str], suffixes: Collection[str], skipped: Counter[str]
) -> Iterator[Commit]:
    wanted = [f"*{suffix}" for suffix in sorted(suffixes)]
    try:
        where = [f"--relative={below(at, top)}"] if at != top else []
        told = Git(top).told([*_LOG, *where, f"--max-count={MAX_COMMITS + 1}", "--", *wanted], MAX_BYTES + 1)
        is_whole = True
    except Unfinished as error:
        told, is_whole = error.printed, False
        skipped[f"folder: history beyond what git told in {error.seconds:g} s"] += 1
    except (OSError, ValueError, subprocess.SubprocessError):
        skipped["folder: history that git does not tell"] += 1
        return
    at_top = GitRepository.at(top)
    if at_top is not None and exists(at_top.common / "shallow"):
        skipped["folder: history cut off by a shallow clone"] += 1
    parts = told.split(b"\0")
    commits = list(zip(parts[1::2], parts[2::2], strict=False))
    if not is_whole:
        commits = commits[:-1]
    elif len(told) > MAX_BYTES:
        skipped[f"folder: history beyond {MAX_BYTES:,} bytes of changes"] += 1
        commits = commits[:-1]
    elif len(commits) > MAX_COMMITS:
        skipped[f"folder: history beyond the last {MAX_COMMITS:,} commits"] += 1
        commits = commits[:MAX_COMMITS]
    for said, patch in commits:
        message = _message(said.decode("utf-8", "replace"))
        brought = _brought(patch)
        lines = {sources[at / name]: found for name, found in brought.items() if at / name in sources}
        if message is None:
            skipped["commit: revert, release or too little said"] += 1
        elif len(brought) > MAX_FILES:
            skipped[f"commit: over {MAX_FILES} files changed"] += 1
        elif lines:
            yield Commit(message, lines)


def _message(said: str) -> str | None:
    """What the first line of a commit's message says, without its kind and numbers of issues; None: nothing of use."""
    told = " ".join(_NUMBER.sub("", _KIND.sub("", said)).split())[:_MAX_CHARS]
    return None if _SILENT.match(told) or len(told.split()) < _MIN_WORDS else told


def _brought(patch: bytes) -> dict[str, frozenset[str]]:
    """The lines that a patch without context adds, by file. A name that git writes in quotes is left out."""
    brought: dict[str, set[str]] = {}
    name, in_head = "", False
    for line in patch.split(b"\n"):
        if line.startswith(b"diff --git "):
            name, in_head = "", True
        elif line.startswith(b"@@ "):
            in_head = False
        elif in_head and line.startswith(b"+++ b/"):
            name = os.fsdecode(line[6:].rstrip(b"\t\r"))
            brought[name] = set()
        elif name and not in_head and line.startswith(b"+"):
            brought[name].add(line[1:].decode("utf-8", "replace").strip())
    return {name: frozenset(lines - {""}) for name, lines in brought.items()}
