import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.errors import ContractError, DataError
from udever.search.embeddings_file import (
    EmbeddingTable,
    Header,
    is_embeddings_file,
    read,
    read_embeddings,
    read_texts,
    write,
)

HEADER = Header("abc123", 3, "document")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def table(num_rows, *, texts=None, sources=None, seed=0):
    rng = np.random.default_rng(seed)
    return EmbeddingTable(
        ids=[f"id{row}" for row in range(num_rows)],
        texts=texts or [f"text {row}" for row in range(num_rows)],
        sources=sources or [None] * num_rows,
        embeddings=rng.normal(size=(num_rows, 3)).astype(np.float32),
        num_tokens=np.arange(num_rows, dtype=np.int32),
        truncated=np.arange(num_rows) % 2 == 0,
    )


def rewrite(path, change):
    """Apply `change` to the Arrow table of the file."""
    pq.write_table(change(pq.read_table(path)), path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(rows=st.lists(st.tuples(TEXT, st.none() | TEXT), min_size=1, max_size=12), cut=st.integers(0, 12))
def test_round_trip(tmp_path, rows, cut):
    texts, sources = map(list, zip(*rows, strict=True))
    whole = table(len(rows), texts=texts, sources=sources)

    def part(here):
        fields = ("ids", "texts", "sources", "embeddings", "num_tokens", "truncated")
        return EmbeddingTable(**{name: getattr(whole, name)[here] for name in fields})

    path = tmp_path / "a.parquet"
    assert write(path, HEADER, [part(slice(0, cut)), part(slice(cut, None))]) == len(rows)
    header, back = read(path)
    assert header == HEADER
    assert (back.ids, back.texts, back.sources) == (whole.ids, texts, sources)
    for name in ("embeddings", "num_tokens", "truncated"):
        np.testing.assert_array_equal(getattr(back, name), getattr(whole, name))
    np.testing.assert_array_equal(np.concatenate(list(read_embeddings(path, 5))), whole.embeddings)
    last = len(rows) - 1
    assert read_texts(path, [last]) == {last: (f"id{last}", texts[-1], sources[-1])}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, HEADER, [table(2)])

    def blocks():
        yield table(4)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write(path, HEADER, blocks())
    assert len(read(path)[1]) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.parquet"]


def test_writing_vectors_that_are_not_finite_is_refused(tmp_path):
    bad = table(3)
    bad.embeddings[1, 0] = np.inf
    with pytest.raises(ContractError, match="row 4 is not finite"):
        write(tmp_path / "a.parquet", HEADER, [table(3), bad])


def test_writing_vectors_of_another_size_is_refused(tmp_path):
    with pytest.raises(ContractError, match=r"\(2, 3\); expected \(2, 4\)"):
        write(tmp_path / "a.parquet", Header("abc", 4, "document"), [table(2)])


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
    write(path, HEADER, [table(3)])
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
