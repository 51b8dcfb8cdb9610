import os
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from udever.errors import DataError
from udever.source.walk import MAX_FILE_BYTES, walk


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def sources(*roots: Path, exclude: tuple[str, ...] = (), skipped: Counter[str] | None = None) -> list[str]:
    return [file.source for file in walk(roots, {".py", ".js"}, exclude, Counter() if skipped is None else skipped)]


def test_files_come_sorted_with_their_path_below_the_root(tmp_path):
    put(tmp_path, {"b.py": "", "a/z.py": "", "a/b/c.py": "", "note.txt": ""})
    skipped: Counter[str] = Counter()
    assert sources(tmp_path, skipped=skipped) == ["a/b/c.py", "a/z.py", "b.py"]
    assert skipped == {"file: of a type that is not mined": 1}


def test_a_nearer_gitignore_takes_back_what_a_farther_one_ignores(tmp_path):
    put(
        tmp_path,
        {
            ".gitignore": "gen_*.py\nlogs/\n",
            "gen_a.py": "",
            "sub/.gitignore": "!gen_b.py\n",
            "sub/gen_a.py": "",
            "sub/gen_b.py": "",
            "sub/deep/gen_b.py": "",
            "logs/.gitignore": "!x.py\n",  # git does not look into an ignored folder
            "logs/x.py": "",
        },
    )
    skipped: Counter[str] = Counter()
    assert sources(tmp_path, skipped=skipped) == ["sub/deep/gen_b.py", "sub/gen_b.py"]
    assert skipped["file: ignored by git"] == 2
    assert skipped["folder: ignored by git"] == 1


def test_gitignore_files_above_the_root_count_up_to_the_repository(tmp_path):
    put(
        tmp_path,
        {
            ".gitignore": "b.py\n",  # above the repository: not git's business
            "repo/.git/HEAD": "",
            "repo/.gitignore": "/src/a.py\nc.py\n",
            "repo/src/a.py": "",
            "repo/src/b.py": "",
            "repo/src/c.py": "",
        },
    )
    assert sources(tmp_path / "repo" / "src") == ["b.py"]


def test_a_named_folder_is_searched_even_if_ignored_or_vendored(tmp_path):
    put(
        tmp_path,
        {
            ".git/HEAD": "",
            ".gitignore": ".venv/\n*.py\n",
            ".venv/lib/site-packages/package/a.py": "",
            ".venv/lib/site-packages/package/vendor/b.py": "",
        },
    )
    assert sources(tmp_path) == []
    assert sources(tmp_path / ".venv/lib/site-packages") == ["package/a.py"]
    assert sources(tmp_path / ".venv/lib/site-packages/package/a.py") == ["a.py"]


@pytest.mark.parametrize("name", [".git", "node_modules", "vendor", "third_party", "site-packages", "dist", "build"])
def test_vendored_and_built_folders_are_skipped_and_counted(tmp_path, name):
    put(tmp_path, {f"{name}/a.py": "", "b.py": ""})
    skipped: Counter[str] = Counter()
    assert sources(tmp_path, skipped=skipped) == ["b.py"]
    assert sum(skipped.values()) == 1
    assert name in next(iter(skipped))


def test_a_pattern_takes_vendored_and_built_folders_back_but_never_version_control(tmp_path):
    put(tmp_path, {f"{name}/a.py": "" for name in ("vendor", "build", ".git", "dist", "env")} | {"env/pyvenv.cfg": ""})
    (tmp_path / "link").symlink_to(tmp_path / "dist")
    taken_back = ("!vendor", "!/build", "!.git", "!env", "!link")
    assert sources(tmp_path, exclude=taken_back) == ["build/a.py", "env/a.py", "vendor/a.py"]


def test_a_pattern_that_names_no_folder_takes_none_back(tmp_path):
    put(tmp_path, {f"{name}/a.py": "" for name in ("node_modules/x", "build", "src")} | {"src/b.md": ""})
    assert sources(tmp_path, exclude=("*", "!*/", "!*.py")) == ["src/a.py"]
    assert sources(tmp_path, exclude=("*", "!*/", "!*.py", "!build/")) == ["build/a.py", "src/a.py"]


