import subprocess
import sys
import warnings
from pathlib import Path

import httpx
import numpy as np
import pytest

from udever.errors import DataError, MissingExtra, OutputError
from udever.search import lance as lance_module
from udever.search import postgres as postgres_module
from udever.search.lance import LanceStore
from udever.search.postgres import PostgresStore
from udever.search.postgres_uri import parse_uri
from udever.search.store import ChunkRow, FileRecord, Tuning, Where, digest_of, file_id
from udever.source.chunks import Chunk
from udever.text.words import words

DIMENSIONS = 16
EXACT = Tuning(dimensions=DIMENSIONS)


def make_rows(path, number, language="python-Code", kind="function", said="def thing"):
    return [
        ChunkRow(
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


def test_a_relative_folder_may_have_a_colon(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LanceStore(Path("run:1") / "index")
    store.create(DIMENSIONS)
    assert store.folder == Path("run:1/index") and list(store.folder.iterdir())


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
        assert store.count(where) == 0
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
    tuning = Tuning(kind=kind, dimensions=64, effort=64, refine=100)  # all rows: a rotation drawn anew may hide one
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


@pytest.fixture
def bucket(monkeypatch):
    """The URI of an empty bucket of an S3 server on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.put(f"http://{host}:{port}/chunks").raise_for_status()
    yield "s3://chunks/index"
    server.stop()


def test_an_object_store_holds_an_index_too(bucket):
    store = lance_module.LanceStore(bucket)
    assert store.folder is None and store.read_manifest() is None
    store.create(DIMENSIONS)
    rows, embeddings = make_rows("a'b.py", 300), vectors(300)
    store.replace(["a'b.py"], rows, embeddings)
    store.put_files([FileRecord("a'b.py", 1, 2, "x", 300)])
    store.write_manifest("m")
    again = lance_module.LanceStore(bucket)
    assert again.read_manifest() == "m" and again.count() == 300 and list(again.files()) == ["a'b.py"]
    order = np.argsort(-(embeddings @ embeddings[7]))[:5]
    assert [hit.id for hit in again.nearest(embeddings[7], 5, Where(), EXACT)] == [rows[row].id for row in order]
    assert again.matching(words("thing 7"), 1, Where())[0].chunk.name == "f7"
    again.build(Tuning(kind="ivf_flat", dimensions=DIMENSIONS, effort=64))
    again.optimise()
    store.replace(["a'b.py"], rows[:3], embeddings[:3])
    assert store.count() == 3


def test_addresses_of_databases(monkeypatch):
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert parse_uri("postgresql://me@host/db#name") == ("postgresql://me@host/db?sslmode=require", "name")
    assert parse_uri("postgresql://me@host/db?sslmode=disable") == ("postgresql://me@host/db?sslmode=disable", "udever")
    assert parse_uri("postgresql://me@localhost/db#x")[0] == "postgresql://me@localhost/db"
    assert parse_uri("postgresql:///db?host=/run/x#x")[0] == "postgresql:///db?host=/run/x"
    for wrong in (
        "postgresql://host#x",
        "postgresql://host/db#a-b",
        'postgresql://host/db#a";',
        "postgresql://host/db#A",
    ):
        with pytest.raises(DataError, match="expected postgresql://"):
            parse_uri(wrong)
    for wrong in ("postgresql://me:very-secret@host/db#x", "postgresql://me@host/db?password=very-secret#x"):
        with pytest.raises(DataError, match="PGPASSWORD") as told:
            parse_uri(wrong)
        assert "very-secret" not in str(told.value)
    for password in ("pa#very-secret", "pa/very-secret", "pa?very-secret", "p@very-secret", "very-secret"):
        with pytest.raises(DataError, match=r"^postgresql://host: .*PGPASSWORD") as told:
            parse_uri(f"postgresql://me:{password}@host/db#x")
        assert "very-secret" not in str(told.value)
    for wrong in ("postgresql://host/db?pass%77ord=very-secret#x", "postgresql://host/db?very-secret#x"):
        with pytest.raises(DataError) as told:
            parse_uri(wrong)
        assert "very-secret" not in str(told.value)
    monkeypatch.setenv("PGPASSWORD", "very-secret")
    with pytest.raises(DataError, match="does not answer") as told:
        PostgresStore("postgresql://me@127.0.0.1:9/db#x")
    assert "very-secret" not in str(told.value) and "\n" not in str(told.value)


SERVICES = """
[far]
host=db.example.com
dbname=docs
[near]
host=localhost
dbname=docs
[checked]
host=db.example.com
dbname=docs
sslmode=verify-full
"""


@pytest.mark.parametrize(
    ("uri", "environment", "is_required"),
    [
        ("postgresql:///docs#x", {}, False),
        ("postgresql:///docs#x", {"PGHOST": "db.example.com"}, True),
        ("postgresql:///docs#x", {"PGHOST": "/run/postgresql"}, False),
        ("postgresql:///docs#x", {"PGHOST": "db.example.com", "PGSSLMODE": "verify-full"}, False),
        ("postgresql://localhost/docs#x", {"PGHOST": "db.example.com"}, False),
        ("postgresql://localhost/docs#x", {"PGHOSTADDR": "203.0.113.5"}, True),
        ("postgresql://localhost/docs?hostaddr=203.0.113.5#x", {}, True),
        ("postgresql://db.example.com/docs?hostaddr=127.0.0.1#x", {}, False),
        ("postgresql://localhost,db.example.com/docs#x", {}, True),
        ("postgresql:///?service=far#x", {}, True),
        ("postgresql:///docs#x", {"PGSERVICE": "far"}, True),
        ("postgresql:///?service=near#x", {"PGHOST": "db.example.com"}, False),
        ("postgresql:///?service=checked#x", {}, False),
    ],
)
def test_to_another_machine_a_connection_is_encrypted(uri, environment, is_required, tmp_path, monkeypatch):
    (tmp_path / "services").write_text(SERVICES)
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"PGSERVICEFILE": str(tmp_path / "services")} | environment).items():
        monkeypatch.setenv(name, value)
    assert ("sslmode=require" in parse_uri(uri)[0]) == is_required
    with pytest.raises(DataError, match=r"no service 'other'.*sslmode"):
        parse_uri("postgresql:///docs?service=other#x")


@pytest.mark.parametrize(("full", "cut"), [(64, 64), (64, 32), (2_100, 2_100)])
def test_a_graph_finds_what_comparing_all_finds(postgres, full, cut, monkeypatch):
    monkeypatch.setattr(postgres_module, "EXACT_FILTERED_UP_TO", 10)
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((300, full)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    postgres.create(full)
    rows = [*make_rows("a.py", 250), *make_rows("b.go", 50, "go-Code")]
    postgres.replace(["a.py", "b.go"], rows, embeddings)
    (tuning,) = postgres.candidates(cut, full)
    tuning = tuning.model_copy(update={"effort": 1000, "refine": 30})
    postgres.build(tuning)
    assert postgres.index_bytes(tuning) > 0
    query = embeddings[3]
    expected = [rows[row].id for row in np.argsort(-(embeddings @ query))[:10]]
    assert [hit.id for hit in postgres.nearest(query, 10, Where(), tuning)] == expected
    few = tuning.model_copy(update={"effort": 1, "refine": 1})
    assert len(postgres.nearest(query, 50, Where(languages=("go-Code",)), few)) == 50, "followed on until enough"
    assert len(postgres.nearest(query, 300, Where(), few)) == 300
    postgres.replace(["c.py"], make_rows("c.py", 1), -query[None])
    assert postgres.nearest(-query, 1, Where(), tuning)[0].path == "c.py"
    postgres.build(Tuning(dimensions=full))
    assert [hit.id for hit in postgres.nearest(query, 10, Where(), tuning)] == expected, "an older tuning still works"


def test_a_table_of_somebody_else_is_left_alone(postgres):
    with postgres._writing() as cursor:
        cursor.execute(postgres._sql("CREATE SCHEMA {schema}"))
        cursor.execute(postgres._sql("CREATE TABLE {schema}.files (mine text)"))
    with pytest.raises(OutputError, match="'files' that is not an index's"):
        postgres.create(DIMENSIONS)
    with postgres._asking() as cursor:
        assert cursor.execute(postgres._sql("SELECT count(*) FROM {schema}.files")).fetchone() == (0,)


def test_the_first_question_after_a_server_ended_its_connections_is_answered(postgres):
    postgres.create(DIMENSIONS)
    with postgres._asking() as cursor:
        with postgres._asking() as other:
            (idle,) = other.execute("SELECT pg_backend_pid()").fetchone()
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [idle])
        assert postgres.count() == 0


def test_a_server_that_ends_a_connection_during_a_question_is_told_and_asked_again(postgres):
    postgres.create(DIMENSIONS)
    with pytest.raises(DataError, match="does not answer"), postgres._asking() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert postgres.count() == 0


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [("lancedb", "lance.LanceStore", "index"), ("psycopg", "postgres.PostgresStore", "postgres")],
)
def test_a_missing_package_is_named_with_its_extra(package, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    name, kind = module.split(".")
    made = getattr(__import__(f"udever.search.{name}", fromlist=[kind]), kind)
    with pytest.raises(MissingExtra, match=rf"pip install 'udever\[{extra}\]'"):
        made("postgresql://host/x" if extra == "postgres" else "somewhere")


def test_importing_the_modules_loads_none_of_them():
    heavy = "{'lancedb', 'psycopg', 'torch', 'mcp'}"
    code = f"import sys, udever.search.index, udever.search.update; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
