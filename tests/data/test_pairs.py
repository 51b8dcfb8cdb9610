import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.data.pairs import SCHEMA, Pair, read_pairs, write_pairs
from udever.errors import DataError

TEXT = st.text(min_size=1).filter(str.strip)
PAIRS = st.builds(
    Pair,
    anchor=TEXT,
    positive=TEXT,
    negative=st.none() | TEXT,
    anchor_language=st.none() | st.just("eng-Latn"),
    positive_language=st.none() | st.just("python-Code"),
    kind=st.sampled_from(["symmetric", "asymmetric"]),
    group=st.none() | st.text(),
    source=st.none() | st.text(),
    licence=st.none() | st.just("MIT"),
    split=st.sampled_from(["train", "held_out"]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@given(st.lists(PAIRS, min_size=1, max_size=8))
def test_pairs_come_back_as_they_were(folder, pairs):
    write_pairs(pairs, folder / "pairs.parquet")
    assert read_pairs(folder / "pairs.parquet") == pairs
    for split in ("train", "held_out"):
        expected = [pair for pair in pairs if pair.split == split]
        if expected:
            assert read_pairs(folder / "pairs.parquet", split) == expected
        else:
            with pytest.raises(DataError, match=split):
                read_pairs(folder / "pairs.parquet", split)


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_jsonl_with_the_two_texts_alone(tmp_path):
    path = write_jsonl(
        tmp_path / "p.jsonl", {"anchor": "a", "positive": "b", "extra": 1}, {"anchor": "é", "positive": "d"}
    )
    assert read_pairs(path) == [Pair("a", "b"), Pair("é", "d")]


def test_a_null_where_a_default_is_meant(tmp_path):
    path = write_jsonl(
        tmp_path / "p.jsonl",
        {"anchor": "a", "positive": "b", "kind": "symmetric"},
        {"anchor": "c", "positive": "d"},
    )
    assert [pair.kind for pair in read_pairs(path)] == ["symmetric", "asymmetric"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"anchor": "", "positive": "b"}, "row 1: 'anchor'"),
        ({"anchor": "a", "positive": " \n"}, "row 1: 'positive'"),
        ({"anchor": "a", "positive": None}, "row 1: 'positive'"),
        ({"anchor": "a", "positive": "b", "kind": "both", "split": "train"}, "row 1: kind is 'both'"),
        ({"anchor": "a", "positive": "b", "kind": "symmetric", "split": "test"}, "row 1: split is 'test'"),
    ],
)
def test_a_bad_row_is_named(row, message, tmp_path):
    good = {"anchor": "a", "positive": "b", "kind": "symmetric", "split": "train"}
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(write_jsonl(tmp_path / "p.jsonl", good, row))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["negative", "group", "source", "anchor_language"])
def test_a_column_of_another_type_is_refused(column, tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", {"anchor": "a", "positive": "b", column: 3})
    with pytest.raises(DataError, match=column):
        read_pairs(path)


@pytest.mark.parametrize(("name", "content"), [("p.jsonl", "no json"), ("p.parquet", "no parquet"), ("p.parquet", "")])
def test_a_file_that_is_none_of_ours_is_refused(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_pairs(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        read_pairs(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="is not a file"):
        read_pairs(tmp_path)
    pq.write_table(pa.table({"anchor": ["a"], "query": ["b"]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"'positive'.*it has anchor, query"):
        read_pairs(tmp_path / "p.parquet")


def test_a_file_without_rows_is_refused(tmp_path):
    write_pairs([], tmp_path / "p.parquet")
    with pytest.raises(DataError, match="no pairs"):
        read_pairs(tmp_path / "p.parquet")
    assert pq.read_schema(tmp_path / "p.parquet").equals(SCHEMA)
