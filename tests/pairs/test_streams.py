"""Streams: their own position, resumed to the row; several together; beside data that does not stream."""

import json
from pathlib import Path

import pytest

from udever.errors import DataError
from udever.pairs.files import write_pairs
from udever.pairs.mixture import Mixture
from udever.pairs.schema import Pair
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.pairs.streams import EmptyRowsWarning

pytest.importorskip("datasets")


def write(name, count, **changes):
    rows = [{"anchor": f"{name}{i}", "positive": f"p{name}{i}", **changes} for i in range(count)]
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a", 7)
    write("b", 5)
    write("c", 9)
    write_pairs([Pair(f"m{i}", f"pm{i}") for i in range(20)], "m.parquet")
    return tmp_path


def opened(*datasets, batch_size=3, **settings):
    return Mixture.open(DataSettings(datasets=list(datasets), **settings), batch_size=batch_size, seed=0)


def stream(path, **settings):
    return DatasetSettings(path=path, streaming=True, **settings)


def anchors(mixture, number):
    return [pair.anchor for pair in mixture.batch(number).pairs]


def test_a_stream_is_read_in_order_over_and_over(folder):
    mixture = opened(stream(["a.jsonl", "b.jsonl"], name="ab"))
    rows = [f"a{i}" for i in range(7)] + [f"b{i}" for i in range(5)]
    read = [anchor for number in range(10) for anchor in anchors(mixture, number)]
    assert read == (rows * 3)[:30]
    assert anchors(mixture, 2) == read[6:9]  # behind: read again from the start
    assert anchors(mixture, 8) == read[24:27]  # ahead
    with pytest.raises(DataError, match=r"'ab' streams.*set training.max_steps"):
        _ = mixture.batches_per_epoch
    assert mixture.describe()[0].num_pairs is None and mixture.num_pairs == 0


@pytest.mark.parametrize("mixed", [False, True])
def test_streams_resume_at_every_batch(folder, mixed):
    settings = [
        stream("a.jsonl", weight=2),
        stream("b.jsonl", weight=1, cap=3),
        stream("c.jsonl", weight=1),
        DatasetSettings(path="m.parquet", weight=1),
    ]
    whole = opened(*settings, mixed=mixed)
    batches, states = [], []
    for number in range(24):
        states.append(json.loads(json.dumps(whole.state())))
        batches.append(whole.batch(number))
    for number in (*range(6), 9, 14, 22):
        restored = opened(*settings, mixed=mixed)
        restored.restore(states[number])
        assert restored.state() == states[number]  # not moved, though nothing was read since
        resumed = opened(*settings, mixed=mixed)
        resumed.restore(restored.state())
        later = range(number, min(24, number + 4))
        assert [resumed.batch(n) for n in later] == [batches[n] for n in later]
        before = resumed.state()
        assert list(resumed.texts(9)) and resumed.state() == before
    assert {pair.anchor for batch in batches for pair in batch.pairs if pair.anchor[0] == "b"} == {"b0", "b1", "b2"}


def test_parquet_streams_resume(folder):
    settings = stream("m.parquet")
    whole = opened(settings)
    expected = [whole.batch(number) for number in range(9)]
    first = opened(settings)
    for number in range(4):
        first.batch(number)
    resumed = opened(settings)
    resumed.restore(first.state())
    assert [resumed.batch(number) for number in range(4, 9)] == expected[4:]


def test_nothing_streams_and_nothing_is_kept(folder):
    mixture = opened(DatasetSettings(path="m.parquet"))
    assert mixture.state() == {}
    mixture.restore({})
    with pytest.raises(DataError, match=r"saved position is of \['a'\]"):
        mixture.restore({"a": {}})
    with pytest.raises(DataError, match="saved position does not fit"):
        opened(stream("a.jsonl")).restore({"a": {"position": 3}})


def test_a_stream_keeps_what_its_settings_say(folder):
    write("d", 6, kind="symmetric", anchor_language="eng-Latn", positive_language="eng-Latn", negatives=["n", "o"])
    write("e", 6, split="held_out")
    kept = opened(stream("d.jsonl", kind="symmetric", languages=["eng-Latn"], num_negatives=1)).batch(0).pairs
    assert {(pair.kind, pair.negatives) for pair in kept} == {("symmetric", ("n",))}
    with pytest.raises(DataError, match=r"'d' row 0: kind is 'symmetric' in a stream; set the dataset's kind"):
        opened(stream("d.jsonl"))
    with pytest.raises(DataError, match="'e' gives no row with its split and languages"):
        opened(stream("e.jsonl"))
    with pytest.raises(DataError, match="'d' gives no row with its split and languages"):
        opened(stream("d.jsonl", kind="symmetric", languages=["deu-Latn"]))
    with pytest.raises(DataError, match="'label' is missing"):
        opened(stream("d.jsonl", kind="classification"))


def test_a_stream_that_breaks_says_where(folder):
    with Path("a.jsonl").open("a") as file:
        file.write(json.dumps({"anchor": "", "positive": "x"}) + "\n")
    mixture = opened(stream("a.jsonl"))
    mixture.batch(1)
    with pytest.raises(DataError, match=r"'a': 'anchor' is empty in 1 of 8 rows \(row 7\)"):
        mixture.batch(2)
    Path("b.jsonl").write_text("no json\n")
    with pytest.raises(DataError, match=r"'b'|b\.jsonl") as caught:
        opened(stream("b.jsonl"))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="is not a file"):
        opened(stream("zz.jsonl"))
    with pytest.raises(DataError, match="streamed files are of jsonl, parquet"):
        opened(stream(["a.jsonl", "m.parquet"]))


def test_the_fingerprint_of_a_stream_of_files_is_their_content(folder):
    first = opened(stream("a.jsonl")).fingerprint
    assert opened(stream("a.jsonl")).fingerprint == first
    write("a", 8)
    assert opened(stream("a.jsonl")).fingerprint != first


def test_rows_without_a_side_are_left_out_of_a_stream_on_request(folder):
    with Path("a.jsonl").open("a") as file:
        file.write(json.dumps({"anchor": "", "positive": "x"}) + "\n")
    mixture = opened(stream("a.jsonl", skip_empty=True))
    with pytest.warns(EmptyRowsWarning):
        assert all(anchors(mixture, number).count("") == 0 for number in range(4))


def write_with_blanks(name, blanks, count=9):
    rows = [{"anchor": f"{name}{i}", "positive": blanks.get(i, f"p{name}{i}")} for i in range(count)]
    Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_all_rows_of_a_stream_without_a_side_stand_in_one_message(folder):
    write_with_blanks("d", {1: "", 4: " \n", 8: None})
    with pytest.raises(DataError, match=r"'positive' is empty in 3 of 9 rows \(rows 1, 4, 8\).*skip_empty = true"):
        opened(stream("d.jsonl"), batch_size=2).batch(0)


def test_rows_of_a_stream_left_out_by_skip_empty_are_counted_and_told(folder):
    write_with_blanks("d", {1: "", 4: " \n", 8: None})
    mixture = opened(stream("d.jsonl", skip_empty=True), batch_size=3)
    assert anchors(mixture, 0) == ["d0", "d2", "d3"]
    with pytest.warns(EmptyRowsWarning, match=r"'d': 3 of 9 rows have no anchor or positive and are left out"):
        assert anchors(mixture, 2) == ["d0", "d2", "d3"]
    assert anchors(mixture, 8) == ["d0", "d2", "d3"]  # told once
