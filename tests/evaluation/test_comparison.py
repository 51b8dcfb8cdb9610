import io
import json

import numpy as np
import pytest
from rich.console import Console

from udever.errors import DataError
from udever.evaluation import METRICS, Comparison, Scores, paired_bootstrap


def scores(values, num_documents=50):
    return Scores({metric: np.array(values, dtype=float) for metric in METRICS}, num_documents)


ROWS = {
    "bm25": scores([0.5, 0.5, 0.5, 0.5]),
    "bm25 (plain)": scores([0.25, 0.25, 0.25, 0.25]),
    "before": scores([0, 0.1, 0, 0.1]),
    "after": scores([1, 0.5, 1, 0.25]),
}


def test_results_json(tmp_path):
    path = tmp_path / "run" / "results.json"
    results = Comparison(ROWS, details={"seed": 3})
    results.write(path)
    stored = json.loads(path.read_text("utf-8"))
    assert list(stored) == [*ROWS, "after_minus_before", "after_minus_bm25", "num_documents", "details"]
    assert stored["before"] == {"mrr@10": 0.05, "ndcg@10": 0.05, "recall@10": 0.05, "num_queries": 4}
    interval = paired_bootstrap(ROWS["after"].per_query["mrr@10"], ROWS["bm25"].per_query["mrr@10"])
    assert stored["after_minus_bm25"] == {
        "metric": "mrr@10",
        "difference": 0.1875,
        "low": interval.low,
        "high": interval.high,
        "confidence": 0.95,
        "num_samples": 10_000,
    }
    assert (stored["num_documents"], stored["details"]) == (50, {"seed": 3})
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_details_json_cannot_hold_leave_no_file(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Comparison(ROWS, details={"loss": float("nan")}).write(tmp_path / "results.json")
    assert not list(tmp_path.iterdir())


def test_comparisons_need_both_rows():
    assert Comparison({"before": ROWS["before"]}).intervals == {}
    assert list(Comparison({"after": ROWS["after"], "bm25": ROWS["bm25"]}).intervals) == ["after_minus_bm25"]


def test_the_table_reads_well_without_a_terminal():
    out = io.StringIO()
    Comparison(ROWS).show(Console(file=out, width=80))
    lines = out.getvalue().splitlines()
    row = next(line for line in lines if "before" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["before", "0.050", "0.050", "0.050"]
    assert "4 queries, 50 documents" in lines[0]
    assert "\x1b" not in out.getvalue()
    assert "MRR@10, after minus before: +0.637" in out.getvalue()


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([0.9, 0.8, 0.9, 0.8], "after is better than before"),
        ([0.0, 0.1, 0.0, 0.1], "after is worse than before"),
        ([0.4, 0.6, 0.6, 0.4], "do not tell after and before apart"),
    ],
)
def test_the_verdict_follows_the_interval(after, verdict):
    (sentence,) = Comparison({"before": scores([0.5] * 4), "after": scores(after)}).sentences()
    assert verdict in sentence


def test_names_with_markup_are_only_text():
    out = io.StringIO()
    Comparison({"[bold]x[/bold]": ROWS["after"]}).show(Console(file=out, width=80))
    assert "[bold]x[/bold]" in out.getvalue()


def test_wrong_rows():
    with pytest.raises(DataError, match="score all of them on one retrieval set"):
        Comparison({"a": scores([1.0]), "b": scores([1.0, 0.0])})
    with pytest.raises(DataError, match="cannot be called details"):
        Comparison({"details": scores([1.0])})
    with pytest.raises(DataError, match="expected one of mrr@10"):
        Comparison({"a": scores([1.0])}, metric="map")
