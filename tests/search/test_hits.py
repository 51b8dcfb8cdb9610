import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udever.errors import ContractError, DataError
from udever.search import EmbeddingTable, search_files
from udever.search.embeddings_file import Header, write

TEXTS = ["how to parse json", "open a file", "sort a list of numbers", "the weather today", "parse a date"]


def store(embedder, path, texts, *, role="document", dimensions=64):
    encode = embedder.encode_document if role == "document" else embedder.encode
    count = len(texts)
    vectors = encode(texts, dimensions=dimensions) if texts else np.empty((0, dimensions), np.float32)
    rows = EmbeddingTable(
        ids=[f"{path.stem}{row}" for row in range(count)],
        texts=texts,
        sources=[path.name] * count,
        embeddings=vectors,
        num_tokens=np.ones(count, np.int32),
        truncated=np.zeros(count, np.bool_),
    )
    write(path, Header(embedder.fingerprint, dimensions, role), [rows])


def test_one_file(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    hits = search_files(embedder, tmp_path / "a.parquet", "sort numbers", top_k=2)
    assert (hits[0].id, hits[0].text, hits[0].source) == ("a2", TEXTS[2], "a.parquet")
    assert len(hits) == 2 and hits[0].score > hits[1].score
    assert embedder.calls[-1] == ("query", 1)


def test_a_folder_of_files_is_one_corpus(embedder, tmp_path):
    """Empty files at the start, in the middle and at the end must not shift the rows of the others."""
    store(embedder, tmp_path / "whole" / "a.parquet", TEXTS)
    for name, texts in (("a", []), ("b", TEXTS[:2]), ("c", []), ("d", TEXTS[2:]), ("e", [])):
        store(embedder, tmp_path / "parts" / f"{name}.parquet", texts)
    for query in ("parse", "weather", "open list"):
        whole = search_files(embedder, tmp_path / "whole", query, top_k=9)
        parts = search_files(embedder, tmp_path / "parts", query, top_k=9)
        assert [(hit.text, hit.score) for hit in parts] == [(hit.text, pytest.approx(hit.score)) for hit in whole]
        assert len(parts) == 5
        assert [TEXTS[:2], TEXTS[2:]]["bd".index(parts[0].id[0])][int(parts[0].id[1])] == parts[0].text


def test_the_query_takes_the_dimensions_and_role_of_the_file(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS, role="symmetric", dimensions=16)
    assert search_files(embedder, tmp_path, "the weather today", top_k=1)[0].score == pytest.approx(1, abs=1e-6)
    assert embedder.calls[-1] == ("symmetric", 1)


def test_another_model_is_refused(embedder, other_embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    with pytest.raises(ContractError, match=r"abc123.*def456.*embed the texts again"):
        search_files(other_embedder, tmp_path, "parse")


def test_files_of_two_models_are_refused(embedder, other_embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    store(other_embedder, tmp_path / "b.parquet", TEXTS)
    with pytest.raises(ContractError, match=r"a\.parquet.*b\.parquet.*abc123.*def456.*embed the texts of both"):
        search_files(embedder, tmp_path, "parse")


def test_a_stranger_among_embeddings_files_is_not_passed_over(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet is no embeddings file"):
        search_files(embedder, tmp_path, "parse")


def test_nothing_to_search_files(embedder, tmp_path):
    with pytest.raises(DataError, match="holds no embeddings files"):
        search_files(embedder, tmp_path, "parse")
    with pytest.raises(DataError, match="does not exist"):
        search_files(embedder, tmp_path / "none", "parse")
    with pytest.raises(DataError, match="top_k is 0"):
        search_files(embedder, tmp_path, "parse", top_k=0)
