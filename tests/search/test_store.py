import subprocess
import sys

import numpy as np
import pytest

from udever.errors import DataError, MissingExtra
from udever.search import lance as lance_module
from udever.search.manifest import Tuning
from udever.search.qdrant import QdrantStore, connect
from udever.search.store import FileRecord, Row, Where, digest_of, file_id
from udever.source.chunks import Chunk
from udever.text.words import words

DIMENSIONS = 16
EXACT = Tuning(dimensions=DIMENSIONS)


def make_rows(path, number, language="python-Code", kind="function", said="def thing"):
    return [
        Row(
            path,
            n,
            Chunk(n + 1, n + 2, f"{said} {n}", kind, f"f{n}", "", language),
            digest_of(f"{said} {n}".encode()),
            " ".join(words(f"{said} {n}")),
            False,
        )
        for n in range(number)
    ]


def vectors(number, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((number, DIMENSIONS)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def filled(store):
    """300 chunks in three files: 200 Python, 80 German prose, 20 Go."""
    store.create(DIMENSIONS)
    rows = [
        *make_rows("src/a.py", 200),
        *make_rows("docs/b'.md", 80, "deu-Latn", "section", "Abschnitt Größe"),
        *make_rows("src/c.go", 20, "go-Code", "function", "func rare"),
    ]
    store.replace(["src/a.py", "docs/b'.md", "src/c.go"], rows, vectors(300))
    return store, rows, vectors(300)


def test_nothing_there_yet(store):
    assert store.read_manifest() is None
    store.create(DIMENSIONS)
    assert store.read_manifest() is None
    store.write_manifest("one")
    store.write_manifest("two")
    assert store.read_manifest() == "two"
    assert (store.count(), store.files(), store.known(["x"])) == (0, {}, {})
    assert store.nearest(vectors(1)[0], 5, Where(), EXACT) == store.matching(["x"], 5, Where()) == []
    store.create(DIMENSIONS)
    assert store.read_manifest() is None


def test_nearest_is_the_sort_of_all_inner_products(filled):
    store, rows, embeddings = filled
    for query in vectors(5, seed=1):
        scores = embeddings @ query
        order = np.argsort(-scores)[:10]
        found = store.nearest(query, 10, Where(), EXACT)
        assert [hit.id for hit in found] == [rows[row].id for row in order]
        assert [hit.score for hit in found] == pytest.approx(scores[order].tolist(), abs=1e-5)
        assert [(hit.path, hit.chunk) for hit in found] == [(rows[row].path, rows[row].chunk) for row in order]


@pytest.mark.parametrize(
    "where",
    [
        Where(languages=("go-Code",)),
        Where(kinds=("section",)),
        Where(files=(file_id("src/c.go"), file_id("docs/b'.md"))),
        Where(languages=("go-Code", "deu-Latn"), kinds=("function",)),
    ],
)
def test_filters_come_first_so_that_top_k_is_full(filled, where):
    store, rows, embeddings = filled
    wanted = [
        row
        for row, r in enumerate(rows)
        if (where.languages is None or r.chunk.language in where.languages)
        and (where.kinds is None or r.chunk.kind in where.kinds)
        and (where.files is None or file_id(r.path) in where.files)
    ]
    query = vectors(1, seed=2)[0]
    order = sorted(wanted, key=lambda row: -embeddings[row] @ query)[:15]
    assert [hit.id for hit in store.nearest(query, 15, where, EXACT)] == [rows[row].id for row in order]
    assert store.count(where) == len(wanted)
    found = store.matching(words("thing Abschnitt rare"), 15, where)
    assert len(found) == 15 and {hit.id for hit in found} <= {rows[row].id for row in wanted}


@pytest.mark.parametrize(
    "hostile", ["' OR 1=1 --", "'; DROP TABLE chunks; --", '"', "\\'", "%", "\0", "') OR ('1'='1", "💥'"]
)
def test_hostile_strings_are_only_strings(filled, hostile):
    store, _, _ = filled
    where = Where(languages=(hostile,))
    assert store.count(where) == 0
    assert store.nearest(vectors(1)[0], 5, where, EXACT) == store.matching(["thing"], 5, where) == []
    assert store.count(Where(kinds=(hostile,))) == 0
    assert store.matching([hostile], 5, Where()) == []
    store.replace([hostile], make_rows(hostile, 1, language=hostile), vectors(1))
    assert store.count(where) == 1
    assert store.nearest(vectors(1)[0], 5, where, EXACT)[0].path == hostile
    store.replace([hostile], [], vectors(0))
    assert store.count() == 300


def test_an_empty_condition_lets_nothing_through(filled):
    store, _, _ = filled
    for where in (Where(files=()), Where(languages=()), Where(kinds=())):
        assert where.is_empty and store.count(where) == 0
        assert store.nearest(vectors(1)[0], 5, where, EXACT) == store.matching(["thing"], 5, where) == []


def test_words_find_what_says_them_and_rare_ones_count_more(filled):
    store, _, _ = filled
    found = store.matching(words("rare 7"), 5, Where())
    assert (found[0].path, found[0].chunk.name) == ("src/c.go", "f7")
    assert found[0].score > found[1].score > 0
    assert store.matching(words("Größe 79"), 1, Where())[0].chunk.name == "f79"
    assert store.matching(["absent"], 5, Where()) == store.matching([], 5, Where()) == []


def test_replacing_takes_away_what_is_no_longer_there(filled):
    store, _, _ = filled
    store.replace(["src/a.py"], make_rows("src/a.py", 3), vectors(3, seed=5))
    assert store.count() == 103
    known = store.known([digest_of(b"def thing 0"), digest_of(b"def thing 199"), "absent"])
    assert list(known) == [digest_of(b"def thing 0")]
    np.testing.assert_allclose(known[digest_of(b"def thing 0")][0], vectors(3, seed=5)[0], rtol=1e-6)
    store.replace(["src/a.py", "docs/b'.md"], [], vectors(0))
    assert {hit.path for hit in store.take(store.embeddings()[0])} == {"src/c.go"}


def test_records_of_files(store):
    store.create(DIMENSIONS)
    one, two = FileRecord("a'b.py", 10, 20, "x", 3), FileRecord("ü/文.md", 1, -1, "", 0, "binary")
    store.put_files([one, two])
    assert store.files() == {one.path: one, two.path: two}
    changed = FileRecord("a'b.py", 11, 2**62, "y", 4)
    store.put_files([changed])
    store.forget_files([two.path, "absent"])
    assert store.files() == {one.path: changed}


def test_many_rows_come_back_whole(store):
    """More than a page of either store's answers."""
    store.create(DIMENSIONS)
    rows, embeddings = make_rows("a.py", 1_500), vectors(1_500)
    store.replace(["a.py"], rows, embeddings)
    ids, back = store.embeddings()
    order = np.argsort(ids)
    expected = np.argsort([row.id for row in rows])
    assert [ids[row] for row in order] == [rows[row].id for row in expected]
    np.testing.assert_allclose(back[order], embeddings[expected], rtol=1e-5)
    store.put_files([FileRecord(f"{n}.py", n, n, str(n)) for n in range(1_500)])
    assert len(store.files()) == 1_500


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq", "ivf_rq"])
def test_an_approximate_index_that_looks_everywhere_is_exact(lance, kind, monkeypatch):
    monkeypatch.setattr(lance_module, "EXACT_FILTERED_UP_TO", 10)
    lance.create(64)
    lance.write_manifest("m")
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((1_000, 64)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = [*make_rows("a.py", 900), *make_rows("b.go", 100, "go-Code")]
    lance.replace(["a.py", "b.go"], rows, embeddings)
    tuning = Tuning(kind=kind, dimensions=64, effort=64, refine=50)
    lance.build(tuning)
    assert lance.index_bytes(tuning) > 0
    query = embeddings[3]
    expected = [rows[row].id for row in np.argsort(-(embeddings @ query))[:10]]
    assert [hit.id for hit in lance.nearest(query, 10, Where(), tuning)] == expected
    few = tuning.model_copy(update={"effort": 1})
    assert len(lance.nearest(query, 60, Where(languages=("go-Code",)), few)) == 60, "one partition is not enough"
    assert len(lance.nearest(query, 300, Where(), few)) == 300, "nor is it without a filter"
    lance.replace(["c.py"], make_rows("c.py", 1), -query[None])  # not in the index yet
    assert lance.is_unsettled()
    assert lance.nearest(-query, 1, Where(), tuning)[0].path == "c.py"
    lance.optimise()
    assert not lance.is_unsettled()
    assert lance.nearest(-query, 1, Where(), tuning)[0].path == "c.py"


def test_shortened_vectors_are_kept_refined_and_dropped(lance):
    lance.create(DIMENSIONS)
    rows, embeddings = make_rows("a.py", 400), vectors(400)
    lance.replace(["a.py"], rows, embeddings)
    tuning = Tuning(kind="ivf_flat", dimensions=4, effort=64, refine=40)
    lance.build(tuning)
    query = vectors(1, seed=3)[0]
    order = np.argsort(-(embeddings @ query))[:10]
    found = lance.nearest(query, 10, Where(), tuning)
    assert [hit.id for hit in found] == [rows[row].id for row in order], "all 400 were scored again whole"
    assert [hit.score for hit in found] == pytest.approx((embeddings @ query)[order].tolist(), abs=1e-5)
    lance.replace(["b.py"], make_rows("b.py", 1), query[None])
    assert lance.nearest(query, 1, Where(), tuning)[0].path == "b.py"
    lance.build(EXACT)
    assert [hit.path for hit in lance.nearest(query, 1, Where(), tuning)] == ["b.py"], "an older tuning still works"
    assert lance.count() == 401 and lance.matching(["thing"], 3, Where())


def test_another_process_is_seen(lance):
    lance.create(DIMENSIONS)
    lance.write_manifest("m")
    reader = lance_module.LanceStore(lance.folder)
    assert reader.count() == 0
    reader._open.clear()
    lance.replace(["a.py"], make_rows("a.py", 2), vectors(2))
    assert reader.count() == 2


def test_qdrants_addresses(monkeypatch):
    monkeypatch.setenv("QDRANT_API_KEY", "very-secret")
    for wrong in ("http://host:6333", "http://host:6333/", "http://host:6333/a/b", "http:///a"):
        with pytest.raises(DataError, match="expected http://host:6333/name"):
            connect(wrong)
    with pytest.raises(DataError, match="in the open"):
        connect("http://somewhere.example:6333/chunks")
    store = QdrantStore("http://127.0.0.1:9/chunks")
    with pytest.raises(DataError, match="does not answer") as told:
        store.read_manifest()
    assert "very-secret" not in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("lancedb", "lance.LanceStore", "index"), ("qdrant_client", "qdrant.QdrantStore", "qdrant")],
)
def test_a_missing_package_is_named_with_its_extra(package, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    name, kind = module.split(".")
    made = getattr(__import__(f"udever.search.{name}", fromlist=[kind]), kind)
    with pytest.raises(MissingExtra, match=rf"pip install 'udever\[{extra}\]'"):
        made("http://host:1/x" if extra == "qdrant" else "somewhere")


def test_importing_the_modules_loads_none_of_them():
    heavy = "{'lancedb', 'qdrant_client', 'torch', 'mcp'}"
    code = f"import sys, udever.search.query, udever.search.update; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
