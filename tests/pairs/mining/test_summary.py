import pytest

from udever.pairs.mining.code import MAX_ANCHOR_CHARS, summary


@pytest.mark.parametrize(
    "tail",
    [
        ":param x: the number",
        "Parameters\n----------\nx : int",
        "Args:\n    x: the number",
        "Returns:\n    a number",
        ">>> f(1)\n2",
        ".. versionadded:: 3",
        "@param x the number",
        "See Also\n--------\ng",
    ],
)
def test_summary_ends_where_the_sections_begin(tail):
    assert summary(f"Double a number.\n\nReturns it at once.\n\n{tail}\n") == "Double a number.\n\nReturns it at once."


def test_summary_is_storable_text_of_limited_length():
    assert summary("A \ud800bad\0 one") == "A bad one"
    assert len(summary("word " * 1000)) <= MAX_ANCHOR_CHARS
