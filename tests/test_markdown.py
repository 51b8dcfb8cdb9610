from udever.markdown import table


def test_a_bar_or_a_line_end_in_a_cell_does_not_end_it():
    rows = [["a|b", 0.5], ["two\nlines", ""]]
    assert table(["name", "share"], rows).splitlines() == [
        "| name | share |",
        "| --- | --- |",
        r"| a\|b | 0.5 |",
        "| two lines |  |",
    ]
