import numpy as np
import pytest

from udever.errors import DataError
from udever.search import tune as tuning_module
from udever.search.index import Index, describe
from udever.search.store import ChunkRow, IndexManifest, Tuning, Where, digest_of
from udever.search.tune import has_outgrown, read_queries, tune
from udever.source.chunks import Chunk


def clustered(number, dimensions=64, seed=0):
    """Points around 40 centres whose first dimensions say most, as a Matryoshka model's do."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.sqrt(np.arange(1, dimensions + 1))
    centres = np.random.default_rng(99).standard_normal((40, dimensions))
    drawn = (centres[rng.integers(0, 40, number)] + 0.5 * rng.standard_normal((number, dimensions))) * weights
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def fill(store, embeddings):
    store.create(embeddings.shape[1])
    rows = [
        ChunkRow("a.py", n, Chunk(n + 1, n + 1, f"line {n}", "code"), digest_of(str(n).encode()), f"line {n}", False)
        for n in range(len(embeddings))
    ]
    store.replace(["a.py"], rows, embeddings)
    manifest = IndexManifest(
        model="m", fingerprint="f", precision="float32", dimensions=embeddings.shape[1], base="/", roots=(".",)
    )
    store.write_manifest(manifest.model_dump_json())


def test_the_choice_reaches_the_recall_it_was_chosen_for(lance):
    embeddings = clustered(3_000)
    fill(lance, embeddings)
    said = []
    tuned = tune(lance, recall=0.95, say=said.append)
    assert all(0 < tuning.recall_low <= tuning.recall for tuning in said)
    assert said == tuned.tried
    assert {"exact", "ivf_flat", "ivf_sq", "ivf_rq"} <= {tried.kind for tried in tuned.tried}
    assert min(tried.dimensions for tried in tuned.tried) < 64, "shortened vectors were tried"
    assert all(tried.latency_ms > 0 and tried.size_bytes > 0 for tried in tuned.tried)
    assert tuned.tried[0].recall == 1
    assert tuned.chosen.recall >= 0.95
    index = Index(lance)
    assert index.manifest.tuning == tuned.chosen
    queries = clustered(30, seed=7)
    found = [{int(hit.chunk.first_line) - 1 for hit in lance.nearest(q, 10, Where(), tuned.chosen)} for q in queries]
    truth = np.argsort(-(queries @ embeddings.T), axis=1)[:, :10]
    shares = [len(ids & set(map(int, row))) / 10 for ids, row in zip(found, truth, strict=True)]
    assert np.mean(shares) >= 0.85, "on queries it was not chosen by"
    assert [hit.source for hit in index.find("line 7", None, 1, mode="words")] == ["a.py"]


def test_own_queries_decide(store):
    embeddings = clustered(1_200)
    fill(store, embeddings)
    tuned = tune(store, queries=clustered(5, seed=3), quick=True)
    assert len({tried.kind for tried in tuned.tried}) == 2
    assert tuned.chosen.recall >= 0.95
    with pytest.raises(DataError, match="queries have 3 dimensions, the index 64"):
        tune(store, queries=np.ones((1, 3), np.float32))
    with pytest.raises(DataError, match=r"recall is 1\.5"):
        tune(store, recall=1.5)


def test_a_small_index_stays_exact_and_an_empty_one_cannot_be_tuned(store):
    with pytest.raises(DataError, match="no index yet"):
        tune(store)
    fill(store, clustered(0))
    with pytest.raises(DataError, match="holds no chunks"):
        tune(store)
    fill(store, clustered(20))
    assert tune(store).chosen.kind == "exact"


def test_of_nearly_equally_fast_settings_the_smallest_wins():
    def measured(kind, low, latency_ms, size_bytes):
        return Tuning(kind=kind, dimensions=8, recall=1.0, recall_low=low, latency_ms=latency_ms, size_bytes=size_bytes)

    tried = [
        measured("exact", 1.0, 30.0, 100),
        measured("low", 0.9, 1.0, 1),
        measured("big", 0.97, 5.0, 90),
        measured("small", 0.96, 5.4, 40),
        measured("smaller", 0.96, 6.0, 20),
    ]
    assert tuning_module._choose(tried, 0.95).kind == "small"
    assert tuning_module._choose(tried, 0.99).kind == "exact"


def test_an_index_is_tuned_by_itself_when_it_has_outgrown_exact_search(
    lance, tmp_path, put, embedder, index, monkeypatch
):
    put(tmp_path / "tree", {f"{n}.md": f"# {n}\n\nword{n} word{n % 7}\n" for n in range(1_100)})
    monkeypatch.setattr("udever.search.tune.EXACT_UP_TO", 1_000)
    monkeypatch.setattr("udever.search.lance.EXACT_FILTERED_UP_TO", 100)
    index.update(lance, [tmp_path / "tree"], embedder)
    chosen = Index(lance).manifest.tuning
    assert chosen.num_chunks == 1_100
    assert len(Index(lance).search(embedder, "word5", 3, mode="meaning")) == 3
    assert Index(lance).search(None, "word500", 3, mode="words")[0].source == "500.md"


def test_of_equally_near_chunks_one_is_as_right_as_the_other(store):
    """Many copies of few vectors: by ids, exact search itself would fail the exam."""
    fill(store, np.repeat(clustered(4), 30, axis=0))
    tuned = tune(store)
    assert (tuned.chosen.kind, tuned.chosen.recall) == ("exact", 1.0)


def test_growing():
    tuned = Tuning(kind="ivf_flat", dimensions=8, num_chunks=30_000, effort=4, refine=2)
    assert not has_outgrown(None, 20_000)
    assert has_outgrown(None, 20_001)
    assert not has_outgrown(tuned, 60_000)
    assert has_outgrown(tuned, 60_001)
    assert describe(tuned) == "ivf_flat, 8 dimensions, effort 4, refined 2 times"


def test_reading_queries(tmp_path):
    (tmp_path / "q.txt").write_text("one\n\n  two  \n")
    assert read_queries(tmp_path / "q.txt") == ["one", "two"]
    (tmp_path / "q.txt").write_bytes(b"\xff\n")
    for path, told in (("q.txt", "is not UTF-8: invalid start byte at byte 0"), ("none.txt", "cannot be read as text")):
        with pytest.raises(DataError, match=told):
            read_queries(tmp_path / path)
    (tmp_path / "q.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no queries"):
        read_queries(tmp_path / "q.txt")


def test_what_reaches_the_recall_by_luck_is_not_enough():
    luck = Tuning(kind="luck", dimensions=8, recall=0.96, recall_low=0.94, latency_ms=1.0, size_bytes=1)
    sure = Tuning(kind="sure", dimensions=8, recall=0.97, recall_low=0.95, latency_ms=2.0, size_bytes=1)
    assert tuning_module._choose([luck, sure], 0.95).kind == "sure"
