"""`udever pairs` and `negatives`: what a person is told of a table."""

import json

import pytest


@pytest.fixture
def rows(tmp_path):
    """Thirty questions and answers, without a header."""
    path = tmp_path / "qa.csv"
    path.write_text("".join(f"how q{n} r{n} s{n},so a{n} b{n} c{n}\n" for n in range(30)))
    return path


@pytest.mark.parametrize("command", [("pairs",), ("negatives", "--mode", "words")])
def test_the_columns_that_are_taken_are_told(udever, rows, tmp_path, command):
    """A first row that is no header shows there."""
    code, out, error = udever(*command, rows, "-o", tmp_path / "out.parquet")
    assert code == 0, error
    assert f"{rows}: how q0 r0 s0 -> so a0 b0 c0\n" in out


@pytest.mark.parametrize(
    "options",
    [("--held-out-by", "group"), ("--held-out-by", "txt"), ("--anchor", "a"), ("--positive", "b"), ("--skip-empty",)],
)
def test_options_of_tables_are_refused_where_there_is_none(udever, rows, tmp_path, options):
    (tmp_path / "docs").mkdir()
    text = "Press the button for three seconds, then wait until the lamp is dark, and pull the plug."
    (tmp_path / "docs" / "a.md").write_text(f"# How to turn it off\n\n{text}\n")
    out = tmp_path / "out.parquet"
    code, _, error = udever("pairs", tmp_path / "docs", *options, "-o", out)
    told = f"{' '.join(options) if options[0] == '--held-out-by' else options[0]} is for tables of pairs"
    assert code == 2 and error.count("\n") == 1 and told in error and not out.exists(), error
    for more in ([], ["--plan"]):
        code, _, error = udever("adapt", tmp_path / "docs", *options, *more, "-o", tmp_path / "run")
        assert code == 2 and error.count("\n") == 1 and told in error and not (tmp_path / "run").exists(), error
    code, _, error = udever("pairs", tmp_path / "docks", *options, "-o", out)
    assert code == 2 and "does not exist; did you mean" in error
    code, _, error = udever("pairs", tmp_path / "docs", "--held-out-by", "file", "-o", out)
    assert code == 0, error


@pytest.mark.parametrize("options", [("--kind", "code"), ("--exclude", "*.md"), ("--language", "eng-Latn")])
def test_options_of_mining_are_refused_where_tables_alone_are_named(udever, rows, tmp_path, options):
    out, run = tmp_path / "out.parquet", tmp_path / "run"
    told = f"{options[0]} is for files that are mined, and only tables of pairs are named ({rows}); leave it out"
    for command in (["pairs", rows, "-o", out], ["adapt", rows, "-o", run], ["adapt", rows, "--plan", "-o", run]):
        code, _, error = udever(*command, *options)
        assert code == 2 and error.count("\n") == 1 and told in error, error
        assert not out.exists() and not run.exists()
    (tmp_path / "docs").mkdir()
    text = "Press the button for three seconds, then wait until the lamp is dark, and pull the plug."
    (tmp_path / "docs" / "a.rst").write_text(f"How to turn it off\n==================\n\n{text}\n")
    usual = ("--kind", "docs") if options[0] == "--kind" else options
    code, _, error = udever("pairs", rows, tmp_path / "docs", *usual, "-o", out)
    assert code == 0, error


@pytest.mark.parametrize("column", ["group", "label"])
def test_a_table_without_the_column_to_hold_out_by_is_refused(udever, tmp_path, column):
    path, out = tmp_path / "qa.jsonl", tmp_path / "out.parquet"
    plain = [{"anchor": f"how q{n} r{n} s{n}", "positive": f"so a{n} b{n} c{n}"} for n in range(30)]
    for found in (plain, [{**row, column: None} for row in plain]):
        path.write_text("\n".join(map(json.dumps, found)))
        code, _, error = udever("pairs", path, "--held-out-by", column, "-o", out)
        assert code == 2 and error.count("\n") == 1, error
        assert f"{path} has no value in a column {column!r}" in error and not out.exists()
    path.write_text("\n".join(json.dumps(row | ({column: n} if n > 20 else {})) for n, row in enumerate(plain)))
    code, _, error = udever("pairs", path, "--held-out-by", column, "-o", out)
    assert code == 0, error


