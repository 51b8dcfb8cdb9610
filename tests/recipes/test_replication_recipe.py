"""The replication's scripts, from texts to figures, over a data folder written here; the arithmetic of its tables."""

import importlib
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "replication"
NOUNS = ("river", "window", "bread", "train", "letter", "garden", "winter", "music", "horse", "lamp", "road", "salt")
WORDS = {
    "en": "the {} is here",
    "fr": "voici le {}",
    "zh": "{} 在这里",
    "de": "hier ist {}",
    "ar": "هنا {}",
    "es": "aquí {}",
}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def said(code, noun):
    return WORDS.get(code, "{} " + code).format(noun)


def write_pairs(folder):
    pairs = []
    for code in WORDS:
        for number, noun in enumerate(NOUNS):
            other = NOUNS[(number + 1) % len(NOUNS)]
            pairs.append({"anchor": said(code, noun), "positive": f"{noun} {code}", "negative": f"{other} {code}",
                          "anchor_language": code, "positive_language": code})  # fmt: skip
    write(folder / "nli_xnli_dev.parquet", [{**row, "kind": "symmetric"} for row in pairs])
    for name in ("docs_d365", "docs_heading_passage"):
        rows = [{k: v for k, v in row.items() if k != "negative"} | {"kind": "asymmetric"} for row in pairs]
        write(folder / f"{name}.parquet", rows)
    sides = [(f"{said('en', noun)} " * 5, said("zh", noun)) for noun in NOUNS]
    docs = [{"anchor": a, "positive": b, "anchor_language": "en"} for a, b in sides]
    write(folder / "parallel_python_docs.parquet", docs)


def write_retrieval(path, code):
    write(path.with_name(f"{path.name}.corpus.parquet"), [{"id": n, "title": "", "text": said(code, n)} for n in NOUNS])
    write(path.with_name(f"{path.name}.queries.parquet"), [{"id": f"q{n}", "text": n} for n in NOUNS])
    qrels = [{"query_id": f"q{n}", "corpus_id": n, "score": 1} for n in NOUNS]
    write(path.with_name(f"{path.name}.qrels.parquet"), qrels)


