import pytest

from udever.source.gitignore import Patterns


@pytest.mark.parametrize(
    ("lines", "path", "is_folder", "expected"),
    [
        (["*.log"], "a/b.log", False, True),
        (["*.log", "!keep.log"], "keep.log", False, False),
        (["/a"], "b/a", False, None),
        (["a/"], "a", False, None),
        (["a/"], "a", True, True),
        (["a/b"], "c/a/b", False, None),
        (["**/b"], "a/b", False, True),
        (["a/**"], "a", True, None),
        (["a/**"], "a/x/y", False, True),
        (["a/**/b"], "a/b", False, True),
        (["a?c"], "a/c", False, None),
        (["[!a].py"], "a.py", False, None),
        (["/a[!b]c"], "a/c", False, None),
        (["[[:digit:]]x"], "7x", False, True),
        (["\\#x", "\\!y"], "!y", False, True),
        (["#x", "", "   "], "#x", False, None),
        (["a.py  "], "a.py", False, True),
        (["a\\ "], "a ", False, True),
        (["[z-a]"], "b", False, None),
        (["a+b(c).py"], "a+b(c).py", False, True),
    ],
)
def test_the_last_pattern_that_matches_decides(lines, path, is_folder, expected):
    assert Patterns(lines).decide(path, is_folder=is_folder) is expected
