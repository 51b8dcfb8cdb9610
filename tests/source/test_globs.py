import shutil
import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.errors import RecipeError
from udever.source.globs import MAX_PATTERN, Glob, check_pattern


def matches(pattern, name):
    return Glob(pattern).matches(name)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*.py", "a/b.py", True),
        ("/*.py", "a/b.py", False),
        ("src/**", "src/a/b.py", True),
        ("src/**", "src", False),
        ("/**", "a/b", True),
        ("**", "a/b", True),
        ("**/b", "b", True),
        ("**/b", "a/c/b", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/x/b/y", False),
        ("a/**/b/**/c", "a/b/x/b/y/c", True),
        ("a/*/b", "a/x/y/b", False),
        ("a**b", "a/b", False),
        ("a**b", "axxb", True),
        ("a?c", "a/c", False),
        ("*ab*b", "ab", False),
        ("*ab*b", "aabab", True),
        ("[]]", "]", True),
        ("[!]]", "]", False),
        ("[]", "[]", False),
        ("[a", "[a", False),
        ("a\\", "a\\", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("[[:digit:]x]", "7", True),
        ("[[:nothing:]]", "n", False),
        ("[z-a]", "z", True),
        ("[a-]", "-", True),
        ("a[/]b", "a/b", False),
        ("a+b(c)|d.py", "a+b(c)|d.py", True),
        ("día", "x/día", True),
    ],
)
def test_one_pattern(pattern, name, expected):
    assert matches(pattern, name) is expected


@pytest.mark.parametrize(
    "pattern",
    ["?*" * 400 + "Z", "*a" * 400 + "b", "**/a/" * 150 + "b", "*" * 900 + "b", "[ab]*" * 190 + "c", "**/*a*/" * 100],
)
@pytest.mark.parametrize("name", ["a" * 4_000, "a/" * 2_000 + "a", "ab" * 2_000])
def test_no_pattern_takes_long(pattern, name):
    started = time.perf_counter()
    matches(pattern, name)
    assert time.perf_counter() - started < 1


def test_too_long_a_pattern_is_refused_in_one_line_and_matches_nothing():
    check_pattern("a" * MAX_PATTERN)
    long = "*" * (MAX_PATTERN + 1)
    with pytest.raises(RecipeError, match=r"1,001 characters") as error:
        check_pattern(long)
    assert "\n" not in str(error.value)
    assert not matches(long, "a")


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
@settings(max_examples=8)
@given(
    st.lists(st.text("ab*?/[]!-\\x", min_size=1, max_size=9), min_size=30, max_size=30),
    st.lists(st.text("abx*-[]!", min_size=1, max_size=4), min_size=5, max_size=25),
)
def test_git_gives_the_same_answers(tmp_path_factory, patterns, parts):
    folder = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", folder], check=True, stderr=subprocess.DEVNULL)
    names = ["/".join(parts[start : start + length]) for start in range(len(parts)) for length in (1, 2, 3)]
    patterns = [pattern for pattern in patterns if pattern[0] != "!" and not pattern.endswith("/")]
    for pattern in patterns:
        (folder / "patterns").write_text(pattern + "\n")
        asked = subprocess.run(
            ["git", "-C", folder, "-c", f"core.excludesFile={folder}/patterns", "check-ignore", "--stdin", "-z"],
            input="\0".join(names),
            capture_output=True,
            text=True,
            check=False,
        )
        ignored = set(asked.stdout.split("\0"))
        for name in names:
            # git asks of the folders above, too: what is in an ignored folder is ignored.
            above = [name[:end] for end in range(len(name) + 1) if end == len(name) or name[end] == "/"]
            assert any(matches(pattern, folder) for folder in above) is (name in ignored), (pattern, name)