def write_data(folder, languages, tatoeba):
    for codes in languages.values():
        for code in codes:
            write(folder / "corpora" / f"{code}.parquet", [{"text": said(code, n) * 20} for n in NOUNS])
    write_pairs(folder / "pairs")
    for language in languages:
        name = tatoeba.get(language, language[:3])
        rows = [{"sentence1": f"{n} {name}", "sentence2": said("en", n)} for n in NOUNS]
        write(folder / "eval" / "tatoeba" / f"{name}-eng.parquet", rows)
    for code in ("en", "fr", "de"):
        sides = [(said(code, noun), said(code, NOUNS[i // 2]), float(i % 5)) for i, noun in enumerate(NOUNS)]
        rows = [{"sentence1": a, "sentence2": b, "score": score, "split": "test"} for a, b, score in sides]
        write(folder / "eval" / "stsb_multi" / f"{code}.parquet", rows)
    for code in ("en", "zh", "de", "ar"):
        write_retrieval(folder / "eval" / "xquad_r" / code, code)
    write_retrieval(folder / "eval" / "tydiqa_goldp" / "en", "en")
    write_retrieval(folder / "eval" / "cosqa" / "en-python", "en")


def write_seedling(folder, languages):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rows = [
        {"anchor": f"Tell in one sentence what {noun} number {number} is", "positive": f"def {noun}(): return {number}",
         "positive_language": language, "file": f"{noun}{number}.x"}
        for language in languages for noun in NOUNS for number in range(8)
    ]  # fmt: skip
    write(folder / "mined" / "code.parquet", rows)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<pad>", "</s>", "[BOQ]", "[EOQ]", "[BOD]", "[EOD]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([row["anchor"] for row in rows], trainer)
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """name -> a script as a module, over a data folder made here; forgotten afterwards, for their names are plain."""
    folder = tmp_path_factory.mktemp("replication")
    places = {"UDEVER_DATA": "data", "REPLICATION_WORK": "work", "SEEDLING_WORK": "seedling", "UDEVER_CACHE": "cache"}
    kept_environment = dict(os.environ)
    os.environ.update({name: str(folder / place) for name, place in places.items()})
    known = set(sys.modules)
    sys.path.insert(0, str(RECIPE))
    common = importlib.import_module("common")
    common.WORK.mkdir()
    write_data(common.DATA, common.LANGUAGES, common.TATOEBA)
    write_seedling(common.SEEDLING, common.CODE)
    yield importlib.import_module
    sys.path.remove(str(RECIPE))
    os.environ.clear()
    os.environ.update(kept_environment)
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(RECIPE)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def results(scripts):
    """The whole way at toy size: corpus, backbone, three arms."""
    common, pretrain, arms = scripts("common"), scripts("pretrain"), scripts("arms")
    pretrain.make_corpus(pretrain.sources(), common.WORK, drawn_mb=0.1)
    ids = np.load(common.WORK / "corpus.npz")["ids"]
    model = pretrain.make(1, 32, 2, pretrain.vocab_size())
    lines = pretrain.pretrain(model, ids, 50)
    assert len(lines) == 1 and lines[0]["loss"] < math.log(400), "it learned nothing"
    pretrain.write_backbone(model, common.WORK / "main")
    kept = sys.argv
    sys.argv = ["arms.py", "main-before", "main-en", "main-fr", "--steps", "3"]
    arms.main()
    arms.main()  # nothing is left to do
    sys.argv = kept
    return scripts("table").read_results()


def test_no_arm_is_run_twice_and_each_has_every_score(scripts, results):
    lines = (scripts("common").WORK / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["arm"]["name"] for line in lines] == ["main-before", "main-en", "main-fr"]
    counts = {len(arm["scores"]) for arm in results.values()}
    assert len(counts) == 1
    assert results["main-before"]["steps"] == 0 and results["main-en"]["steps"] == 3
    assert all(0 <= s["value"] <= 1 for arm in results.values() for s in arm["scores"] if s["metric"] != "spearman")


def test_the_figures_and_numbers_are_written(scripts, results, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["figures.py", "--output", str(tmp_path)])
    scripts("figures").main()
    names = {path.name for path in tmp_path.iterdir()}
    figures = {"shares.svg", "transfer.svg", "choices.svg", "gains.svg", "sizes.svg", "parallel-main.svg"}
    assert figures | {"scores.csv", "numbers.json"} <= names
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert set(found["summary"]["main-en"]) == set(scripts("table").MEASURES)
    written = (tmp_path / "parallel-main.svg").read_text()
    assert not any(noun in written for noun in NOUNS), "texts of the data are in the figure"


def test_every_arm_is_a_recipe_and_differs_from_the_others(scripts):
    arms = scripts("arms")
    made = [arm for arm in arms.make_arms() if arm.steps is None]
    recipes = [arms.recipe_of(arm, 80) for arm in made]
    texts = {recipe.model_copy(update={"output": None}).model_dump_json() for recipe in recipes}
    assert len(texts) == len(made) == len({arm.name for arm in made})
    assert all(recipe.training.batch_size * recipe.training.max_steps == 64 * 80 for recipe in recipes)


def test_shares_add_up_with_code_a_tenth(scripts):
    share = scripts("pretrain").shares_of({"en": 300, "fr": 100, "python": 7, "go": 3})
    assert share == pytest.approx({"en": 0.675, "fr": 0.225, "python": 0.07, "go": 0.03})


def test_files_kept_for_scoring_are_not_read(scripts):
    pretrain, common = scripts("pretrain"), scripts("common")
    rows = pq.read_table(common.SEEDLING / "mined" / "code.parquet").to_pylist()
    scored = [row for row in rows if pretrain.is_kept_for_scoring(row["file"])]
    assert 0 < len(scored) < len(rows) / 4
    texts = pretrain.sources()
    for language in common.CODE:
        own = [row for row in rows if row["positive_language"] == language]
        kept = {row["positive"] for row in own if row in scored}
        assert len(texts[language]) + len(kept) == len(own)
        assert not kept & set(texts[language])


def test_a_difference_is_taken_seed_by_seed(scripts):
    table = scripts("table")
    mean, half = table.student([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.303 / math.sqrt(3))
    assert table.student([1.0, 2.0]) == (1.5, None)
