"""A repository on disk: where it keeps what it knows, and git itself, asked what it ignores and what was changed.

A tree may be a stranger's: git runs with nothing in it that starts programs, with no environment that points it
elsewhere, and with an end to our patience. Where it is missing or gives no answer, the caller has to know.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from signal import SIGKILL
from threading import Timer

from udever.errors import FileRefused
from udever.files import read_regular
from udever.storage import home_folder

MAX_BYTES = 1_000_000
"""Of a file of settings or patterns."""
_PATIENCE_S = 30.0
_BATCH_BYTES = 4_096  # fits a pipe's buffer, so that writing never waits for git, which waits for our reading
_SETTING = re.compile(
    r"\s*(?:\[\s*(?P<section>[\w.-]+)[^\]]*\])?\s*(?:(?P<name>[\w-]+)\s*=\s*(?P<value>.*?)\s*)?(?:[#;].*)?"
)


@dataclass(frozen=True)
class GitRepository:
    """The repository whose work tree starts at `top`. `common` is the folder that all its work trees share."""

    top: Path
    common: Path

    @staticmethod
    def at(top: Path) -> "GitRepository | None":
        """The repository whose work tree starts at `top`; None where none does."""
        marker = top / ".git"
        if not exists(marker):
            return None
        if marker.is_dir():
            return GitRepository(top, _common(marker))
        said = read_settings(marker).decode("utf-8", "surrogateescape").strip()
        if not said.startswith("gitdir:"):
            return None
        return GitRepository(top, _common(top / said.removeprefix("gitdir:").strip()))

    @cached_property
    def git(self) -> "Git":
        """git, to be asked about this work tree."""
        return Git(self.top)

    def exclude_files(self) -> list[Path]:
        """The files of patterns besides every .gitignore, the one that weighs least first."""
        return [_user_excludes(self.common), self.common / "info" / "exclude"]


def read_settings(path: Path) -> bytes:
    """What a small file holds; nothing where it is missing or not to be read."""
    try:
        return read_regular(path, max_bytes=MAX_BYTES)
    except FileRefused:
        return b""


def exists(path: Path) -> bool:
    """Whether there is something at `path`; False in a folder that may not be entered."""
    try:
        return path.exists()
    except OSError:
        return False


def _common(folder: Path) -> Path:
    said = read_settings(folder / "commondir").decode("utf-8", "surrogateescape").strip()
    return Path(os.path.normpath(folder / said))


def _user_excludes(common: Path) -> Path:
    """The user's own file of patterns: `core.excludesFile`, of which git reads the last that is set."""
    home = Path(os.environ.get("HOME") or home_folder() or "/nonexistent")
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "git"
    system = Path(os.environ.get("GIT_CONFIG_SYSTEM", "/etc/gitconfig"))
    users = [Path(os.environ["GIT_CONFIG_GLOBAL"])] if "GIT_CONFIG_GLOBAL" in os.environ else []
    chosen = str(settings / "ignore")
    for file in (system, *(users or [settings / "config", home / ".gitconfig"]), common / "config"):
        section = ""
        for line in read_settings(file).decode("utf-8", "replace").split("\n"):
            found = _SETTING.fullmatch(line)
            if found is None:
                continue
            section = found["section"] or section
            if section.lower() == "core" and (found["name"] or "").lower() == "excludesfile":
                chosen = found["value"].strip('"')
    return home / chosen[2:] if chosen.startswith("~/") else Path(chosen)


class Unfinished(ValueError):
    """git took longer than our patience; `printed` is what it said until then, `seconds` how long that was."""

    def __init__(self, printed: bytes, seconds: float) -> None:
        super().__init__(f"git said nothing more in {seconds:g} s")
        self.printed, self.seconds = printed, seconds


class Git:
    """One `git check-ignore` for the work tree at `top`, started when it is first asked."""

    def __init__(self, top: Path):
        self.top = top
        self._program = shutil.which("git")
        self._process: subprocess.Popen[bytes] | None = None

    def ignored(self, paths: Sequence[str]) -> set[str] | None:
        """Which of `paths` (below `top`, with forward slashes) git ignores; None where it gives no answer.

        The folders above each are taken to have been asked for before. A file that git tracks is not ignored,
        whatever the patterns say, nor is a folder with such a file.
        """
        if self._program is None:
            return None
        try:
            matched = {path for batch in _batches(paths) for path in self._ask(batch)}
            return matched - self._tracked if matched else matched
        except (OSError, ValueError, subprocess.SubprocessError):
            self.close()
            self._program = None
            return None

    def told(self, arguments: Sequence[str], max_bytes: int = -1) -> bytes:
        """What git prints, at most `max_bytes` of it.

        Raises OSError or ValueError where it gives no answer, and Unfinished where it takes too long.
        """
        if self._program is None:
            raise ValueError("git is not installed")
        process = self._start(arguments, subprocess.DEVNULL)
        assert process.stdout is not None
        watch = Timer(_PATIENCE_S, process.kill)
        watch.start()
        try:
            with process.stdout:
                printed = process.stdout.read(max_bytes)
                if len(printed) == max_bytes:
                    return printed
            if process.wait() == -SIGKILL:
                raise Unfinished(printed, _PATIENCE_S)
            if process.returncode:
                raise ValueError("git failed")
            return printed
        finally:
            watch.cancel()
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the process; a later question starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            try:
                stream.close()
            except OSError:  # what was not written to a process that is gone
                continue

    def _start(self, arguments: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
        assert self._program is not None
        options = ("--no-pager", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "-C", str(self.top))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG_")}
        quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
        return subprocess.Popen(
            [self._program, *options, *arguments],
            env={**kept, **quiet, "GIT_CEILING_DIRECTORIES": str(self.top.parent), "LC_ALL": "C"},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    @cached_property
    def _tracked(self) -> set[str]:
        """Files that match a pattern and are tracked all the same, with the folders above them."""
        listed = self.told(["ls-files", "-z", "-i", "-c", "--exclude-standard"])
        names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
        above = {name[:place] for name in names for place, char in enumerate(name) if char == "/"}
        return names | above

    def _ask(self, paths: Sequence[str]) -> Iterator[str]:
        if self._process is None:
            asking = ["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"]
            self._process = self._start(asking, subprocess.PIPE)
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        watch = Timer(_PATIENCE_S, process.kill)
        watch.start()
        try:
            # "./": a name that starts with a colon would be taken for more than a name
            process.stdin.write(b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths))
            process.stdin.flush()
            answer, ends = b"", 0
            while ends < 4 * len(paths):  # file, line, pattern and path
                block = process.stdout.read1(65_536)  # pyright: ignore[reportAttributeAccessIssue]
                if not block:
                    raise ValueError("git ended")
                answer, ends = answer + block, ends + block.count(b"\0")
        finally:
            watch.cancel()
        patterns = answer.split(b"\0")[2::4]
        for path, pattern in zip(paths, patterns, strict=False):
            if pattern and not pattern.startswith(b"!"):
                yield path


def _batches(paths: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for path in paths:
        length = len(os.fsencode(path)) + 1
        if batch and size + length > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += length
    if batch:
        yield batch
