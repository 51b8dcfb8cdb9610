import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.search.embeddings import write_embeddings
from udever.errors import DataError
from udever.search.embeddings_file import (
    Header,
    is_embeddings_file,
    read,
    read_embeddings,
    read_texts,
)

HEADER = Header("abc123", 3, "document")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def write(path, texts, sources=None):
    vectors = np.random.default_rng(0).normal(size=(len(texts), 3)).astype(np.float32)
    write_embeddings(path, HEADER, texts, vectors, sources=sources)
    return vectors


def rewrite(path, change):
    """Apply `change` to the Arrow table of the file."""
    pq.write_table(change(pq.read_table(path)), path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(rows=st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=12))
def test_what_is_read_is_what_was_written(tmp_path, rows):
    texts, sources = map(list, zip(*rows, strict=True))
    path = tmp_path / "a.parquet"
    vectors = write(path, texts, sources)
    header, back = read(path)
    assert header == HEADER
    assert (back.ids, back.texts, back.sources) == ([f"id{row}" for row in range(len(rows))], texts, sources)
    np.testing.assert_array_equal(back.embeddings, vectors)
    np.testing.assert_array_equal(np.concatenate(list(read_embeddings(path, 5))), vectors)
    last = len(rows) - 1
    assert read_texts(path, [last]) == {last: (f"id{last}", texts[-1], sources[-1])}


def without_metadata(stored):
    return stored.replace_schema_metadata(None)


def with_not_finite(stored):
    values = stored["embedding"].combine_chunks().flatten().to_numpy().copy()
    values[4] = np.nan
    place = stored.schema.get_field_index("embedding")
    column = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
    return stored.set_column(place, "embedding", column)


def with_list(stored):
    place = stored.schema.get_field_index("embedding")
    return stored.set_column(place, "embedding", stored["embedding"].cast(pa.list_(pa.float32())))


def with_null(stored):
    place = stored.schema.get_field_index("text")
    return stored.set_column(place, "text", pa.array([None, "b", "c"], pa.string()))


def with_role(stored):
    return stored.replace_schema_metadata({**stored.schema.metadata, b"udever.role": b"passage"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.drop_columns(["num_tokens"]), "no column 'num_tokens'.*embed the texts again"),
        (without_metadata, "does not say its fingerprint, dimensions, role.*embed the texts again"),
        (with_not_finite, "row 1: the embedding is not finite"),
        (with_list, "not float32"),
        (with_null, "nulls in text"),
        (with_role, "role 'passage'; expected one of query, document"),
    ],
)
def test_reading_a_wrong_file_says_what_to_do(tmp_path, change, message):
    path = tmp_path / "a.parquet"
    write(path, ["a", "b", "c"])
    rewrite(path, change)
    with pytest.raises(DataError, match=message):
        read(path)


def test_reading_no_parquet_and_no_file(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(DataError, match="is not a file"):
        read(path)
    path.write_text("no parquet")
    assert not is_embeddings_file(path)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(path)


@pytest.mark.parametrize("name", ["run:1", "s3:x", os.fsdecode(b"caf\xe9")])
def test_a_file_is_read_wherever_it_lies(tmp_path, name, monkeypatch):
    write(tmp_path / "a.parquet", ["a"])
    (tmp_path / name).mkdir()
    (tmp_path / "a.parquet").rename(tmp_path / name / "a.parquet")
    monkeypatch.chdir(tmp_path)
    path = Path(name) / "a.parquet"
    assert is_embeddings_file(path) and read(path)[1].texts == ["a"] and read_texts(path, [0])[0][1] == "a"
