"""The mixture: every setting, and batches that are a pure function of settings, seed and number."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError, OutputError
from udever.pairs import files as pair_files
from udever.pairs import schedule
from udever.pairs.files import write_pairs
from udever.pairs.mixture import Mixture
from udever.pairs.schema import Pair
from udever.pairs.settings import DatasetSettings, DataSettings

KINDS = ("asymmetric", "symmetric", "classification")


def some_pairs(name, count, **changes):
    return [Pair(f"{name} anchor {i}", f"{name} positive {i}", **changes) for i in range(count)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UDEVER_CACHE", str(tmp_path / "cache"))
    write_pairs(some_pairs("a", 40), "a.parquet")
    write_pairs(some_pairs("b", 10), "b.parquet")
    return tmp_path


def opened(*datasets, batch_size=4, seed=0, **settings):
    return Mixture.open(DataSettings(datasets=list(datasets), **settings), batch_size=batch_size, seed=seed)


def names(mixture, count):
    return [mixture.batch(number).traits[0].name for number in range(count)]


def anchors(batch):
    return [pair.anchor for pair in batch.pairs]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=60),
    st.integers(2, 9),
    st.integers(0, 5),
    st.permutations(list(range(12))),
)
def test_a_batch_is_pure_of_one_kind_and_passes_repeat_no_row(kinds, batch_size, seed, order):
    pairs = [Pair(f"a{i}", f"p{i}", kind=kind, label="x") for i, kind in enumerate(kinds)]
    counts = Counter(kinds)
    if max(counts.values()) == 1:
        with pytest.raises(DataError, match="one row of each kind"):
            Mixture.of_pairs(pairs, batch_size, seed)
        return
    first, second = Mixture.of_pairs(pairs, batch_size, seed), Mixture.of_pairs(pairs, batch_size, seed)
    batches = {number: first.batch(number) for number in order}
    for number in range(12):
        batch = second.batch(number)
        assert batch == batches[number] == second.batch(number)
        assert {pair.kind for pair in batch.pairs} <= {batch.pairs[0].kind}
        assert len(batch.pairs) == len(set(anchors(batch))) == min(batch_size, counts[batch.pairs[0].kind])
        assert len(batch.traits) == len(batch.pairs)
    for kind in {kind for kind in kinds if counts[kind] > 1}:
        per_pass = max(1, counts[kind] // batch_size)
        walk = [batch for batch in map(second.batch, range(50)) if batch.pairs[0].kind == kind]
        for start in range(0, len(walk) - per_pass + 1, per_pass):
            one_pass = [anchor for batch in walk[start : start + per_pass] for anchor in anchors(batch)]
            assert len(one_pass) == len(set(one_pass))
    assert first.batches_per_epoch == sum(max(1, count // batch_size) for count in counts.values() if count > 1)


def test_passes_and_seeds_differ(folder):
    one, other = opened(DatasetSettings(path="a.parquet")), opened(DatasetSettings(path="a.parquet"), seed=1)
    passes = [
        [anchor for number in range(10 * p, 10 * p + 10) for anchor in anchors(one.batch(number))] for p in (0, 1)
    ]
    assert passes[0] != passes[1] and sorted(passes[0]) == sorted(passes[1])
    assert [one.batch(n).pairs for n in range(3)] != [other.batch(n).pairs for n in range(3)]


def test_a_pass_leaves_out_another_remainder_each_time(folder):
    mixture = opened(DatasetSettings(path="b.parquet"), batch_size=4)
    assert mixture.batches_per_epoch == 2
    left_out = {
        frozenset(f"b anchor {i}" for i in range(10))
        - {a for number in (2 * p, 2 * p + 1) for a in anchors(mixture.batch(number))}
        for p in range(20)
    }
    assert len(left_out) > 10 and {len(rest) for rest in left_out} == {2}


def test_datasets_and_kinds_smaller_than_a_batch_are_in_every_pass(folder):
    write_pairs([*some_pairs("c", 6), *some_pairs("d", 9, kind="symmetric")], "c.parquet")
    mixture = opened(*(DatasetSettings(path=f"{name}.parquet") for name in "abc"), batch_size=64)
    assert mixture.batches_per_epoch == 4
    assert len(set(mixture.texts())) == 2 * (40 + 10 + 6 + 9)


def test_rows_of_all_kinds_are_seen_equally_often():
    pairs = (
        some_pairs("x", 90)
        + some_pairs("y", 30, kind="symmetric")
        + some_pairs("z", 6, kind="classification", label="l")
    )
    mixture = Mixture.of_pairs(pairs, 10, 0)
    seen = Counter(anchor for number in range(260) for anchor in anchors(mixture.batch(number)))
    assert {seen[pair.anchor] for pair in pairs} <= {19, 20, 21}


def test_weights_three_to_one_are_drawn_three_to_one(folder):
    mixture = opened(DatasetSettings(path="b.parquet", weight=3), DatasetSettings(path="a.parquet", weight=1))
    drawn = Counter(names(mixture, 400))
    assert drawn == {"b": 300, "a": 100}
    assert [summary.share for summary in mixture.describe()] == [0.75, 0.25]
    # each walks its own rows: b wraps many times while a has not once repeated a row
    seen = Counter(anchor for number in range(40) for anchor in anchors(mixture.batch(number)) if anchor[0] == "a")
    assert set(seen.values()) == {1} and len(seen) == 40


@pytest.mark.parametrize(("temperature", "expected"), [(None, 160), (1.0, 160), (0.5, 133), (0.0, 100)])
def test_sampling_temperature_over_sizes(folder, temperature, expected):
    write_pairs(some_pairs("b", 10), "c.parquet")
    settings = {} if temperature is None else {"sampling_temperature": temperature}
    mixture = opened(DatasetSettings(path="a.parquet"), DatasetSettings(path="c.parquet"), batch_size=2, **settings)
    assert abs(Counter(names(mixture, 200))["a"] - expected) <= 1


def test_a_batch_size_of_its_own(folder):
    mixture = opened(DatasetSettings(path="a.parquet", batch_size=8), DatasetSettings(path="b.parquet"), batch_size=2)
    sizes = {batch.traits[0].name: len(batch.pairs) for batch in map(mixture.batch, range(10))}
    assert sizes == {"a": 8, "b": 2}
    assert Counter(names(mixture, 100)) == {"a": 50, "b": 50}  # 5 batches each make a pass
    assert [summary.batch_size for summary in mixture.describe()] == [8, 2]


def test_cap_takes_a_sample_that_stays(folder):
    mixture = opened(DatasetSettings(path="a.parquet", cap=12))
    seen = {anchor for number in range(30) for anchor in anchors(mixture.batch(number))}
    again = opened(DatasetSettings(path="a.parquet", cap=12))
    assert mixture.num_pairs == len(seen) == 12
    assert seen == {anchor for number in range(7) for anchor in anchors(again.batch(number))} | seen
    assert seen != {f"a anchor {i}" for i in range(12)}


def test_kind_split_languages_and_columns(folder):
    rows = [
        {
            "q": f"q{i}",
            "d": f"d{i}",
            "positive": "wrong",
            "anchor_language": lang,
            "positive_language": "python-Code",
            "split": "held_out" if i % 5 == 4 else "train",
            "label": i % 2,
        }
        for i, lang in enumerate(["eng-Latn", "deu-Latn"] * 10)
    ]
    path = write_jsonl(folder / "c.jsonl", rows)
    columns = {"anchor": "q", "positive": "d"}
    plain = opened(DatasetSettings(path=path, columns=columns))
    assert plain.num_pairs == 16
    assert plain.batch(0).pairs[0].positive.startswith("d") and plain.batch(0).pairs[0].kind == "asymmetric"
    held = opened(DatasetSettings(path=path, columns=columns, split="held_out"))
    assert {pair.anchor for number in range(9) for pair in held.batch(number).pairs} == {"q4", "q9", "q14", "q19"}
    english = opened(
        DatasetSettings(path=path, columns=columns, languages=["eng-Latn", "python-Code"], kind="classification")
    )
    assert {p.anchor_language for p in english.batch(0).pairs} == {"eng-Latn"}
    assert {p.kind for p in english.batch(0).pairs} == {"classification"}
    assert english.describe()[0].languages == {"eng-Latn -> python-Code": 8}
    assert english.describe()[0].kinds == {"classification": 8}
    with pytest.raises(DataError, match=r"'c' holds 0 of its 20 rows with split 'train' and languages \['eng-Latn'\]"):
        opened(DatasetSettings(path=path, columns=columns, languages=["eng-Latn"]))
    with pytest.raises(DataError, match=r"languages \['eng-Ltn'\]; did you mean 'eng-Latn'\?"):
        opened(DatasetSettings(path=path, columns=columns, languages=["eng-Ltn"]))
    with pytest.raises(DataError, match=r"c.jsonl has no column 'text' \(it has q, d"):
        opened(DatasetSettings(path=path, columns={"anchor": "text", "positive": "d"}))


def test_classification_needs_labels(folder):
    write_pairs([*some_pairs("x", 3, label="l"), Pair("a", "b")], "x.parquet")
    with pytest.raises(DataError, match="'x' row 3: kind is 'classification' and 'label' is missing"):
        opened(DatasetSettings(path="x.parquet", kind="classification"))


def test_num_negatives_and_their_scores(folder):
    write_pairs(some_pairs("x", 9, negatives=("m", "n", "o"), scores=(4.0, 3.0, 2.0, 1.0)), "x.parquet")
    for number, negatives, scores in ((None, ("m", "n", "o"), (4, 3, 2, 1)), (2, ("m", "n"), (4, 3, 2)), (0, (), (4,))):
        pair = opened(DatasetSettings(path="x.parquet", num_negatives=number)).batch(0).pairs[0]
        assert (pair.negatives, pair.scores) == (negatives, scores)


def test_traits(folder):
    settings = {"instruction": "find", "document_instruction": "be found", "in_batch_negatives": False}
    batch = opened(DatasetSettings(path="a.parquet", name="mine", **settings)).batch(0)
    trait = batch.traits[0]
    assert (trait.name, trait.instruction, trait.document_instruction, trait.in_batch_negatives) == (
        "mine",
        "find",
        "be found",
        False,
    )
    assert opened(DatasetSettings(path="a.parquet")).batch(0).traits[0].in_batch_negatives


def test_mixed_batches_hold_rows_of_all_in_their_shares(folder):
    mixture = opened(
        DatasetSettings(path="a.parquet", weight=3),
        DatasetSettings(path="b.parquet", weight=1),
        batch_size=8,
        mixed=True,
    )
    for number in (5, 0, 3):
        batch = mixture.batch(number)
        assert Counter(trait.name for trait in batch.traits) == {"a": 6, "b": 2}
        assert all(pair.anchor.startswith(trait.name) for pair, trait in zip(batch.pairs, batch.traits, strict=True))
    seen = Counter(anchor for number in range(20) for anchor in anchors(mixture.batch(number)))
    assert set(seen.values()) == {3, 4}  # 120 of a's 40 rows, 40 of b's 10
    by_size = opened(DatasetSettings(path="a.parquet"), DatasetSettings(path="b.parquet"), batch_size=10, mixed=True)
    assert by_size.batches_per_epoch == 5
    assert Counter(anchor for number in range(5) for anchor in anchors(by_size.batch(number))) == Counter(
        f"{name} anchor {i}" for name, count in (("a", 40), ("b", 10)) for i in range(count)
    )


def test_a_row_alone_of_its_kind_is_left_out_and_told(folder):
    write_pairs([*some_pairs("x", 6), Pair("lone", "row", kind="symmetric")], "x.parquet")
    mixture = opened(DatasetSettings(path="x.parquet"), batch_size=2)
    assert mixture.num_pairs == 6 and mixture.describe()[0].num_left_out == 1
    assert "lone" not in {anchor for number in range(60) for anchor in anchors(mixture.batch(number))}


def test_describe_counts_duplicates_of_what_is_kept(folder):
    pairs = [
        *some_pairs("x", 6),
        *[Pair("x anchor 0", "x positive 1")] * 2,
        Pair("x anchor 5", "new", split="held_out"),
    ]
    write_pairs(pairs, "x.parquet")
    summary = opened(DatasetSettings(path="x.parquet")).describe()[0]
    assert (summary.num_pairs, summary.duplicate_anchors, summary.duplicate_positives) == (8, 0.25, 0.25)
    assert summary.languages == {"? -> ?": 8}


def test_globs_lists_and_the_short_form(folder):
    write_pairs(some_pairs("c", 6), "c.parquet")
    together = opened(
        DatasetSettings(path="[ab].parquet"), DatasetSettings(path=["c.parquet", "a.parquet"], name="two")
    )
    assert [summary.num_pairs for summary in together.describe()] == [50, 46]
    short = Mixture.open(DataSettings(pairs=["a.parquet", "b.parquet"]), batch_size=2, seed=0)
    assert set(names(short, 20)) == {"a", "b"} and short.num_pairs == 50 and short.batches_per_epoch == 25


def test_the_fingerprint_follows_content(folder):
    first = opened(DatasetSettings(path="a.parquet")).fingerprint
    assert first == opened(DatasetSettings(path="a.parquet"), seed=3).fingerprint
    write_pairs([*some_pairs("a", 39), Pair("a anchor 39", "another")], "a.parquet")
    assert first != opened(DatasetSettings(path="a.parquet")).fingerprint
    pairs = some_pairs("x", 5)
    assert Mixture.of_pairs(pairs, 2, 0).fingerprint == Mixture.of_pairs(pairs, 4, 1).fingerprint
    assert Mixture.of_pairs(pairs, 2, 0).fingerprint != Mixture.of_pairs(pairs[::-1], 2, 0).fingerprint


def test_texts_for_a_tokenizer(folder):
    mixture = opened(DatasetSettings(path="a.parquet"))
    assert sorted(mixture.texts()) == sorted(t for pair in some_pairs("a", 40) for t in (pair.anchor, pair.positive))
    assert len(list(mixture.texts(7))) == 7


def test_large_data_is_mapped_from_a_cache_outside_the_data_folder(folder, monkeypatch):
    settings = [DatasetSettings(path="a.parquet"), DatasetSettings(path="b.parquet", columns={"source": "anchor"})]
    small = opened(*settings)
    monkeypatch.setattr(pair_files, "IN_MEMORY_BYTES", 0)
    large = opened(*settings)
    files = {path: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()}
    assert len(files) == 2
    assert [small.batch(n) for n in range(20)] == [large.batch(n) for n in range(20)]
    assert large.fingerprint == small.fingerprint and large.describe() == small.describe()
    opened(*settings)
    assert {path: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()} == files
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    again = opened(*settings)
    assert [small.batch(n) for n in range(20)] == [again.batch(n) for n in range(20)]
    monkeypatch.setenv("UDEVER_CACHE", str(folder / "a.parquet"))
    with pytest.raises(OutputError, match="set UDEVER_CACHE"):
        opened(*settings)


def test_rows_stay_in_arrow(folder, monkeypatch):
    """A hundred thousand rows take no Python object each, and a batch only its own."""
    count = 100_000
    table = pa.table({"anchor": [f"a{i}" for i in range(count)], "positive": [f"p{i}" for i in range(count)]})
    pq.write_table(table, "big.parquet")
    monkeypatch.setattr(pair_files, "IN_MEMORY_BYTES", 0)
    before = pa.total_allocated_bytes()
    mixture = opened(DatasetSettings(path="big.parquet"), batch_size=64)
    held = pa.total_allocated_bytes() - before
    assert held < 200_000
    numbers = [int(anchor[1:]) for n in range(50) for anchor in anchors(mixture.batch(n))]
    assert len(set(numbers)) == len(numbers) and np.std(numbers) > count / 5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: None, "gone.parquet is not a file"),
        (lambda: Path("gone.parquet").write_text("PAR1 no"), "gone.parquet cannot be read as Parquet"),
        (lambda: write_pairs([], "gone.parquet"), "'gone' holds no pairs"),
        (lambda: write_pairs(some_pairs("x", 1), "gone.parquet"), "'gone' holds 1 of its 1 rows"),
        (lambda: write_pairs(some_pairs("x", 5, split="held_out"), "gone.parquet"), "'gone' holds 0 of its 5 rows"),
        (
            lambda: write_pairs([Pair("a", "b"), Pair("c", " ")], "gone.parquet"),
            "gone.parquet: 'positive' is empty in 1 of 2 rows (row 1)",
        ),
        (lambda: pq.write_table(pa.table({"anchor": [1], "positive": ["a"]}), "gone.parquet"), "'anchor' is int64"),
    ],
)
def test_bad_files_are_named_in_one_line(folder, make, says):
    make()
    with pytest.raises(DataError) as caught:
        opened(DatasetSettings(path="a.parquet"), DatasetSettings(path="gone.parquet"))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_pattern_without_a_file_and_a_folder(folder):
    with pytest.raises(DataError, match=r"no file matches z\*.parquet"):
        opened(DatasetSettings(path="z*.parquet"))
    with pytest.raises(DataError, match="is not a file"):
        opened(DatasetSettings(path=str(folder)))


def test_a_text_of_a_million_characters_is_a_text(folder):
    write_pairs([replace(pair, positive="x" * 1_000_000) for pair in some_pairs("x", 3)], "x.parquet")
    assert {len(pair.positive) for pair in opened(DatasetSettings(path="x.parquet"), batch_size=3).batch(0).pairs} == {
        10**6
    }


def test_the_hub_and_folders_by_the_datasets_package(folder, monkeypatch):
    pytest.importorskip("datasets").disable_progress_bars()
    data = folder / "hub"
    data.mkdir()
    (folder / "a.parquet").rename(data / "train.parquet")
    settings = DatasetSettings(hub=str(data), name="hub")
    mixture = opened(settings)
    assert mixture.num_pairs == 40 and sorted(anchors(mixture.batch(0)))[0].startswith("a anchor")
    assert opened(settings).fingerprint == mixture.fingerprint
    with pytest.raises(
        DataError, match=r"org/none cannot be loaded from the hub.*check name, config, split and the network"
    ) as caught:
        opened(DatasetSettings(hub="org/none"))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"hub cannot be opened: .*nowhere"):
        opened(DatasetSettings(hub=str(data), hub_split="nowhere"))


def test_a_folder_that_the_datasets_package_saved_is_a_path_like_others(folder):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_parquet("a.parquet", cache_dir=folder / "cache")
    saved.save_to_disk("saved")
    mixture = opened(DatasetSettings(path="saved"))
    assert set(mixture.pairs()) == set(opened(DatasetSettings(path="a.parquet")).pairs())
    assert opened(DatasetSettings(path="saved")).fingerprint == mixture.fingerprint
    assert set(opened(DatasetSettings(hub="saved")).pairs()) == set(mixture.pairs())
    with pytest.raises(DataError, match="streamed files are of dataset"):
        opened(DatasetSettings(path="saved", streaming=True))
    datasets.DatasetDict({"train": saved, "test": saved.select([0, 1])}).save_to_disk("both")
    assert opened(DatasetSettings(path="both")).num_pairs == 40
    assert opened(DatasetSettings(hub="both", hub_split="test")).num_pairs == 2
    datasets.DatasetDict({"a": saved, "b": saved}).save_to_disk("other")
    with pytest.raises(DataError, match="other has the splits a, b; choose one by its folder in other"):
        opened(DatasetSettings(path="other"))
    assert opened(DatasetSettings(path="other/b")).num_pairs == 40


def test_what_is_asked_of_the_hub(folder, monkeypatch):
    datasets = pytest.importorskip("datasets")
    seen = []

    def load(path, name, **arguments):
        seen.append({"path": path, "name": name, **arguments})
        raise ConnectionError("no network\nand more")

    monkeypatch.setattr(datasets, "load_dataset", load)
    for streaming in (False, True):
        with pytest.raises(DataError, match=r"org/name cannot be loaded from the hub .*: no network; check"):
            opened(DatasetSettings(hub="org/name", config="en", hub_split="dev", revision="abc", streaming=streaming))
    asked = {"path": "org/name", "name": "en", "split": "dev", "revision": "abc"}
    assert seen == [{**asked, "streaming": False}, {**asked, "streaming": True}]


def test_rows_without_a_side_are_left_out_on_request_and_counted(folder):
    pairs = some_pairs("x", 6)
    write_pairs([*pairs, Pair("q", " "), Pair("", "a")], "gone.parquet")
    mixture = opened(DatasetSettings(path="gone.parquet", skip_empty=True))
    assert mixture.num_pairs == 6
    assert mixture.describe()[0].num_empty == 2
    with pytest.raises(DataError, match=r"'anchor' is empty in 1 of 8 rows \(row 7\), 'positive' is empty in 1 of 8"):
        opened(DatasetSettings(path="gone.parquet"))


def told_apart(name, count, **changes):
    """Pairs whose texts share no run of three words."""
    return [
        Pair(f"{name}{i}a {name}{i}b {name}{i}c", f"{name}{i}x {name}{i}y {name}{i}z", **changes) for i in range(count)
    ]


def both_sides(**given):
    dataset = DatasetSettings(**given)
    parts = [opened(dataset.model_copy(update={"split": split})) for split in ("train", "held_out")]
    return [list(part.pairs()) for part in parts]


def test_a_share_of_the_rows_is_held_out_whatever_the_seed_of_the_run(folder):
    write_pairs(told_apart("a", 200), "a.parquet")
    train, held = both_sides(path="a.parquet", held_out=0.2)
    assert len(train) + len(held) == 200 and 20 < len(held) < 65
    assert not {pair.anchor for pair in train} & {pair.anchor for pair in held}
    dataset = DatasetSettings(path="a.parquet", held_out=0.2, split="held_out")
    assert list(opened(dataset, seed=5).pairs()) == held
    assert both_sides(path="a.parquet", held_out=0.2, held_out_seed=1)[1] != held
    assert opened(DatasetSettings(path="a.parquet", held_out=0.2)).describe()[0].num_held_out == len(held)


def test_rows_to_choose_by_are_neither_trained_on_nor_held_out(folder):
    pairs = [*told_apart("a", 60), *told_apart("b", 20, split="development")]
    repeats = [replace(pairs[65], split="train", positive="another answer to it"), Pair("u v w", "x y z", group="g")]
    write_pairs([*pairs, *repeats, Pair("r s t", "o p q", group="g", split="development")], "a.parquet")
    train, held = both_sides(path="a.parquet", held_out=0.2)
    assert {pair.split for pair in [*train, *held]} == {"train"} and held
    assert {pair.anchor[0] for pair in train} == {"a"}
    told = opened(DatasetSettings(path="a.parquet", held_out=0.2)).describe()[0]
    assert (told.num_held_out, told.num_repeating) == (len(held), 2)


def test_rows_are_held_out_by_file_and_by_a_column_the_file_has(folder):
    for name in "cdefg":
        write_pairs(told_apart(name, 4), f"{name}.parquet")
    files = [f"{name}.parquet" for name in "cdefg"]
    train, held = both_sides(path=files, held_out=0.3, held_out_by="file")
    files = [{pair.anchor[0] for pair in side} for side in (train, held)]
    assert files[0] | files[1] == set("cdefg") and not files[0] & files[1] and files[1]
    rows = [{"question": f"q{i} r{i} s{i}", "answer": f"a{i} b{i} c{i}", "customer": i % 5} for i in range(40)]
    write_jsonl(folder / "qa.jsonl", rows)
    columns = {"anchor": "question", "positive": "answer"}
    with pytest.raises(DataError, match=r"did you mean 'customer'\?"):
        both_sides(path="qa.jsonl", columns=columns, held_out=0.3, held_out_by="custmer")
    train, held = both_sides(path="qa.jsonl", columns=columns, held_out=0.3, held_out_by="customer")
    customers = [{int(pair.anchor.split()[0][1:]) % 5 for pair in side} for side in (train, held)]
    assert customers[0] | customers[1] == set(range(5)) and not customers[0] & customers[1]


def test_train_rows_that_repeat_what_another_unit_holds_out_are_left_out_and_counted(folder):
    rows = [replace(pair, source=str(i % 6)) for i, pair in enumerate(told_apart("a", 30))]
    rows = [replace(pair, anchor="the same a b c") for pair in rows[:12]] + rows[12:]
    write_pairs(rows, "a.parquet")
    train, held = both_sides(path="a.parquet", held_out=0.3, held_out_by="source")
    assert not {pair.anchor for pair in train} & {pair.anchor for pair in held}
    told = opened(DatasetSettings(path="a.parquet", held_out=0.3, held_out_by="source")).describe()[0]
    assert told.num_repeating == 30 - len(train) - len(held) > 0


def test_what_cannot_be_held_out_is_refused(folder):
    write_pairs([*told_apart("a", 9), *told_apart("b", 3, split="held_out")], "a.parquet")
    with pytest.raises(DataError, match="'a' has rows whose split is held_out, and the recipe's held_out"):
        opened(DatasetSettings(path="a.parquet", held_out=0.2))
    write_pairs(told_apart("a", 9, source="x"), "a.parquet")
    with pytest.raises(DataError, match="dataset 'a': nothing can be held out of 9 rows by source"):
        opened(DatasetSettings(path="a.parquet", held_out=0.2, held_out_by="source"))
    with pytest.raises(DataError, match=r"has no column 'custmer' \(it has "):
        opened(DatasetSettings(path="a.parquet", held_out=0.2, held_out_by="custmer"))


def test_an_order_that_is_held_is_the_one_found_place_by_place(folder, monkeypatch):
    held = [opened({"path": "a.parquet"}).batch(number) for number in range(25)]
    monkeypatch.setattr(schedule, "_WHOLE_ROWS", 0)
    assert [opened({"path": "a.parquet"}).batch(number) for number in range(25)] == held
