from dataclasses import replace

import numpy as np
import pytest

from udever.errors import DataError
from udever.evaluation.results import TaskRecord, read_scores, write_model, write_task
from udever.evaluation.statistics import Items
from udever.report import tables
from udever.report.runs import make_runs


def two(make_results):
    a = make_results.model(
        "a",
        make_results.score("Find", "en", 0.5, "eng-Latn", interval=0.1),
        make_results.score("Find", "fr", 0.7, "fra-Latn", interval=0.1),
        make_results.score("Code", "go", 0.25, "eng-Latn", "go-Code"),
        make_results.score("Only", "en", 0.9, "eng-Latn", trained_on=True),
        size=10,
    )
    b = make_results.model("b", make_results.score("Find", "en", 0.6, "eng-Latn", interval=0.1))
    return make_runs([a, b])


def shown(table):
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_by_task_a_missing_score_is_missing_and_means_are_over_what_is_shared(make_results):
    table = tables.by_task(two(make_results))
    assert shown(table) == {"Find": ["0.500", "0.600"], "Code": ["0.250", "–"], "Only": ["0.900 †", "–"]}
    assert table.rows[[row[0].text for row in table.rows].index("Find")][0].small.endswith("1 of 2 subsets")
    rows = {(row["task"], row["model"]): row for row in make_results.rows(table)}
    assert rows["Code", "b"]["score"] == "" and float(rows["Find", "a"]["score"]) == 0.5
    assert "†" in table.note and "missing" in table.note


def test_the_best_of_a_row_is_marked(make_results):
    table = tables.by_task(two(make_results))
    marks = {row[0].text: [cell.best for cell in row[1:]] for row in table.rows}
    assert marks["Find"] == [False, True]


def test_by_language(make_results):
    table = tables.by_language(two(make_results))
    assert shown(table) == {"eng-Latn": ["0.500", "0.600"], "fra-Latn": ["0.700", "–"], "go-Code": ["0.250", "–"]}


def test_the_overview_has_the_universal_score_over_what_is_common(make_results):
    (table,) = tables.overview(two(make_results)).tables
    assert shown(table) == {"a": ["0.500", "10", "64", "3"], "b": ["0.600", "–", "64", "1"]}
    assert "1 task (1 task subset)" in table.note


def test_every_score_is_in_the_long_table(make_results):
    data = tables.every_score(two(make_results))
    assert len(data.rows) == 5
    assert ("a", "r" * 32, "Code", "Retrieval", "test", "go", "eng-Latn go-Code") in [row[:7] for row in data.rows]


@pytest.fixture
def on_disk(tmp_path):
    """Models whose items are 0 and 1; b is 0.1 better in Find and as good in Ask."""

    def write(name, values):
        folder = tmp_path / name / "r"
        write_model(folder, {"name": name, "revision": "r"})
        for task, items in values.items():
            entry = {"hf_subset": "en", "languages": ["eng-Latn"], "main_score": float(np.mean(items))}
            kept = Items("test", "en", "mean", np.array(items, dtype=float))
            kind = "STS" if task == "Ask" else "Retrieval"
            write_task(folder, TaskRecord(task, kind, "main", "d", {"test": [entry]}, 1.0, "2", [kept]))

    ask = [1, 0] * 50
    write("a", {"Find": [1] * 50 + [0] * 50, "Ask": ask})
    write("b", {"Find": [1] * 60 + [0] * 40, "Ask": ask})
    for name in "cd":
        write(name, {"Find": [0] * 100, "Ask": ask})
    return read_scores([tmp_path])


def test_differences_are_paired_item_by_item(on_disk, make_results):
    section = tables.differences(make_runs(on_disk[:2]))
    summary, by_task = section.tables
    assert shown(summary) == {"a minus b": ["-0.050", "0", "1", "1"]}  # the mean of -0.1 and 0
    rows = {row["task"]: row for row in make_results.rows(by_task)}
    assert float(rows["Find"]["difference"]) == pytest.approx(-0.1)
    assert -0.17 < float(rows["Find"]["low"]) < float(rows["Find"]["high"]) < -0.03
    # equal answers item by item leave no doubt, though either score alone has an interval
    assert float(rows["Ask"]["low"]) == float(rows["Ask"]["high"]) == 0


def test_many_models_are_compared_with_the_best_or_the_one_that_is_named(on_disk):
    runs = make_runs(on_disk)
    names = [row[0].text for row in tables.differences(runs).tables[0].rows]
    assert names == ["b minus a", "b minus c", "b minus d"]
    names = [row[0].text for row in tables.differences(runs, "c").tables[0].rows]
    assert names == ["a minus c", "b minus c", "d minus c"]
    with pytest.raises(DataError, match="'e', which is 0 models"):
        tables.differences(runs, "e")


def test_without_items_there_is_no_comparison(on_disk, make_results):
    assert "items" in tables.differences(two(make_results)).missing
    assert tables.differences(make_runs(on_disk[:1])).missing
    without = [replace(model, folder=None) for model in on_disk[:2]]
    assert tables.differences(make_runs(without)).missing
