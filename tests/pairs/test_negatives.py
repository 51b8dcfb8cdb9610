"""Hard negatives against the same rules written out over a whole matrix of scores."""

import json
import random
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from udever.errors import DataError, OutputError, RecipeError
from udever.pairs import candidates, negatives
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.negatives import Options, mine_negatives
from udever.pairs.schema import Pair
from udever.search.bm25 import Bm25

WORDS = ("read", "write", "file", "list", "dict", "tree", "sort", "merge", "copy", "parse", "date", "time", "hash")


def make_pairs(count=60, per_file=1):
    """Pairs with shared anchors, groups, labels, positives that repeat, and rows that are held out."""
    rng = random.Random(3)
    pairs = []
    for i in range(count):
        anchor = " ".join(rng.choices(WORDS, k=2 if i % 5 else 1))
        positive = " ".join(rng.choices(WORDS, k=4))
        pair = Pair(anchor, positive, source=str(i // per_file))
        if i % 6 == 1:
            pair = replace(pair, group=f"g{i % 4}")
        if i % 6 == 2:
            pair = replace(pair, kind="classification", label=f"l{i % 5}")
        if i % 6 == 3:
            pair = replace(pair, kind="symmetric")
        if i % 6 == 4:
            pair = replace(pair, positive=pairs[i - 4].positive.upper())
        if i % 10 == 9:
            pair = replace(pair, split="held_out", negatives=("kept",))
        pairs.append(pair)
    if count > 7:
        pairs[7] = replace(pairs[7], anchor=pairs[0].positive, negatives=("old",))
    return pairs


def normal(text):
    return " ".join(text.split()).casefold()


def answers(pair, pairs):
    """The documents that answer `pair`, by rules read off the help."""
    out = {normal(pair.anchor)}
    for other in pairs:
        same = normal(other.anchor) == normal(pair.anchor)
        same |= pair.group is not None and other.group == pair.group
        same |= pair.kind == other.kind == "classification" and other.label == pair.label
        if same:
            out.add(normal(other.positive))
    return out


VECTORS = {}


def vectors_of(embedder, name, texts, instruction):
    """Vectors of texts, each embedded once in all these tests."""
    new = [text for text in dict.fromkeys(texts) if (name, instruction, text) not in VECTORS]
    if new:
        found = getattr(embedder, name)(new, instruction=instruction)
        VECTORS.update({(name, instruction, text): vector for text, vector in zip(new, found, strict=True)})
    return np.stack([VECTORS[name, instruction, text] for text in texts])


def expected(embedder, pairs, options, corpus=None):
    """Brute force: for each row its negatives and the scores of positive and negatives."""
    out = []
    for pair in pairs:
        if pair.split != "train":
            out.append((pair.negatives, None))
            continue
        side = [p for p in pairs if p.split == "train" and (p.kind == "asymmetric") == (pair.kind == "asymmetric")]
        documents = {}
        for text in corpus or [p.positive for p in side]:
            documents.setdefault(normal(text), text)
        candidates = list(documents)
        for p in side:
            documents.setdefault(normal(p.positive), p.positive)
        texts = list(documents.values())
        words = next(Bm25(texts).scores([pair.anchor]))[0]
        judge = words
        if embedder is not None:
            symmetric = pair.kind != "asymmetric"
            query = vectors_of(embedder, "encode" if symmetric else "encode_query", [pair.anchor], options.instruction)
            name, instruction = ("encode", options.instruction) if symmetric else ("encode_document", None)
            judge = (query @ vectors_of(embedder, name, texts, instruction).T)[0]
        own = judge[list(documents).index(normal(pair.positive))]
        limit = own - (1 - options.max_share) * abs(own)
        if options.margin is not None:
            limit = min(limit, own - options.margin)
        known = answers(pair, side)
        good = [d for d, name in enumerate(candidates) if judge[d] <= limit and name not in known]
        lists = []
        if options.mode != "words":
            lists.append(sorted(good, key=lambda d: (-judge[d], d)))
        if options.mode != "meaning":
            lists.append(sorted((d for d in good if words[d] > 0), key=lambda d: (-words[d], d)))
        if options.siblings:
            files = {}
            for p in side:
                files.setdefault(normal(p.positive), p.source)
            beside = [d for d in good if files.get(candidates[d], "") == pair.source]
            lists.append(sorted(beside, key=lambda d: (-judge[d], d)))
        merged = dict.fromkeys(d for row in zip_longest(*(found[options.skip_top :] for found in lists)) for d in row)
        merged.pop(None, None)
        chosen = list(merged)[: options.num_negatives]
        out.append((tuple(texts[d] for d in chosen), [own, *judge[chosen]]))
    return out


@pytest.fixture
def embedder(embedders):
    return embedders("qwen3")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that a corpus of sixty does not fit in."""
    monkeypatch.setattr(candidates, "_BLOCK", 7)
    monkeypatch.setattr(candidates, "_QUERIES", 5)
    monkeypatch.setattr(negatives, "windows", lambda count: ((s, min(s + 11, count)) for s in range(0, count, 11)))


@pytest.mark.parametrize(
    ("options", "with_model"),
    [
        (Options(), True),
        (Options(num_negatives=3, max_share=1.0), True),
        (Options(margin=0.02, max_share=1.0, scores=True), True),
        (Options(skip_top=2, scores=True), True),
        (Options(mode="both", num_negatives=6, scores=True), True),
        (Options(mode="words", scores=True), True),
        (Options(mode="words", max_share=0.8, scores=True), False),
        (Options(instruction="find it"), True),
        (Options(siblings=True, scores=True), True),
        (Options(siblings=True, mode="both", skip_top=1, num_negatives=6), True),
    ],
)
def test_negatives_are_those_of_brute_force(embedder, tmp_path, options, with_model):
    pairs = make_pairs(per_file=9)
    write_pairs(pairs, tmp_path / "p.parquet")
    model = embedder if with_model else None
    summary = mine_negatives(model, tmp_path / "p.parquet", tmp_path / "h.parquet", options)
    found = read_pairs(tmp_path / "h.parquet")
    wanted = expected(model, pairs, options)
    assert [replace(pair, negatives=(), scores=None) for pair in found] == [replace(p, negatives=()) for p in pairs]
    assert [pair.negatives for pair in found] == [negatives for negatives, _ in wanted]
    if options.scores:
        for pair, (_, scores) in zip(found, wanted, strict=True):
            assert pair.scores == (None if scores is None else pytest.approx(scores, abs=1e-5))
    train = [pair for pair in found if pair.split == "train"]
    assert (summary.num_rows, summary.num_train, summary.num_replaced) == (60, len(train), 1)
    assert summary.num_full == sum(len(pair.negatives) == options.num_negatives for pair in train) > 0
    assert summary.num_without == sum(not pair.negatives for pair in train)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_corpus_of_its_own(embedder, tmp_path):
    pairs = make_pairs(24)
    write_pairs(pairs, tmp_path / "p.parquet")
    corpus = [
        pairs[0].positive,
        "time key",
        "date sort",
        "Time  KEY",
        *(" ".join([a, b]) for a in WORDS for b in WORDS[:3]),
    ]
    rows = [json.dumps({"body": text, "positive": "wrong", "kind": "odd"}) for text in corpus]
    (tmp_path / "c.jsonl").write_text("\n".join(rows))
    options = Options(corpus=tmp_path / "c.jsonl", column="body", max_share=0.99, num_negatives=5)
    mine_negatives(embedder, tmp_path / "p.parquet", tmp_path / "h.parquet", options)
    found = [pair.negatives for pair in read_pairs(tmp_path / "h.parquet")]
    assert found == [negatives for negatives, _ in expected(embedder, pairs, options, corpus)]
    (tmp_path / "c.txt").write_text("\n".join(corpus))
    mine_negatives(
        embedder, tmp_path / "p.parquet", tmp_path / "l.parquet", replace(options, corpus=tmp_path / "c.txt")
    )
    assert [pair.negatives for pair in read_pairs(tmp_path / "l.parquet")] == found
    assert {text for pair in make_pairs(24) for text in pair.negatives} | {t for n in found for t in n} <= {
        *corpus,
        "kept",
        "old",
    }


def test_sampling_is_of_the_best_and_reproducible(embedder, tmp_path):
    write_pairs(make_pairs(), tmp_path / "p.parquet")

    def run(**options):
        mine_negatives(embedder, tmp_path / "p.parquet", tmp_path / "h.parquet", Options(max_share=1.0, **options))
        return [pair.negatives for pair in read_pairs(tmp_path / "h.parquet") if pair.split == "train"]

    first, second, other = (run(num_negatives=2, sample_from=6, seed=seed) for seed in (0, 0, 1))
    best = run(num_negatives=6)
    assert first == second != other
    for sampled, all_six in zip(first, best, strict=True):
        places = [all_six.index(text) for text in sampled]
        assert places == sorted(places)
    assert len({tuple(a.index(t) for t in s) for s, a in zip(first, best, strict=True)}) > 5
    assert run(num_negatives=6, sample_from=6) == best


def test_what_cannot_be_is_refused_in_one_line(embedder, tmp_path):
    write_pairs(make_pairs(12), tmp_path / "p.parquet")
    write_pairs([replace(pair, split="held_out") for pair in make_pairs(4)], tmp_path / "none.parquet")
    write_pairs([replace(pair, source=None) for pair in make_pairs(12)], tmp_path / "plain.parquet")

    (tmp_path / "made.parquet").mkdir()

    def run(pairs="p.parquet", output="h.parquet", model=embedder, **options):
        mine_negatives(model, tmp_path / pairs, tmp_path / output, Options(**options))

    for error, says, wrong in [
        (DataError, "zz.parquet is not a file", {"pairs": "zz.parquet"}),
        (DataError, "holds no pairs of split 'train'", {"pairs": "none.parquet"}),
        (DataError, "c.jsonl is not a file", {"corpus": tmp_path / "c.jsonl"}),
        (DataError, "no column 'text'", {"corpus": tmp_path / "p.parquet"}),
        (RecipeError, "searching by meaning takes a model", {"model": None}),
        (RecipeError, "siblings takes a model", {"model": None, "mode": "words", "siblings": True}),
        (RecipeError, "leave out siblings or corpus", {"corpus": tmp_path / "c.jsonl", "siblings": True}),
        (RecipeError, "sample_from is 2", {"sample_from": 2}),
        (RecipeError, "num_negatives 0", {"num_negatives": 0}),
        (RecipeError, r"max_share is 1.5; expected at most 1, such as 0.95", {"max_share": 1.5}),
        (RecipeError, "margin is -1.0; expected at least 0", {"margin": -1.0}),
        (
            DataError,
            "no column 'positve'.*did you mean 'positive'",
            {"corpus": tmp_path / "p.parquet", "column": "positve"},
        ),
        (DataError, "no row names its file in 'source'", {"pairs": "plain.parquet", "siblings": True}),
        (OutputError, "give one that ends in .parquet", {"output": "h.parqet"}),
        (OutputError, "it is a folder", {"output": "made.parquet"}),
    ]:
        with pytest.raises(error, match=says) as caught:
            run(**wrong)
        assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"p.parquet", "none.parquet", "plain.parquet", "made.parquet"}


def long_text(number, form="{}"):
    return form.format(" ".join(f"word{number}x{place}" for place in range(20)) + " common")


FORMS = ("{}", "## {}", "{}:", "{} again", "*{}*")


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(FORMS), st.booleans()), min_size=2, max_size=20))
def test_no_negative_repeats_a_held_out_text_or_nearly_the_rows_own_positive(tmp_path_factory, rows):
    assume(not all(is_held for _, _, is_held in rows))
    folder = tmp_path_factory.mktemp("negatives")
    pairs = [
        Pair(f"common query {place}", long_text(number, form), split="held_out" if is_held else "train")
        for place, (number, form, is_held) in enumerate(rows)
    ]
    write_pairs(pairs, folder / "in.parquet")
    mine_negatives(None, folder / "in.parquet", folder / "out.parquet", Options(3, mode="words", max_share=1.0))
    found = read_pairs(folder / "out.parquet")
    held = {number for number, _, is_held in rows if is_held}
    assert [pair.positive for pair in found] == [pair.positive for pair in pairs]
    for (number, _, is_held), pair in zip(rows, found, strict=True):
        numbers = {int(negative.split("x")[0].split("word")[1]) for negative in pair.negatives}
        assert not numbers & {number, *held}
        assert not (is_held and numbers)


def test_negatives_are_found_beside_held_out_rows(tmp_path):
    pairs = [Pair(f"common query {i}", long_text(i % 8, FORMS[i // 8])) for i in range(32)]
    pairs += [Pair(f"held {i}", long_text(i), split="held_out") for i in range(3)]
    write_pairs(pairs, tmp_path / "in.parquet")
    mine_negatives(None, tmp_path / "in.parquet", tmp_path / "out.parquet", Options(3, mode="words", max_share=1.0))
    assert any(pair.negatives for pair in read_pairs(tmp_path / "out.parquet", split="train"))


def test_a_csv_with_other_names_and_gaps(tmp_path):
    rows = ["question,answer", *(f"find the {a} of {b},{b} has {a} here" for a in WORDS[:4] for b in WORDS[4:8]), "x,"]
    (tmp_path / "qa.csv").write_text("\n".join(rows))
    given = Options(num_negatives=2, mode="words", max_share=1.0)
    with pytest.raises(DataError, match=r"'positive' is empty in 1 of 17 rows \(row 16\)"):
        mine_negatives(None, tmp_path / "qa.csv", tmp_path / "hard.parquet", given)
    found = mine_negatives(None, tmp_path / "qa.csv", tmp_path / "hard.parquet", replace(given, skip_empty=True))
    assert found.num_rows == 16 and found.num_full > 8
    named = replace(given, skip_empty=True, columns={"anchor": "answer", "positive": "question"})
    mine_negatives(None, tmp_path / "qa.csv", tmp_path / "turned.parquet", named)
    assert read_pairs(tmp_path / "turned.parquet")[0].anchor == read_pairs(tmp_path / "hard.parquet")[0].positive
    wrong = replace(given, columns={"anchor": "question", "positive": "anser"})
    with pytest.raises(DataError, match='did you mean positive = "answer"'):
        mine_negatives(None, tmp_path / "qa.csv", tmp_path / "no.parquet", wrong)