def test_a_pattern_that_matches_nothing_is_no_file_left_out(tmp_path):
    put(tmp_path, {"a.py": ""})
    skipped: Counter[str] = Counter()
    assert sources(tmp_path, exclude=("# a comment", "", "*.rb"), skipped=skipped) == ["a.py"]
    assert skipped == {"pattern: matches nothing (*.rb)": 0} and list(skipped) == ["pattern: matches nothing (*.rb)"]


def test_a_virtual_environment_is_known_by_its_config_not_its_name(tmp_path):
    put(tmp_path, {"env/pyvenv.cfg": "", "env/a.py": "", "venv/b.py": ""})
    assert sources(tmp_path) == ["venv/b.py"]


def test_minified_large_and_excluded_files_are_counted(tmp_path):
    put(
        tmp_path,
        {
            "a.min.js": "x",
            "big.py": b"#" * (MAX_FILE_BYTES + 1),
            "fits.py": b"#" * MAX_FILE_BYTES,
            "skip/x.py": "",
            "t_x.py": "",
        },
    )
    skipped: Counter[str] = Counter()
    assert sources(tmp_path, exclude=("skip/", "t_*.py"), skipped=skipped) == ["fits.py"]
    assert skipped == {"file: minified": 1, "file: over 1 MB": 1, "folder: excluded": 1, "file: excluded": 1}


def test_symbolic_links_neither_leave_nor_loop(tmp_path):
    put(tmp_path, {"root/a.py": "", "other/b.py": ""})
    (tmp_path / "root/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/out").symlink_to(tmp_path / "other")
    (tmp_path / "root/again.py").symlink_to(tmp_path / "root/a.py")
    skipped: Counter[str] = Counter()
    assert sources(tmp_path / "root", skipped=skipped) == ["a.py"]
    assert skipped == {"file: symbolic link": 3}


def test_overlapping_paths_give_a_file_once(tmp_path):
    put(tmp_path, {"sub/a.py": ""})
    skipped: Counter[str] = Counter()
    assert sources(tmp_path, tmp_path / "sub", skipped=skipped) == ["sub/a.py"]
    assert skipped == {"file: given twice": 1}


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere does not exist"):
        sources(tmp_path / "nowhere")


def test_a_name_that_is_not_utf8_becomes_a_storable_source(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.py", "wb"):  # noqa: PTH123 - a name as bytes
        pass
    (source,) = sources(tmp_path)
    assert source.encode() == "caf\N{REPLACEMENT CHARACTER}.py".encode()


# fmt: off
LINES = (
    "*.py", "!a.py", "/a/", "a/", "!a/", "b/*", "!b/c.py", "**/c.py", "a/**", "!a/b/",
    "/*", "!/b", "a/b", "\\!x.py", "#c", "!*.py", "/a/*", "!/a/b", "?.py", "[ab].py",
    "[!a].py", "a[/]b", "**/b/", "a/**/c.py", "*", "*/a.py", "\\a.py", "**/", "a/**/", "a**/",
    "x.py  ",
)
# fmt: on


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
@pytest.mark.parametrize("seed", range(25))
def test_git_ignores_the_same_files(tmp_path, seed):
    choice = random.Random(seed)
    for folder in ("", "a", "b", "a/b", "a/a", "b/a", "b/b", "a/b/c"):
        put(tmp_path, {f"{folder}/{name}".lstrip("/"): "x" for name in ("a.py", "b.py", "c.py", "x.py")})
        if choice.random() < 0.5 or not folder:
            lines = choice.sample(LINES, choice.randint(1, 4))
            (tmp_path / folder / ".gitignore").write_text("\n".join(lines) + "\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True, stderr=subprocess.DEVNULL)
    listed = subprocess.run(
        ["git", "-c", "core.excludesFile=", "-C", tmp_path, "ls-files", "-co", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(sources(tmp_path)) == sorted(name for name in listed.stdout.split() if name.endswith(".py"))
