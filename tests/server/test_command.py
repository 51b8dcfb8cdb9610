"""`udever serve` as it is joined: an index, embeddings files and a filter made by the other commands."""

import socket

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.search.embeddings import write_embeddings
from udever.cli.app import app
from udever.errors import ContractError, DataError
from udever.search.embeddings_file import Header
from udever.search.index import open_searchable
from udever.search.points import kept_map
from udever.server import Classifier


@pytest.fixture
def folder(tmp_path):
    """A small tree of code and documents."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "sums.py").write_text('def add(a, b):\n    """Add two numbers."""\n    return a + b\n')
    (tmp_path / "page.html").write_text("<h1>Zebra</h1>\n<p>They live\n</p>\nin herds.\n")
    (tmp_path / "docs.md").write_text("# Numbers\n\nWhat is the sum of two numbers?\n")
    return tmp_path


def opened(embedder, place):
    """What is at `place`, checked against the model."""
    found = open_searchable(place)
    found.check(embedder)
    return found


def served(serve, **ports):
    def prepare(service):
        for name, port in ports.items():
            setattr(service, name, port)
        service.points = kept_map(service.index)

    return serve("bloom", prepare=prepare)


def test_an_index_of_a_folder(folder, embedders, decoders, serve):
    pytest.importorskip("lancedb")
    place = str(folder / "index")
    made = CliRunner().invoke(
        app, ["index", str(folder), "-m", str(decoders("bloom")), "-o", place, "--dtype", "float32"]
    )
    assert made.exit_code == 0, made.output
    index = opened(embedders("bloom"), place)
    with served(serve, index=index) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        hits = client.post("/v1/search", json={"query": "add two numbers"}).json()["data"]
        assert {hit["source"] for hit in hits} == {"src/sums.py", "docs.md", "page.html"}
        code = client.post("/v1/search", json={"query": "add", "languages": ["python-Code"], "mode": "words"}).json()
        assert [(hit["source"], hit["name"], hit["first_line"]) for hit in code["data"]] == [("src/sums.py", "add", 1)]
        assert code["data"][0]["own_lines"] and code["data"][0]["snippet"][0]["line"] == 1
        assert any(part["match"] for line in code["data"][0]["snippet"] for part in line["parts"])
        (page,) = client.post("/v1/search", json={"query": "zebra", "mode": "words"}).json()["data"]
        assert not page["own_lines"] and {line["line"] for line in page["snippet"]} == {None}
        refused = client.post("/v1/search", json={"query": "add", "kinds": ["poem"]})
        assert (refused.status_code, "poem" in refused.json()["error"]["message"]) == (422, True)
        points = client.get("/v1/map").json()
        assert points["num_points"] == points["num_rows"] == len(hits)
        assert set(points["columns"]) == {"folder", "language", "kind", "source", "lines"}
        texts = client.post("/v1/texts", json={"ids": points["ids"]}).json()["data"]
        assert {row["id"] for row in texts} == set(points["ids"])
        assert any("return a + b" in row["text"] for row in texts)
    with pytest.raises(ContractError):
        opened(embedders("qwen3"), place)


def test_an_index_that_has_become_another_models_is_not_searched(folder, embedders, decoders, serve, monkeypatch):
    monkeypatch.setattr("udever.search.index._FRESH_S", 0.0)
    monkeypatch.setattr("udever.search.lance._FRESH_S", 0)
    make = ["index", str(folder), "-o", str(folder / "index"), "--dtype", "float32", "-m"]
    assert CliRunner().invoke(app, [*make, str(decoders("bloom"))]).exit_code == 0
    index = opened(embedders("bloom"), str(folder / "index"))
    with served(serve, index=index) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        assert client.post("/v1/search", json={"query": "add"}).status_code == 200
        assert client.get("/v1/map").status_code == 200
        made = CliRunner().invoke(app, [*make, str(decoders("qwen3")), "--rebuild"])
        assert made.exit_code == 0, made.output
        for answer in (client.post("/v1/search", json={"query": "add"}), client.get("/v1/map")):
            assert answer.status_code == 503
            assert "holds vectors of the model" in answer.json()["error"]["message"]
        words = client.post("/v1/search", json={"query": "add", "mode": "words"})
        assert [hit["source"] for hit in words.json()["data"]] == ["src/sums.py"], "words need no vectors"


@pytest.mark.parametrize("role", ["document", "query", "symmetric"])
def test_a_question_is_embedded_for_the_role_of_the_file(role, tmp_path, embedders, serve):
    embedder = embedders("bloom")
    contract = embedder.contract
    asking = contract.query.model_copy(update={"prompt": "ask: "})
    embedder.use_contract(contract.model_copy(update={"query": asking}))
    try:
        texts = ["some text", "another"]
        header, vectors = Header(embedder.fingerprint, 32, role), embedder.encode(texts, prompt_name=role)
        write_embeddings(tmp_path / "v.parquet", header, texts, vectors)
        index = opened(embedder, str(tmp_path / "v.parquet"))
        with served(serve, index=index) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
            found = client.post("/v1/search", json={"query": "some text", "mode": "meaning"}).json()["data"]
        expected = index.search(embedder, "some text", mode="meaning")
    finally:
        embedder.use_contract(contract)
    scores = {hit["id"]: hit["score"] for hit in found}
    assert scores == {hit.id: pytest.approx(hit.score, abs=1e-5) for hit in expected}
    assert (scores["id0"] == pytest.approx(1, abs=1e-5)) == (role != "document")


def test_embeddings_files(tmp_path, embedders, serve):
    texts = [f"text number {number}" for number in range(30)]
    expected = embedders("bloom").encode_document(texts)
    header = Header(embedders("bloom").fingerprint, 32, "document")
    write_embeddings(tmp_path / "vectors.parquet", header, texts, expected)
    index = opened(embedders("bloom"), str(tmp_path / "vectors.parquet"))
    with served(serve, index=index) as (address, service), httpx.Client(base_url=address, timeout=30) as client:
        query, whole = service.embedder.encode_query("text number 7"), {"include_text": True}
        hits = client.post("/v1/search", json={"query": "text number 7", "mode": "meaning", "top_k": 3} | whole).json()[
            "data"
        ]
        assert [hit["text"] for hit in hits] == [f"text number {row}" for row in np.argsort(-(expected @ query))[:3]]
        assert client.get("/v1/map").json()["num_points"] == 30
        assert client.post("/v1/texts", json={"ids": [hits[0]["id"]]}).json()["data"][0]["text"] == hits[0]["text"]
        said = client.post("/v1/search", json={"query": "number 7", "mode": "words", "top_k": 1} | whole).json()
        assert [hit["text"] for hit in said["data"]] == ["text number 7"]
        assert client.post("/v1/search", json={"query": "a", "languages": ["eng-Latn"]}).status_code == 422
    with pytest.raises(ContractError, match="fingerprint"):
        opened(embedders("qwen3"), str(tmp_path / "vectors.parquet"))
    with pytest.raises(DataError):
        opened(embedders("qwen3"), str(tmp_path / "missing"))


def test_a_filter(tmp_path, embedders, serve):
    from udever.classify import Filter

    rng = np.random.default_rng(0)
    embedder = embedders("bloom")
    filter_ = Filter(
        labels=("harmful", "fine"),
        kind="one",
        weight=rng.normal(size=(2, 32)).astype(np.float32),
        bias=np.zeros(2, np.float32),
        thresholds=np.array([0.5, 0.0], np.float32),
        fingerprint=embedder.fingerprint,
        model="tiny",
    )
    filter_.save(tmp_path / "tone")
    loaded = Filter.load(tmp_path / "tone")
    fitted = {"classes": loaded.labels, "role": loaded.role, "dimensions": loaded.dimensions}
    classifier = Classifier(loaded.predict, loaded.decide, name="tone", harmless=["fine"], **fitted)
    texts = [f"text {number}" for number in range(12)]
    predicted = filter_.predict(embedder.encode(texts))
    with served(serve, classifier=classifier) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        rows = client.post("/v1/classify", json={"input": texts}).json()["data"]
        assert [row["labels"] for row in rows] == filter_.names(filter_.decide(predicted))
        verdicts = client.post("/v1/moderations", json={"input": texts, "model": "tone"}).json()["results"]
        assert [verdict["flagged"] for verdict in verdicts] == filter_.decide(predicted)[:, 0].tolist()
    with pytest.raises(DataError, match="harmful, fine"):
        Classifier(loaded.predict, loaded.decide, name="tone", harmless=["kind"], **fitted)
    with pytest.raises(ContractError):
        loaded.check(embedders("qwen3").fingerprint)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--truncate", "start"], "truncate"),
        (["--index", "nowhere"], "nowhere"),
        (["--classifier", "nowhere"], "nowhere"),
        (["--keys", "nowhere"], "keys file nowhere"),
        (["--host", "999.0.0.1"], "cannot listen"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(options, says, decoders, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["serve", "-m", str(decoders("bloom")), "--dtype", "float32", *options])
    assert result.exit_code == 1
    assert says in str(result.exception)
    assert "\n" not in str(result.exception)


def test_a_taken_port(decoders):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "-m", str(decoders("bloom")), "--dtype", "float32", "--port", port])
    assert "cannot listen" in str(result.exception)


def test_a_missing_package_names_the_command(monkeypatch):
    import udever.server

    monkeypatch.setattr(udever.server, "find_spec", lambda name: None if name == "orjson" else object())
    with pytest.raises(ValueError, match=r"orjson; run pip install 'udever\[serve\]'"):
        udever.server.require_packages()
