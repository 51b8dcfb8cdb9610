"""What is said of the pairs before training, and what development questions search."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from udever.adaptation import AdaptSettings
from udever.adaptation.gathered import tell
from udever.adaptation.scores import tasks_of
from udever.pairs.mining import Mined
from udever.pairs.mining.pieces import Piece
from udever.pairs.schema import Pair

SPLITS = ["train"] * 60 + ["development"] * 30 + ["held_out"] * 10
PAIRS = [Pair(f"how is {n} done", f"so {n} is done", split=split, source="qa.csv") for n, split in enumerate(SPLITS)]
MINED = Mined(PAIRS, {}, 1, kinds=["docs"] * 100)


def told(settings):
    out = io.StringIO()
    tell(MINED, [], settings, Console(file=out, width=200))
    return out.getvalue()


def test_pairs_of_all_three_uses_are_counted():
    assert "60 training pairs, 30 to choose by and 10 held-out pairs" in told(AdaptSettings())
    assert "a random sample" not in told(AdaptSettings(max_queries=30))


def test_a_sample_of_the_questions_is_said():
    said = told(AdaptSettings(max_queries=8))
    assert "of the 30 pairs to choose by 8 are asked" in said and "of the 10 held-out pairs 8 are asked" in said


def searched(mined, most, folder):
    (task,) = tasks_of(mined, "development", AdaptSettings(), folder, most)
    return task.read("pairs", "corpus")["text"]


def test_development_questions_of_a_table_search_its_other_answers_too(tmp_path):
    answers = {pair.positive for pair in PAIRS}
    assert set(searched(MINED, 1000, tmp_path / "all")) == answers
    assert len(searched(MINED, 20, tmp_path / "some")) == 30 + 20


def test_development_questions_of_files_search_what_the_files_hold(tmp_path):
    pieces = [Piece("function", f"def f{n}(): return {n}", "m.py") for n in range(40)]
    pairs = [replace(pair, source="m.py") for pair in PAIRS]
    found = searched(replace(MINED, pairs=pairs, corpus=pieces), 1000, tmp_path / "held")
    assert {piece.text for piece in pieces} <= set(found) and len(found) == 30 + 40


@pytest.mark.parametrize("kind", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("more", [[], ["--plan"]])
def test_held_out_pairs_of_equal_sides_are_refused_before_training(kind, more, udever, base, tmp_path, monkeypatch):
    rows = [{"anchor": f"how q{n} r{n} s{n}", "kind": kind} for n in range(40)]
    (tmp_path / "same.jsonl").write_text("\n".join(json.dumps(row | {"positive": row["anchor"]}) for row in rows))
    monkeypatch.setattr("udever.adaptation.job.train_all", None)
    code, _, error = udever("adapt", tmp_path / "same.jsonl", "-o", tmp_path / "out", "--base", base, *more)
    assert code == 2 and error.count("\n") == 1, error
    assert "pairs make no query that can be scored, since both sides of each are the same text; give pairs" in error
    assert [path.name for path in tmp_path.iterdir()] == ["same.jsonl"]


def test_pairs_of_equal_sides_are_asked_where_their_group_has_another_text():
    pairs = [replace(pair, positive=pair.anchor, group=f"{n // 2}") for n, pair in enumerate(PAIRS)]
    out = io.StringIO()
    tell(replace(MINED, pairs=pairs), [], AdaptSettings(), Console(file=out, width=200))
    assert "10 held-out pairs" in out.getvalue()
