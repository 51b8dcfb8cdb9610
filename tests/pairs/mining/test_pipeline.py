import pytest

from udever.errors import DataError, RecipeError
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.mining import ASKED, mine

PYTHON = '''
def {name}(values):
    """Return the {name} of all the values."""
    {name}_result = {name}_of(values)
    return {name}_result + {number}
'''
PAGE = """# Handbook
## How to {name} the values
The page explains at length how one goes about to {name} the values: number {number} and {name} make it clear.
"""
PO = """msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "Cannot {name} the values"
msgstr "Kann die Werte nicht {name}en"
"""
NAMES = ("sum", "mean", "median", "variance", "mode", "range", "product", "count")


@pytest.fixture
def project(tmp_path):
    for number, name in enumerate(NAMES):
        for path, text in ((f"src/{name}.py", PYTHON), (f"docs/{name}.md", PAGE), (f"po/{name}/de.po", PO)):
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text.format(name=name, number=number), encoding="utf-8")
    (tmp_path / "LICENSE").write_text("Permission is hereby granted, free of charge, to any person obtaining a copy")
    (tmp_path / "src/mode.py").write_text(
        "# SPDX-License-Identifier: ISC\n" + PYTHON.format(name="mode", number=1), encoding="utf-8"
    )
    return tmp_path


def test_a_project_gives_rows_of_all_kinds(project):
    mined = mine([project], kinds=ASKED, language="eng-Latn", held_out=0.25, show_progress=False)
    assert mined.num_files == len(mined.pairs) == 24
    assert mined.skipped == {"file: of a type that is not mined": 1, "row: heading under 2 words": 8}
    rows = {pair.source: pair for pair in mined.pairs}
    assert rows["src/sum.py"].positive.startswith("def sum(values):\n    sum_result")
    assert rows["docs/mean.md"].anchor == "Handbook > How to mean the values"
    assert rows["po/mode/de.po"].positive_language == "deu-Latn"
    assert (rows["src/mode.py"].licence, rows["src/sum.py"].licence) == ("ISC", "MIT")
    assert {pair.split for pair in mined.pairs} == {"train", "held_out"}


def test_the_result_is_the_same_again_and_from_disk(project):
    mined = mine([project], show_progress=False)
    assert mine([project], show_progress=False) == mined
    write_pairs(mined.pairs, project / "pairs.parquet")
    assert read_pairs(project / "pairs.parquet") == mined.pairs


def test_line_ends_and_byte_order_mark_make_no_difference(project):
    before = mine([project], kinds=["code", "docs"], show_progress=False)
    for path in (*project.rglob("*.py"), *project.rglob("*.md")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert mine([project], kinds=["code", "docs"], show_progress=False) == before


def test_only_the_kinds_asked_for_are_mined(project):
    mined = mine([project], kinds=["docs"], exclude=["docs/mean.md"], show_progress=False)
    assert len(mined.pairs) == 7
    assert {pair.positive_language for pair in mined.pairs} == {None}


def test_a_copy_of_a_file_adds_no_rows(project):
    (project / "src/z_copy.py").write_bytes((project / "src/sum.py").read_bytes())
    mined = mine([project], kinds=["code"], show_progress=False)
    assert len(mined.pairs) == 8
    assert mined.skipped["row: duplicate"] == 1


def test_nothing_found_says_what_was_looked_for_and_skipped(tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"documented functions in \.py .*built \(build\): 1.*give a folder") as caught:
        mine([tmp_path], kinds=["code"], show_progress=False)
    assert "\n" not in str(caught.value)
    assert "translated" not in str(caught.value)


def test_nothing_found_names_each_type_of_file_once(tmp_path):
    with pytest.raises(DataError, match=r"heading, sentences that name a function in \.md .* in \.po") as caught:
        mine([tmp_path], show_progress=False)
    assert str(caught.value).count(" .java ") == str(caught.value).count(" .rst ") == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kinds": ["code", "music"]}, RecipeError, "'music'; expected some of code, docs, translations, names"),
        ({"kinds": []}, RecipeError, "none; expected"),
        ({"held_out": 1.0}, RecipeError, "held_out is 1.0"),
        ({"held_out": float("nan")}, RecipeError, "held_out is nan"),
        ({"paths": []}, DataError, "no paths given"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        mine(**{"paths": [tmp_path], "show_progress": False, **options})
