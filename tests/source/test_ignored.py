import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from udever.errors import DataError, RecipeError
from udever.source import git as git_module
from udever.source.walk import walk

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git to make repositories with")
pytestmark = needs_git


@pytest.fixture(autouse=True)
def settings(tmp_path_factory, monkeypatch):
    """A user's git settings, empty, instead of those of whoever runs the tests."""
    file = tmp_path_factory.mktemp("home") / "config"
    file.write_text('[user]\n\tname = a\n\temail = a@example.org\n[protocol "file"]\n\tallow = always\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(file))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    return file


@pytest.fixture(params=["git", "own"])
def asked(request, monkeypatch):
    """Both ways of telling what is ignored have to agree: git's, and ours where git is not installed."""
    if request.param == "own":
        monkeypatch.setattr(git_module.shutil, "which", lambda _: None)
    return request.param


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True)


def put(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def repository(root: Path, files: dict[str, str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q")
    return put(root, files)


def sources(root: Path, skipped: Counter[str] | None = None, exclude: tuple[str, ...] = ()) -> list[str]:
    return [file.source for file in walk([root], {".py"}, exclude, Counter() if skipped is None else skipped)]


def test_all_three_layers_count(tmp_path, settings, asked):
    (tmp_path / "mine.txt").write_text("user.py\nback.py\nagain.py\n")
    settings.write_text(settings.read_text() + f'[core]\n\texcludesFile = "{tmp_path}/mine.txt"\n')
    files = ("user.py", "back.py", "again.py", "private.py", "plain.py", "own.py")
    root = repository(tmp_path / "root", dict.fromkeys(files, ""))
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("private.py\n!back.py\n")
    (root / ".gitignore").write_text("own.py\n!again.py\n")
    skipped: Counter[str] = Counter()
    assert sources(root, skipped) == ["again.py", "back.py", "plain.py"]
    assert skipped["file: ignored by git"] == 3


def test_the_default_file_of_a_user_counts(tmp_path, monkeypatch, asked):
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    put(tmp_path, {"settings/git/ignore": "a.py\n", "home/other": "b.py\n"})
    root = repository(tmp_path / "root", {"a.py": "", "b.py": "", "c.py": ""})
    assert sources(root) == ["b.py", "c.py"]
    put(tmp_path, {"home/.gitconfig": "[core] # mine\nexcludesfile = ~/other\n"})
    assert sources(root) == ["a.py", "c.py"]
    git(root, "config", "core.excludesFile", str(tmp_path / "settings/git/ignore"))
    assert sources(root) == ["b.py", "c.py"]


def test_a_submodule_stands_on_its_own_terms(tmp_path, asked):
    inner = repository(tmp_path / "inner", {"a.py": "", "b.py": "", ".gitignore": "b.py\n"})
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "x")
    root = repository(tmp_path / "root", {"a.py": "", ".gitignore": "a.py\n"})
    git(root, "submodule", "-q", "add", str(inner), "sub")
    put(root, {"sub/b.py": "", "clone/a.py": "", "plain/a.py": ""})
    git(root / "clone", "init", "-q")
    assert sources(root) == ["clone/a.py", "sub/a.py"]
    assert sources(root / "sub") == ["a.py"]


def test_another_work_tree_of_the_repository_is_left_out_unless_named(tmp_path, asked):
    root = repository(tmp_path / "root", {"a.py": ""})
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    git(root, "worktree", "add", "-q", "trees/other")
    (root / ".git" / "info" / "exclude").write_text("b.py\n")
    put(root, {"trees/other/b.py": "", "trees/c.py": ""})
    skipped: Counter[str] = Counter()
    assert sources(root, skipped) == ["a.py", "trees/c.py"]
    assert skipped["folder: another work tree of the same repository"] == 1
    assert sources(root / "trees" / "other") == ["a.py"]


def test_git_answers_for_odd_names(tmp_path):
    names = [":a.py", "-b.py", "*.py", "[c].py", "\\d.py", "e\nf.py", " g.py", "é.py", ":(top)h.py", "\udcff.py"]
    root = repository(tmp_path / "root", {**dict.fromkeys(names, ""), ".gitignore": "*c*\n\\*.py\n/:*\n??.py\n"})
    told = git_module.Git(root)
    assert told.ignored(names) == {":a.py", "*.py", "[c].py", ":(top)h.py", "-b.py", "\\d.py", " g.py", "é.py"}
    told.close()
    assert told.ignored(names[:1]) == {":a.py"}, "it starts again"
    told.close()


def test_what_git_tracks_is_not_ignored(tmp_path):
    root = repository(tmp_path / "root", {".gitignore": "gen/\n*_x.py\n", "gen/a.py": "", "gen/b.py": "", "c_x.py": ""})
    git(root, "add", "-f", "gen/a.py", "c_x.py")
    skipped: Counter[str] = Counter()
    assert sources(root, skipped) == ["c_x.py", "gen/a.py"]
    assert skipped == {
        "file: ignored by git": 1,
        "folder: version control (.git)": 1,
        "file: of a type that is not mined": 1,
    }


def test_a_strangers_settings_start_nothing(tmp_path):
    root = repository(tmp_path / "root", {"a.py": "", ".gitignore": "b.py\n", "b.py": ""})
    git(root, "config", "core.fsmonitor", f"touch {tmp_path}/started")
    git(root, "add", "-f", "b.py")
    (tmp_path / "started").unlink(missing_ok=True)
    assert sources(root) == ["a.py", "b.py"]
    assert not (tmp_path / "started").exists()


def test_an_environment_that_points_elsewhere_does_not_count(tmp_path, monkeypatch):
    other = repository(tmp_path / "other", {})
    root = repository(tmp_path / "root", {"a.py": "", "b.py": "", ".gitignore": "b.py\n"})
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert sources(root) == ["a.py"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs special files")
@pytest.mark.parametrize("place", [".gitignore", "sub/.gitignore", ".git/info/exclude"])
@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_special_files_neither_hang_nor_fill_memory(tmp_path, asked, monkeypatch, place, kind):
    monkeypatch.setattr(git_module, "_PATIENCE_S", 0.5)
    root = repository(tmp_path / "root", {"a.py": "", "sub/b.py": ""})
    (root / place).unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(root / place)
    else:
        (root / place).symlink_to("/dev/zero")
    assert sources(root) == ["a.py", "sub/b.py"]


def test_a_hostile_pattern_beside_a_long_name_takes_no_time(tmp_path, asked):
    root = repository(
        tmp_path / "root", {".gitignore": "?*" * 60 + "Z\n" + "**/*a*/" * 40 + "Z\n", "a" * 200 + ".py": ""}
    )
    started = time.process_time()
    assert len(sources(root)) == 1
    assert time.process_time() - started < 2


def test_a_file_of_patterns_that_cannot_be_honoured_closes_its_folder(tmp_path, asked):
    root = repository(tmp_path / "root", {"a.py": "", "sub/b.py": "", "sub/.gitignore": "x\n" * 600_000})
    skipped: Counter[str] = Counter()
    assert sources(root, skipped) == ["a.py"]
    assert skipped["folder: its .gitignore is too large or cannot be read"] == 1
    (root / "sub" / "deep").mkdir()
    with pytest.raises(DataError, match=r"\.gitignore is too large"):
        sources(root / "sub" / "deep")


def test_a_pattern_too_long_is_refused_from_the_caller_and_counted_from_a_tree(tmp_path, asked):
    with pytest.raises(RecipeError, match="characters"):
        sources(tmp_path, exclude=("x" * 2_000,))
    root = repository(tmp_path / "root", {"a.py": "", ".gitignore": "x" * 2_000})
    skipped: Counter[str] = Counter()
    assert sources(root, skipped) == ["a.py"]
    assert skipped["pattern: over 1,000 characters"] == 1


def test_a_folder_with_more_names_than_a_pipe_holds(tmp_path, asked):
    names = {f"{'x' * 150}{number:04}.py": "" for number in range(1_500)}
    root = repository(tmp_path / "root", {**names, ".gitignore": "*[02468].py\n"})
    assert len(sources(root)) == 750


def test_folders_as_deep_as_paths_go(tmp_path):
    root = repository(tmp_path / "root", {"a.py": ""})
    here = Path.cwd()
    try:
        os.chdir(root)
        for _ in range(1_210):
            Path("d").mkdir()
            os.chdir("d")
        Path("b.py").write_text("")
    finally:
        os.chdir(here)
    try:
        assert len(sources(root)) == 2
    finally:
        subprocess.run(["rm", "-rf", root / "d"], check=True)
