import ast

from udever.pairs.mining import ASKED, STANDARD_LIBRARY_EXCLUDE, mine, standard_library


def test_a_package_of_the_standard_library_mines_into_code_that_parses():
    root = standard_library()
    assert (root / "json" / "decoder.py").is_file()
    mined = mine([root / "json", root / "email"], kinds=ASKED, exclude=STANDARD_LIBRARY_EXCLUDE, show_progress=False)
    code = [pair for pair in mined.pairs if pair.positive_language == "python-Code"]
    assert len(code) > 100
    for pair in code:
        ast.parse(pair.positive)


def test_installed_packages_and_tests_are_excluded(tmp_path):
    text = 'def {0}(x):\n    """Do the {0} of it."""\n    {0}_y = x\n    return {0}_y\n'
    for folder in ("json", "site-packages/x", "test", "idlelib/idle_test", "lib2to3/tests"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text(text.format(folder.replace("/", "_").replace("-", "_")))
    mined = mine([tmp_path], kinds=ASKED, exclude=STANDARD_LIBRARY_EXCLUDE, show_progress=False)
    assert [pair.source for pair in mined.pairs] == ["json/a.py"]
