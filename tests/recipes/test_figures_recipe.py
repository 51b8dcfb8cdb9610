"""The models of the figures: their texts are sound and in no task of the suite; each says what it was trained on."""

import importlib.util
import json
import sys
import unicodedata
from pathlib import Path

import pytest

from udever.evaluation.contamination import overlap
from udever.evaluation.evaluate import SUITES
from udever.evaluation.models_under_test import ModelOptions, model_under_test
from udever.evaluation.results import ModelScores
from udever.report.labels import label_of

SCRIPT = Path(__file__).parents[2] / "recipes" / "figures" / "arms.py"
SCRIPTS = {"cmn": "CJK", "rus": "CYRILLIC"}


@pytest.fixture(scope="module")
def arms():
    spec = importlib.util.spec_from_file_location("figures_arms", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(arms):
    return [json.loads(line) for line in arms.TEXTS.read_text().splitlines()]


def test_every_statement_is_there_in_every_language_and_none_twice(arms, rows):
    assert len(rows) == 40 and all(row.keys() == arms.LANGUAGES.keys() for row in rows)
    for language in arms.LANGUAGES:
        texts = [text for row in rows for text in row[language]]
        assert len(set(texts)) == len(texts) == 4 * len(rows)
        assert all(row[language][3].endswith(("?", "？")) for row in rows)
        for text in texts:
            letters = [unicodedata.name(sign).split()[0] for sign in text if unicodedata.category(sign)[0] == "L"]
            assert set(letters) == {SCRIPTS.get(language, "LATIN")}, text


def test_no_text_is_in_the_suite(arms, tmp_path):
    from udever.pairs.files import write_pairs

    write_pairs([pair for rows in arms.arms().values() for pair in rows], tmp_path / "pairs.parquet")
    found = overlap([tmp_path / "pairs.parquet"], SUITES)
    assert found.num_train_texts and sum(row.num_texts for row in found.rows) > 500
    assert sum(row.num_exact + row.num_near for row in found.rows) == 0


def test_the_models_differ_in_language_and_kind_alone(arms, tmp_path, monkeypatch, capsys):
    kept = {name: pairs for name, pairs in arms.arms().items() if name in ("deu", "symmetric")}
    monkeypatch.setattr(arms, "arms", lambda: kept)
    monkeypatch.setattr(arms, "TRAINING", arms.TRAINING.model_copy(update={"max_steps": 2}))
    monkeypatch.setattr(sys, "argv", ["arms.py", "-o", str(tmp_path / "arms")])
    arms.main()
    assert capsys.readouterr().out.count("pairs, loss") == 2
    arms.main()  # nothing is left to do
    assert not capsys.readouterr().out
    labels = {}
    for name in kept:
        found = model_under_test(str(tmp_path / "arms" / name), ModelOptions())
        meta = {"udever": {"recipe": found.recipe, "training": found.training}}
        labels[name] = label_of(ModelScores(name, "r" * 32, None, 384, meta, ()))
    assert (labels["deu"].train_language, labels["deu"].kind) == ("deu-Latn", "both")
    assert (labels["symmetric"].train_language, labels["symmetric"].kind) == ("6 languages", "symmetric")
    assert {(label.family, label.tuning) for label in labels.values()} == {("seedling", "full")}
