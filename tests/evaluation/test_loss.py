"""What a precision costs on the suite: the tasks of one folder, scored for an embedder as it is."""

import json

import pytest

from udever.errors import ContractError, DataError
from udever.evaluation import evaluate, loss


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A suite of one task; its table is what the caller writes."""
    folder = tmp_path / "suite" / "near"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps({"name": "near", "type": "sts", "languages": ["eng-Latn"]}))
    monkeypatch.setattr(evaluate, "SUITES", tmp_path / "suite")
    return folder / "en.jsonl"


def test_every_task_of_the_suite_is_scored(suite, embedders):
    rows = [{"sentence1": f"add {n}", "sentence2": "add " * n + "numbers", "score": n} for n in range(1, 9)]
    suite.write_text("\n".join(map(json.dumps, rows)))
    scores = loss.score_suite(embedders("qwen3"))
    assert scores.keys() == {"near"}
    assert -1 <= scores["near"] <= 1
    assert loss.mean({"a": 0.5, "b": 1.0}) == 0.75


def test_scores_that_are_no_numbers_lose_too_much():
    with pytest.raises(ContractError, match="loses nan points"):
        loss.check_loss("m", {"a": 0.5}, {"a": float("nan")})


def test_a_task_that_fails_is_said(suite, embedders):
    suite.write_text(json.dumps({"sentence1": "", "sentence2": "b"}))
    with pytest.raises(DataError, match=r"near cannot be scored: .*--no-suite"):
        loss.score_suite(embedders("qwen3"))