@pytest.fixture
def divided(tmp_path):
    """Thirty questions and answers in three groups, of which some say that they are held out, or to choose by."""
    path = tmp_path / "divided.jsonl"
    splits = ["held_out", "development", *["train"] * 8]
    rows = [
        {"anchor": f"how t{n} u{n} v{n}", "positive": f"so d{n} e{n} f{n}", "group": n % 3, "split": splits[n % 10]}
        for n in range(30)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


HELD = "say themselves which are held out, and then no other rows of tables are; leave"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--held-out-by", "anchor"], f"--held-out-by anchor would change nothing: rows of {{table}} {HELD} it out"),
        (["--held-out", "0.3"], f"--held-out 0.3 would change nothing: rows of {{table}} {HELD} it out"),
        (["--choose-from", "held_out"], "--choose-from held_out would change nothing: rows of {table} say themselves"),
    ],
)
def test_how_to_divide_is_refused_where_rows_say_it_themselves(udever, divided, rows, tmp_path, options, told):
    """Also where another table does not: its rows are all trained on."""
    out, run = tmp_path / "out.parquet", tmp_path / "run"
    commands = [["adapt", divided, "-o", run], ["adapt", rows, divided, "--plan", "-o", run]]
    commands += [] if "--choose-from" in options else [["pairs", rows, divided, "-o", out]]
    for command in commands:
        code, _, error = udever(*command, *options)
        assert code == 2 and error.count("\n") == 1 and told.format(table=divided) in error, error
        assert not out.exists() and not run.exists()


def test_a_share_is_for_files_beside_a_table_that_says_its_own(udever, divided, tmp_path):
    (tmp_path / "docs").mkdir()
    for word in ("red", "tall", "open", "late"):
        text = f"Wait for a minute until the {word} lamp is dark, and pull the {word} plug out of it."
        (tmp_path / "docs" / f"{word}.md").write_text(f"# When it is {word}\n\n{text}\n")
    out = tmp_path / "out.parquet"
    code, _, error = udever("pairs", divided, tmp_path / "docs", "--held-out", "0.5", "-o", out)
    assert code == 0, error


def test_how_to_hold_out_is_refused_where_nothing_is_to_be(udever, rows, tmp_path):
    out = tmp_path / "out.parquet"
    code, _, error = udever("pairs", rows, "--held-out", "0", "--held-out-by", "anchor", "-o", out)
    assert code == 2 and error.count("\n") == 1 and not out.exists(), error
    assert "--held-out-by anchor would change nothing: --held-out is 0; leave one of them out" in error
    assert udever("pairs", rows, "--held-out", "0", "-o", out)[0] == 0


def test_pairs_that_ask_nothing_are_told_where_a_table_of_them_would_be_asked(udever, tmp_path):
    """A table has no column for it, and whoever adapts to one of which nothing is held out has all rows divided."""
    functions = [
        f'def open_the_{word}_door(house):\n    """Let people through where the {word} wall stands."""\n'
        f"    # the {word} lock was oiled before anybody came\n    house.{word}.unlock()\n    return house.{word}\n"
        for word in ("red", "tall", "late", "dark")
    ]
    (tmp_path / "all.py").write_text("\n\n".join(functions))
    told = "of them are for training alone"
    code, out, error = udever("pairs", tmp_path / "all.py", "-o", tmp_path / "out.parquet")
    assert code == 0 and f"  8 {told} (names: 4, comments: 4)" in out, (out, error)
    assert (
        "a table does not tell them apart: for udever adapt leave them out with --kind code --kind docs --kind" in out
    )
    asked = ["--kind", "code", "--kind", "docs"]
    assert told not in udever("pairs", tmp_path / "all.py", *asked, "-o", tmp_path / "out.parquet")[1]
    for number, function in enumerate(functions):
        (tmp_path / "several").mkdir(exist_ok=True)
        (tmp_path / "several" / f"m{number}.py").write_text(function)
    code, out, _ = udever("pairs", tmp_path / "several", "-o", tmp_path / "out.parquet")
    assert code == 0 and " 0 held out" not in out and told not in out
