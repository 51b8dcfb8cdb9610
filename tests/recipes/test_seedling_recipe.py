"""The recipe's own arithmetic: what is prepared, in which order, what counts as the same text, and the base."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever import Embedder
from udever.training.recipe import Recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "seedling"


@pytest.fixture(scope="module")
def scripts():
    """name -> a script of the recipe as a module; the modules are forgotten afterwards, for their names are plain."""
    known = set(sys.modules)
    sys.path.insert(0, str(RECIPE))
    yield importlib.import_module
    sys.path.remove(str(RECIPE))
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(RECIPE)):
            del sys.modules[name]


@pytest.mark.parametrize(("one", "other"), [("Ａ  b\n c", "a b c"), ("ﬁle", "FILE"), (" x ", "X")])
def test_texts_are_compared_without_case_width_and_spacing(scripts, one, other):
    assert scripts("common").plain(one) == scripts("common").plain(other)


@given(st.text())
def test_a_split_is_for_ever(scripts, text):
    common = scripts("common")
    assert 0 <= common.position(text) < 1
    assert common.is_development(text) == common.is_development(text)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([None, "a.py", "b.py"])), min_size=1))
def test_no_text_in_any_spelling_and_no_file_is_on_both_sides(scripts, drawn):
    prepare = scripts("prepare")
    spellings = ("# Reading number {} of a file", "reading  NUMBER {} of a file:", "*Reading number {} of a file*")
    names = [str(n) for n in range(6)]
    pairs = [
        pair(spellings[n % 3].format(one), spellings[(n + 1) % 3].format(other), file=file)
        for n, (one, other, file) in enumerate(drawn)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "is_development", lambda key: key == "a.py" or key.split()[-4:-3] in (["1"], ["3"]))
        sides, _ = prepare.split_pairs(pairs)
    seen = {}
    for side, (one, other, file) in zip(sides, drawn, strict=True):
        for name in (names[one], names[other], file):
            assert side is None or name is None or seen.setdefault(name, side) == side
    kept_back = {name for name, side in seen.items() if side == "development"}
    for side, (one, other, _) in zip(sides, drawn, strict=True):
        assert side is not None or kept_back & {names[one], names[other]}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def pair(anchor, positive, **changes):
    given = {"anchor": anchor, "positive": positive, "negative": None, "anchor_language": "en", "group": None}
    return {**given, "positive_language": "de", "kind": "symmetric", "licence": "MIT", **changes}


def test_texts_and_pairs_are_prepared_by_the_rules(scripts, tmp_path, monkeypatch):
    """Licences, evaluation texts, development rows, sides of the teacher, and the order of the parts."""
    prepare = scripts("prepare")
    monkeypatch.setattr(prepare, "DATA", tmp_path / "data")
    monkeypatch.setattr(prepare, "WORK", tmp_path)
    monkeypatch.setattr(prepare, "is_development", lambda key: "kept back" in key)
    monkeypatch.setattr(prepare, "PART_TEXTS", 20)
    monkeypatch.setattr("sys.argv", ["prepare.py"])
    write(tmp_path / "data" / "eval" / "a" / "test.parquet", [{"text": "Stands in  EVAL"}])
    free, other = {"source": "s", "licence": "MIT"}, {"source": "s", "licence": "GPL-3.0"}
    german = [{"text": f"Absatz Nummer {n} ist lang genug. Ende des Absatzes {n}.", **free} for n in range(40)]
    write(tmp_path / "data" / "corpora" / "de.parquet", [*german, {"text": "Ein Absatz unter Lizenz.", **other}])
    rows = [
        pair("a sentence", "ein Satz"),
        pair("stands in eval", "steht dort"),
        pair("kept back", "bleibt hier"),
        pair("closed", "zu", licence="GPL-3.0"),
        pair("a klingon", "ein Wort", positive_language="tlh"),
    ]
    write(tmp_path / "data" / "pairs" / "parallel_x.parquet", rows)
    words = [["\u2581Haus", -1.0], ["\u2581casa", -2.0], ["us", -3.0], ["\u2581.", -4.0], ["記者", -5.0]]
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
    write(
        tmp_path / "data" / "pairs" / "qa_x.parquet",
        [pair("what is it?", "an answer", positive_language="en", kind="asymmetric")],
    )
    prepare.main()
    found = {side: pq.ParquetDataset(sorted((tmp_path / "texts").glob(f"{side}-*"))).read().to_pylist()
             for side in ("queries", "passages")}  # fmt: skip
    texts = {side: [row["text"] for row in rows] for side, rows in found.items()}
    assert {"a sentence", "ein Satz", "what is it?"} <= set(texts["queries"])
    assert "an answer" in texts["passages"] and sum(text.startswith("Absatz") for text in texts["passages"]) == 40
    everything = " ".join(texts["queries"] + texts["passages"])
    for wrong in ("eval", "dort", "kept back", "hier", "closed", "klingon", "Lizenz"):
        assert wrong not in everything, wrong
    assert [path.name for path in sorted((tmp_path / "texts").glob("passages-*"))][:2] == [
        "passages-000.parquet",
        "passages-001.parquet",
    ]
    spans = pq.ParquetDataset(sorted((tmp_path / "texts").glob("spans-*"))).read().to_pylist()
    assert {row["text"] for row in spans if row["language"] == "und"} == {"Haus", "casa", "記者"}
    told = pq.read_table(tmp_path / "pairs" / "translations.parquet").to_pylist()
    assert {row["anchor"]: row["split"] for row in told} == {"a sentence": "train", "kept back": "development"}
    assert (tmp_path / "counts.json").is_file()


def test_spans_are_words_of_their_languages_texts_in_a_row(scripts):
    prepare = scripts("prepare")
    texts = {f"a{n} b{n}, c{n} d{n}": ("de", "sentence", "s", "MIT") for n in range(50)}
    texts |= {f"甲乙丙{n}": ("ja", "question", "s", "MIT") for n in range(50)} | {"word": ("de", "word", "s", "MIT")}
    found = prepare.spans(texts)
    assert {said[:2] for said in found.values()} == {("de", "span"), ("ja", "span")} and "word" not in found
    single = [span.split()[0] for span in found if found[span][0] == "de" and len(span.split()) == 1]
    assert single and all(any(word in text.replace(",", "").split() for text in texts) for word in single)
    runs = [span for span in found if found[span][0] == "de" and any(span in text for text in texts)]
    assert 0.4 < len(runs) / sum(said[0] == "de" for said in found.values()) < 0.9
    assert prepare.spans(texts) == found


def test_every_beginning_of_a_side_is_balanced(scripts):
    prepare = scripts("prepare")
    texts = {f"de {n}": ("de", "sentence", "s", "MIT") for n in range(1600)}
    texts |= {f"is {n}": ("is", "sentence", "s", "MIT") for n in range(100)}
    texts |= {f"?{n}": ("de", "question", "s", "MIT") for n in range(900)}
    first = [texts[text][:2] for text in prepare.in_order(texts, "queries")[:200]]
    count = {cell: first.count(cell) for cell in set(first)}
    # sentences and questions as 0.5 to 0.15; among sentences languages as 40 to 10
    assert count["de", "sentence"] == pytest.approx(200 * 0.5 / 0.65 * 0.8, abs=25)
    assert count["is", "sentence"] == pytest.approx(200 * 0.5 / 0.65 * 0.2, abs=15)


def test_the_recipe_is_one_and_names_what_the_steps_write(scripts, monkeypatch):
    recipe = Recipe.read(RECIPE / "seedling.toml")
    prepare = scripts("prepare")
    paths = {dataset.paths[0] for dataset in recipe.data.all_datasets}
    families = {f"pairs/{name}.parquet" for name in [*prepare.FAMILIES, "translations"]}
    assert paths == families | {f"texts/{side}-*.parquet" for side in (*prepare.KINDS, "spans")}
    assert sum(dataset.weight for dataset in recipe.data.all_datasets) == pytest.approx(1)


def test_a_base_is_an_embedder_closed_by_one_token(scripts, monkeypatch, tmp_path):
    base = scripts("base")
    write(
        tmp_path / "texts" / "queries-000.parquet",
        [{"language": "en", "text": f"getName of file {n}"} for n in range(50)],
    )
    monkeypatch.setattr(base, "WORK", tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["base.py", str(tmp_path / "base"), "--layers", "2", "--width", "16", "--vocabulary", "300"]
    )
    base.main()
    embedder = Embedder.load(tmp_path / "base")
    assert (embedder.dimensions, len(embedder.backbone.h)) == (16, 2)
    assert embedder.tokenize(["getName"], "query").ids[0][-1] == 1
    assert (embedder.encode_query(["get_name"]) == embedder.encode_document(["get_name"])).all()


def test_rows_of_the_table_are_what_the_teacher_makes_of_their_tokens(scripts, embedders):
    base = scripts("base")
    tokenizer = base.Tokenizer(
        base.models.BPE(vocab={"<pad>": 0, "</s>": 1, "\u0120cat": 2, "dog": 3, "\u00e2": 4}, merges=[])
    )
    tokenizer.decoder = base.decoders.ByteLevel()
    teacher = embedders("bloom")
    rows = base.rows_by(teacher, tokenizer)
    told = teacher.encode_query(["cat", "dog"])
    expected = (told - told.mean(0)) / np.linalg.norm(told - told.mean(0), axis=1, keepdims=True)
    np.testing.assert_allclose(rows[2:4], expected, atol=1e-5)
    np.testing.assert_allclose(rows.norm(dim=1), 1, atol=1e-5)  # rows without a text of their own too


def test_one_text_in_a_hundred_is_for_development(scripts):
    share = sum(scripts("common").is_development(str(number)) for number in range(20_000)) / 20_000
    assert 0.008 < share < 0.012


def test_the_tokenizer_cuts_names_and_forgets_case_and_spaces(scripts):
    tokenizer = scripts("base")
    split = tokenizer.pre_tokeniser()
    words = [
        word for word, _ in split.pre_tokenize_str(tokenizer.normaliser().normalize_str("getHTTPServer_Name\n 12345x"))
    ]
    assert words == ["get", "http", "server", "_", "name", "123", "45", "x"]
    assert split.pre_tokenize_str(tokenizer.normaliser().normalize_str(" \n\t")) == []


@settings(max_examples=200)
@given(st.text())
def test_no_text_breaks_the_normaliser(scripts, text):
    tokenizer = scripts("base")
    tokenizer.pre_tokeniser().pre_tokenize_str(tokenizer.normaliser().normalize_str(text))
