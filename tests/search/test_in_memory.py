import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.search.embeddings import write_embeddings
from udever.errors import ContractError, DataError
from udever.search.embeddings_file import Header
from udever.search.in_memory import EmbeddingsFiles, InMemory
from udever.search.searchable import Filters, Hit

TEXTS = ["how to parse json", "open a file", "sort a list of numbers", "the weather today", "parse a date"]


def store(embedder, path, texts, *, role="document", dimensions=64):
    encode = embedder.encode_document if role == "document" else embedder.encode
    count = len(texts)
    vectors = encode(texts, truncate_dim=dimensions) if texts else np.empty((0, dimensions), np.float32)
    ids = [f"{path.stem}{row}" for row in range(count)]
    header = Header(embedder.fingerprint, dimensions, role)
    write_embeddings(path, header, texts, vectors, sources=[path.name] * count, ids=ids)


def test_one_file(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    hits = EmbeddingsFiles(tmp_path / "a.parquet").search(embedder, "sort numbers", top_k=2, mode="meaning")
    assert (hits[0].id, hits[0].text, hits[0].source) == ("a2", TEXTS[2], "a.parquet")
    assert len(hits) == 2 and hits[0].score > hits[1].score
    assert embedder.calls[-1] == ("query", 1)


def test_a_folder_of_files_is_one_corpus(embedder, tmp_path):
    """Empty files at the start, in the middle and at the end must not shift the rows of the others."""
    store(embedder, tmp_path / "whole" / "a.parquet", TEXTS)
    for name, texts in (("a", []), ("b", TEXTS[:2]), ("c", []), ("d", TEXTS[2:]), ("e", [])):
        store(embedder, tmp_path / "parts" / f"{name}.parquet", texts)
    for query in ("parse", "weather", "open list"):
        whole = EmbeddingsFiles(tmp_path / "whole").search(embedder, query, top_k=9, mode="meaning")
        parts = EmbeddingsFiles(tmp_path / "parts").search(embedder, query, top_k=9, mode="meaning")
        assert [(hit.text, hit.score) for hit in parts] == [(hit.text, pytest.approx(hit.score)) for hit in whole]
        assert len(parts) == 5
        assert [TEXTS[:2], TEXTS[2:]]["bd".index(parts[0].id[0])][int(parts[0].id[1])] == parts[0].text


def test_the_query_takes_the_dimensions_and_role_of_the_file(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS, role="symmetric", dimensions=16)
    assert EmbeddingsFiles(tmp_path).search(embedder, "the weather today", top_k=1, mode="meaning")[
        0
    ].score == pytest.approx(1, abs=1e-6)
    assert embedder.calls[-1] == ("symmetric", 1)


def test_another_model_is_refused(embedder, other_embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    with pytest.raises(ContractError, match=r"abc123.*def456.*embed the texts again"):
        EmbeddingsFiles(tmp_path).search(other_embedder, "parse", mode="meaning")


def test_files_of_two_models_are_refused(embedder, other_embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    store(other_embedder, tmp_path / "b.parquet", TEXTS)
    with pytest.raises(ContractError, match=r"a\.parquet.*b\.parquet.*abc123.*def456.*embed the texts of both"):
        EmbeddingsFiles(tmp_path).search(embedder, "parse", mode="meaning")


def test_a_stranger_among_embeddings_files_is_not_passed_over(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet is no embeddings file"):
        EmbeddingsFiles(tmp_path).search(embedder, "parse", mode="meaning")


def test_nothing_to_search(embedder, tmp_path):
    with pytest.raises(DataError, match="holds no embeddings files"):
        EmbeddingsFiles(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        EmbeddingsFiles(tmp_path / "none")
    store(embedder, tmp_path / "a.parquet", TEXTS)
    with pytest.raises(DataError, match="top_k is 0"):
        EmbeddingsFiles(tmp_path).search(embedder, "parse", top_k=0)


@pytest.mark.parametrize("is_held", [False, True])
def test_equal_texts_are_one_hit(embedder, tmp_path, is_held):
    store(embedder, tmp_path / "a.parquet", [*TEXTS[:1] * 30, TEXTS[1], TEXTS[2]])
    store(embedder, tmp_path / "b.parquet", [TEXTS[0], TEXTS[3]])
    files = EmbeddingsFiles(tmp_path)
    if is_held:
        files.prepare()
    hits = files.search(embedder, "how to parse json", 3, mode="meaning")
    assert len({hit.text for hit in hits}) == 3 and hits[0].id == "a0"
    assert len(files.search(embedder, "how to parse json", 9, mode="meaning")) == 4
    assert [hit.id for hit in files.search(None, "parse", 9, mode="words")] == ["a0"]
    both = files.search(embedder, "parse", 9, mode="both")
    assert len(both) == len({hit.text for hit in both}) == 4
    within = files.search(None, "parse", 9, mode="words", filters=Filters(paths=["b.parquet"]))
    assert [hit.id for hit in within] == ["b0"]
    assert files.count() == 34


def test_where_a_hit_is():
    assert Hit(1.0, "a.py:1-2", "x", "a.py", 1, 2).place == "a.py:1-2"
    assert Hit(1.0, "17", "x", "qa.csv").place == "qa.csv, row 17"
    assert Hit(1.0, "qa.csv:17", "x", "qa.csv").place == "qa.csv:17"
    assert Hit(1.0, "17", "x").place == "17"


@pytest.fixture
def held(embedder):
    """Four texts in memory, of two languages and kinds."""
    hits = [
        Hit(0.0, "src/a.py:1-1", "def parse_json(text)", "src/a.py", 1, 1, "function", "parse_json", "", "python-Code"),
        Hit(0.0, "src/b.go:1-1", "func open(path)", "src/b.go", 1, 1, "function", "open", "", "go-Code"),
        Hit(0.0, "docs/a.md:1-1", "how to parse json", "docs/a.md", 1, 1, "section", "", "", "eng-Latn"),
        Hit(0.0, "docs/b.md:1-1", "the weather today", "docs/b.md", 1, 1, "section", "", "", "eng-Latn"),
    ]
    vectors = embedder.encode_document([hit.text for hit in hits])
    return InMemory("four", Header(embedder.fingerprint, 64, "document"), hits, vectors)


def found(searchable, embedder, query, **options):
    return [hit.source for hit in searchable.search(embedder, query, **options)]


def test_in_memory_by_meaning_by_words_and_by_both(held, embedder):
    assert found(held, embedder, "how to parse json", mode="meaning")[0] == "docs/a.md"
    assert set(found(held, None, "parse json", mode="words")) == {"src/a.py", "docs/a.md"}
    assert found(held, embedder, "weather", mode="both")[0] == "docs/b.md"
    assert found(held, None, "absent", mode="words") == found(held, None, "", mode="words") == []


def test_in_memory_within_languages_paths_and_kinds(held, embedder):
    for mode in ("meaning", "both"):
        within = lambda **filters: found(held, embedder, "x", mode=mode, filters=Filters(**filters))  # noqa: B023, E731
        assert within(languages=["python"]) == ["src/a.py"]
        assert set(within(kinds=["section"])) == {"docs/a.md", "docs/b.md"}
        assert within(paths=["src/**"], languages=["go"]) == ["src/b.go"]
        assert within(languages=["deu-Latn"]) == []
    assert found(held, None, "parse", mode="words", filters=Filters(paths=["docs/"])) == ["docs/a.md"]
    assert found(held, None, "parse", mode="words", filters=Filters(languages=["deu-Latn"])) == []
    with pytest.raises(DataError, match="kind is 'poem'"):
        held.search(embedder, "x", filters=Filters(kinds=["poem"]))
    assert held.notes("x", "both", Filters(languages=["deu-Latn"]))[0].startswith("no file has the language deu-Latn")
    assert held.notes("x", "both", Filters(paths=["scr/**"])) == ["no path matches 'scr/**'; did you mean 'src'?"]
    assert held.notes("x", "both", Filters(paths=["src/ab.py"])) == [
        "no path matches 'src/ab.py'; did you mean 'src/a.py'?"
    ]
    assert held.notes("x", "both", Filters(paths=["lib/"])) == ["no path matches 'lib/'; paths begin with docs/, src/"]


def test_embeddings_files_are_searched_alike_read_or_held(embedder, tmp_path):
    store(embedder, tmp_path / "a.parquet", TEXTS[:2])
    store(embedder, tmp_path / "b.parquet", TEXTS[2:])
    read, held = EmbeddingsFiles(tmp_path), EmbeddingsFiles(tmp_path)
    held.prepare()
    for query in ("parse", "weather", "open list"):
        one, other = (files.search(embedder, query, 4, mode="meaning") for files in (read, held))
        assert [(hit.text, pytest.approx(hit.score, abs=1e-6)) for hit in one] == [(h.text, h.score) for h in other]
    assert read.count() == held.count() == 5
    assert found(read, None, "numbers", mode="words") == ["b.parquet"]
    assert found(read, embedder, "parse", filters=Filters(paths=["a.parquet"])) == ["a.parquet"] * 2
    with pytest.raises(DataError, match="stores no language"):
        read.search(embedder, "parse", filters=Filters(languages=["eng-Latn"]))
