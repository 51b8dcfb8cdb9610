import io

import numpy as np
import pytest
from rich.console import Console

from udever.errors import DataError
from udever.evaluation.comparison import Comparison
from udever.evaluation.held_out import METRICS, Question, Scores
from udever.evaluation.statistics import paired_bootstrap


def scores(values, num_documents=50, ranks=()):
    per_query = {metric: np.array(values, dtype=float) for metric in METRICS}
    return Scores(per_query, num_documents, np.array(ranks, np.int64))


ROWS = {
    "words": scores([0.5, 0.5, 0.5, 0.5]),
    "words (plain)": scores([0.25, 0.25, 0.25, 0.25]),
    "base": scores([0, 0.1, 0, 0.1]),
    "adapted": scores([1, 0.5, 1, 0.25]),
}


def printed(comparison):
    out = io.StringIO()
    comparison.show(Console(file=out, width=80))
    return out.getvalue()


def test_differences_are_paired_and_need_both_rows():
    found = Comparison(ROWS).differences
    assert (
        found == {("adapted", "base"): found["adapted", "base"]} and found["adapted", "base"].keys() == METRICS.keys()
    )
    interval = paired_bootstrap(ROWS["adapted"].per_query["mrr@10"], ROWS["base"].per_query["mrr@10"])
    assert found["adapted", "base"]["recall@5"] == interval
    assert Comparison({"base": ROWS["base"]}).differences == {}


def test_the_table_reads_well_without_a_terminal():
    lines = printed(Comparison(ROWS)).splitlines()
    row = next(line for line in lines if "base" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["base", "0.050", "0.050", "0.050", "0.050"]
    assert "4 questions, 50 texts searched" in lines[0]
    assert "\x1b" not in "".join(lines)
    assert "MRR@10, adapted minus base: +0.637" in "\n".join(lines)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([0.9, 0.8, 0.9, 0.8], "adapted is better"),
        ([0.0, 0.1, 0.0, 0.1], "adapted is worse"),
        ([0.4, 0.6, 0.6, 0.4], "these 60 questions do not tell the two apart"),
    ],
)
def test_the_verdict_follows_the_interval(after, verdict):
    (sentence,) = Comparison({"base": scores([0.5] * 60), "adapted": scores(after * 15)}).sentences()
    assert verdict in sentence


@pytest.mark.parametrize("count", [3, 60])
def test_two_that_answer_alike_are_said_to(count):
    """As where `adapt` keeps its base: it is no matter of how many questions there are."""
    same = scores(np.linspace(0, 1, count))
    (sentence,) = Comparison({"base": same, "adapted": same}).sentences()
    assert sentence.endswith("every question has the same score in both.")


@pytest.mark.parametrize("count", [1, 40])
def test_few_questions_tell_nothing_whatever_their_interval(count):
    rows = {"base": scores([0.5] * count), "adapted": scores([0.9] * count)}
    (sentence,) = Comparison(rows).sentences()
    assert f"{count} question{'s' * (count > 1)} cannot tell the two apart: at least 50 are needed" in sentence
    assert "by more than chance" not in sentence


def test_parts_are_those_with_enough_questions_and_keep_the_corpus():
    groups = ["code, python-Code"] * 31 + ["text, eng-Latn"] * 40 + ["text, deu-Latn"] * 29
    questions = [Question(f"q{n}", group, "", "") for n, group in enumerate(groups)]
    values = np.arange(100) / 100
    whole = Comparison({"base": scores(values), "adapted": scores(values[::-1])}, questions)
    parts = whole.parts()
    assert list(parts) == ["text, eng-Latn", "code, python-Code"]
    code = parts["code, python-Code"]
    assert (code.num_queries, code.num_documents) == (31, 50)
    assert code.rows["base"].means["mrr@10"] == pytest.approx(values[:31].mean())
    assert "code, python-Code: 31 questions" in printed(whole)
    assert Comparison({"base": scores([1.0])}, questions[:1]).parts() == {}


def test_changes_are_the_largest_by_reciprocal_rank():
    questions = [Question(f"q{n}", "g", "", "") for n in range(5)]
    before, after = [1, 5, 0, 2, 3], [2, 1, 3, 2, 0]
    rows = {"base": scores([0] * 5, ranks=before), "adapted": scores([0] * 5, ranks=after)}
    better, worse = Comparison(rows, questions).changes()
    assert [(c.question.text, c.before, c.after) for c in better] == [("q1", 5, 1), ("q2", 0, 3)]
    assert [(c.question.text, c.before, c.after) for c in worse] == [("q0", 1, 2), ("q4", 3, 0)]
    assert [len(found) for found in Comparison(rows, questions).changes(1)] == [1, 1]
    assert Comparison(rows).changes() == ([], [])


def test_names_with_markup_are_only_text():
    assert "[bold]x[/bold]" in printed(Comparison({"[bold]x[/bold]": ROWS["adapted"]}))


def test_wrong_rows():
    with pytest.raises(DataError, match="score all of them on one retrieval set"):
        Comparison({"a": scores([1.0]), "b": scores([1.0, 0.0])})
    with pytest.raises(DataError, match="2 questions for 1 scores"):
        Comparison({"a": scores([1.0])}, [Question("q", "g", "", "")] * 2)


@pytest.mark.parametrize(
    ("adapted", "says"),
    [
        (0.6, None),
        (0.5, None),
        (0.3, "adapted (0.300 MRR@10) is below words (0.500)"),
        (0.02, "adapted (0.020 MRR@10) is below words (0.500) and below base (0.050)"),
    ],
)
def test_what_outdoes_the_adapted_model_is_said(adapted, says):
    assert Comparison({**ROWS, "adapted": scores([adapted] * 4)}).shortfall == says
    assert Comparison({"words": ROWS["words"]}).shortfall is None


def test_the_table_stands_in_a_card():
    lines = Comparison(ROWS).to_markdown().splitlines()
    assert "4 questions, not trained on, each searching 50 texts:" in lines
    assert "| base | 0.050 | 0.050 | 0.050 | 0.050 |" in lines
    assert lines[-1].startswith("* MRR@10, adapted minus base: ")
