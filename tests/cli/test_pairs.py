"""`udever pairs` and `negatives`: what a person is told of a table."""

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
