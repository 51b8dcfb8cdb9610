"""What a repository's history says: messages, and the lines that each commit brought."""

import os
import shutil
import subprocess
from collections import Counter

import pytest

from udever.source import git as git_module
from udever.source import history as history_module
from udever.source.history import changes
from udever.source.walk import walk

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git to make repositories with")


@pytest.fixture
def repository(past, tmp_path):
    """Three files in two folders, and what was done to them."""
    return past(
        tmp_path / "repository",
        [
            ("Begin", {"a.py": "one\n", "sub/b.py": "two\n", "sub/ü c.py": "three\n", "d.txt": "four\n"}),
            ("fix(parser): read the last line of a file (#12)", {"a.py": "one\nlast line\n"}),
            ("page: say where in it a word stands", {"sub/b.py": "+++ b/a.py\n--- two\n", "d.txt": "five\n"}),
            ('Revert "Say where a word stands"', {"sub/b.py": "two\n"}),
            ("Bump version to 1.2.3 of it all", {"a.py": "one\nlast line\nversion\n"}),
            ("Count what nobody has counted", {"sub/ü c.py": "three\ncounted = 3\n"}),
        ],
    )


def told(root, skipped=None):
    counted = Counter() if skipped is None else skipped
    found = changes(list(walk([root], {".py"}, (), Counter())), {".py"}, counted)
    return [(change.message, {name: sorted(lines) for name, lines in change.lines.items()}) for change in found]


COUNT = ("Count what nobody has counted", {"sub/ü c.py": ["counted = 3"]})
SAY = ("page: say where in it a word stands", {"sub/b.py": ["+++ b/a.py", "--- two"]})
READ = ("read the last line of a file", {"a.py": ["last line"]})


def test_messages_and_added_lines_newest_first_without_reverts_and_releases(repository):
    skipped = Counter()
    assert told(repository, skipped) == [COUNT, SAY, READ]
    assert skipped == {"commit: revert, release or too little said": 2}


def test_a_folder_of_a_repository_and_a_folder_of_repositories(repository, tmp_path):
    below = [
        (message, {name.removeprefix("sub/"): lines for name, lines in files.items()})
        for message, files in (COUNT, SAY)
    ]
    assert told(repository / "sub") == below
    above = [
        (message, {f"repository/{name}": lines for name, lines in files.items()})
        for message, files in (COUNT, SAY, READ)
    ]
    assert told(tmp_path) == above
    assert told(repository / "a.py") == [READ]


def test_a_shallow_clone_tells_what_it_has(repository, tmp_path):
    clone = ["git", "clone", "-q", "--depth", "4", repository.as_uri(), tmp_path / "shallow"]
    subprocess.run(clone, check=True, capture_output=True)
    assert told(tmp_path / "shallow") == [COUNT]


def test_bounds_are_told(repository, monkeypatch):
    monkeypatch.setattr(history_module, "MAX_COMMITS", 2)
    skipped = Counter()
    assert told(repository, skipped) == [COUNT]
    assert skipped["folder: history beyond the last 2 commits"] == 1
    monkeypatch.undo()
    monkeypatch.setattr(history_module, "MAX_BYTES", 400)
    assert told(repository, skipped) == [COUNT]
    assert skipped["folder: history beyond 400 bytes of changes"] == 1
    monkeypatch.undo()
    monkeypatch.setattr(history_module, "MAX_FILES", 0)
    assert told(repository, skipped) == []
    assert skipped["commit: over 0 files changed"] == 3


def test_without_git_or_a_repository_there_is_no_history(repository, tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.py").write_text("one\n")
    skipped = Counter()
    assert told(tmp_path / "plain", skipped) == [] and not skipped
    (repository / ".git" / "HEAD").write_text("nonsense")
    assert told(repository, skipped) == []
    assert skipped == {"folder: history that git does not tell": 1}
    monkeypatch.setattr(git_module.shutil, "which", lambda _: None)
    assert told(repository, skipped) == []
    assert skipped == {"folder: history that git does not tell": 2}


def test_no_program_that_a_repository_names_is_run(repository, tmp_path):
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\ntouch {ran}\ncat "$1"\n')
    program.chmod(0o755)
    (repository / ".gitattributes").write_text("*.py diff=theirs\n")
    with (repository / ".git" / "config").open("a") as file:
        file.write(
            f'[diff]\n\texternal = {program}\n\tnoprefix = true\n[diff "theirs"]\n\tcommand = {program}\n'
            f"\ttextconv = {program}\n[core]\n\tpager = {program}\n\tfsmonitor = {program}\n[gpg]\n"
            f"\tprogram = {program}\n[log]\n\tshowSignature = true\n[color]\n\tui = always\n"
        )
    assert told(repository) == [COUNT, SAY, READ]
    assert not ran.exists() and os.access(program, os.X_OK)
