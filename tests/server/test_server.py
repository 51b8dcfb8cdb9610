import base64
import json

import httpx
import numpy as np
import pytest

from udever.model.packing import few_sizes
from udever.server import Limits
from udever.server import service as service_module

ERROR_KEYS = {"message", "type", "param", "code"}


def post(client, path, **body):
    return client.post(path, json=body)


def vectors_of(answer):
    return np.array([row["embedding"] for row in answer.json()["data"]], dtype=np.float32)


def test_vectors_are_those_of_encode(client, server):
    embedder = server[1].embedder
    texts = ["hello", "\x00", "def add(a, b)", "größer als 中文"]
    for role, encode in (
        (None, embedder.encode),
        ("query", embedder.encode_query),
        ("document", embedder.encode_document),
        ("symmetric", embedder.encode),
    ):
        answer = post(client, "/v1/embeddings", input=texts, input_type=role, model="tiny")
        assert answer.status_code == 200
        np.testing.assert_allclose(vectors_of(answer), encode(texts), atol=1e-5)
        assert [row["index"] for row in answer.json()["data"]] == [0, 1, 2, 3]
        assert not any(row["truncated"] for row in answer.json()["data"])
    answer = post(client, "/v1/embeddings", input="hello", input_type="query", instruction="Find code")
    np.testing.assert_allclose(
        vectors_of(answer)[0], embedder.encode_query("hello", instruction="Find code"), atol=1e-5
    )


def test_base64_is_the_same_numbers(client):
    plain = post(client, "/v1/embeddings", input=["a", "b"])
    packed = post(client, "/v1/embeddings", input=["a", "b"], encoding_format="base64").json()["data"]
    for row, numbers in zip(packed, vectors_of(plain), strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4"), numbers)


@pytest.mark.parametrize("dimensions", [1, 8, 32])
def test_dimensions_are_cut_and_scaled_again(dimensions, client, server):
    answer = vectors_of(post(client, "/v1/embeddings", input=["hello", "world"], dimensions=dimensions))
    assert answer.shape == (2, dimensions)
    np.testing.assert_allclose(np.linalg.norm(answer, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        answer, server[1].embedder.encode(["hello", "world"], truncate_dim=dimensions), atol=1e-5
    )


def test_token_ids_are_the_text_without_its_markers(client, server):
    embedder = server[1].embedder
    frame = len(embedder.contract.symmetric.prefix_ids), len(embedder.contract.symmetric.suffix_ids)
    texts = ["hello world", "def add"]
    ids = [row[frame[0] : len(row) - frame[1]] for row in embedder.tokenize(texts, "symmetric").ids]
    both = post(client, "/v1/embeddings", input=ids)
    np.testing.assert_allclose(vectors_of(both), embedder.encode(texts), atol=1e-5)
    one = post(client, "/v1/embeddings", input=ids[0])
    np.testing.assert_allclose(vectors_of(one), embedder.encode(texts[:1]), atol=1e-5)
    assert one.json()["usage"]["total_tokens"] == len(ids[0]) + sum(frame)
    marker = embedder.contract.symmetric.suffix_ids[0]
    assert post(client, "/v1/embeddings", input=[*ids[0], marker]).status_code == 422
    many = post(client, "/v1/embeddings", input=[*([ids[0]] * 2000), [marker]], truncate="end")
    assert "row 2000" in many.json()["error"]["message"]
    assert "420" in post(client, "/v1/embeddings", input=[420]).json()["error"]["message"]


def test_usage_counts_the_tokens_that_the_model_read(client, server):
    texts = ["hello", "def add(a, b): return a + b"]
    expected = sum(map(len, server[1].embedder.tokenize(texts, "document").ids))
    usage = post(client, "/v1/embeddings", input=texts, input_type="document").json()["usage"]
    assert usage == {"prompt_tokens": expected, "total_tokens": expected}


def test_a_long_text_is_refused_or_cut_and_told(client, server):
    limit = server[1].embedder.contract.max_length
    texts = ["short", "long " * 2 * limit]
    refused = post(client, "/v1/embeddings", input=texts)
    assert refused.status_code == 422
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert refused.json()["error"]["param"] == "input[1]"
    cut = post(client, "/v1/embeddings", input=texts, truncate="end")
    assert [row["truncated"] for row in cut.json()["data"]] == [False, True]
    short = len(server[1].embedder.tokenize(["short"], "symmetric").ids[0])
    assert cut.json()["usage"]["total_tokens"] == limit + short


def test_2048_inputs_and_not_one_more(client, server):
    texts = [f"text {number}" for number in range(2048)]
    answer = post(client, "/v1/embeddings", input=texts)
    assert answer.status_code == 200
    sample = [0, 1000, 2047]
    expected = server[1].embedder.encode([texts[row] for row in sample])
    np.testing.assert_allclose(vectors_of(answer)[sample], expected, atol=1e-5)
    refused = post(client, "/v1/embeddings", input=[*texts, "one more"])
    assert refused.status_code == 422
    assert "2048" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("not json", 400, "no JSON"),
        ("", 400, "no JSON"),
        ('{"input": "a", "input": }', 400, "no JSON"),
        ("[" * 100_000, 400, "no JSON"),
        ('{"input": "\\ud800"}', 400, "no JSON"),
        (b'{"input": "\xff"}', 400, "no JSON"),
        ("{}", 422, "input"),
        ("[]", 422, "object"),
        ("null", 422, "object"),
        ('{"input": []}', 422, "empty array"),
        ('{"input": [[]]}', 422, "empty array"),
        ('{"input": ""}', 422, "input[0] is empty"),
        ('{"input": ["a", " \\t"]}', 422, "input[1] is empty"),
        ('{"input": null}', 422, "null"),
        ('{"input": 3}', 422, "number"),
        ('{"input": ["a", 3]}', 422, "input[1]"),
        ('{"input": [1, true]}', 422, "token id"),
        ('{"input": [1, 1.5]}', 422, "token id"),
        ('{"input": [-1]}', 422, "token id"),
        ('{"input": [[1], [9e99]]}', 422, "input[1]"),
        ('{"input": "a", "inptu": 1}', 422, "inptu"),
        ('{"input": "a", "dimensions": 0}', 422, "dimensions"),
        ('{"input": "a", "dimensions": 33}', 422, "32"),
        ('{"input": "a", "dimensions": "3"}', 422, "dimensions"),
        ('{"input": "a", "encoding_format": "hex"}', 422, "encoding_format"),
        ('{"input": "a", "input_type": "passage"}', 422, "input_type"),
        ('{"input": "a", "model": "text-embedding-3-small"}', 404, "tiny"),
        ('{"input": "a", "input_type": "query", "instruction": "' + "go " * 2000 + '"}', 422, "prompt"),
    ],
)
def test_bad_requests_say_what_is_wrong_in_openais_shape(body, status, says, client):
    answer = client.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["error"].keys() == ERROR_KEYS
    assert says in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/nowhere", {}, 404),
        ("GET", "/v1/embeddings", {}, 405),
        ("POST", "/v1/embeddings", {"Content-Type": "text/plain"}, 415),
        ("POST", "/v1/embeddings", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ("GET", "/v1/models/other", {}, 404),
        ("GET", "/v1/map?limit=0", {}, 422),
        ("GET", "/v1/map?limit=many", {}, 422),
    ],
)
def test_every_refusal_has_the_same_shape(method, path, headers, status, client):
    answer = client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert answer.json()["error"].keys() == ERROR_KEYS
    assert status != 405 or "POST" in answer.headers["allow"]


def test_rerank_is_the_order_of_similarity(client, server):
    embedder = server[1].embedder
    documents = ["hello world", "def add(a, b)", "what is the sum", "\x00"]
    answer = post(client, "/v1/rerank", query="add numbers", documents=documents, model="tiny").json()
    scores = embedder.encode_document(documents) @ embedder.encode_query("add numbers")
    assert [row["index"] for row in answer["results"]] == np.argsort(-scores).tolist()
    np.testing.assert_allclose([row["relevance_score"] for row in answer["results"]], np.sort(scores)[::-1], atol=1e-5)
    assert "document" not in answer["results"][0]
    objects = [{"text": text} for text in documents]
    top = post(client, "/v2/rerank", query="add numbers", documents=objects, top_n=2, return_documents=True).json()
    assert [row["document"]["text"] for row in top["results"]] == [documents[row] for row in np.argsort(-scores)[:2]]
    tokens = len(embedder.tokenize(["add numbers"], "query").ids[0])
    tokens += sum(map(len, embedder.tokenize(documents, "document").ids))
    assert top["usage"]["total_tokens"] == top["meta"]["tokens"]["input_tokens"] == tokens
    assert post(client, "/v1/rerank", query="a", documents=[]).status_code == 422


def test_search_filters_and_marks(client):
    answer = post(client, "/v1/search", query="the sum of numbers", top_k=2, include_text=True).json()
    assert len(answer["data"]) == 2
    assert answer["data"][0]["score"] >= answer["data"][1]["score"]
    said = [hit["text"][start:end] for hit in answer["data"] for start, end in hit["matches"]]
    assert said and set(said) <= {"sum", "numbers"}
    english = post(client, "/v1/search", query="the sum of numbers", languages=["eng-Latn"]).json()["data"]
    assert [hit["id"] for hit in english] == ["b.md:1-1"]
    (line,) = english[0]["snippet"]
    assert [part["text"] for part in line["parts"] if part["match"]] == ["sum", "numbers"]
    assert "".join(part["text"] for part in line["parts"]) == "What is the sum of two numbers?"
    assert line["line"] == english[0]["first_line"] == 1
    assert english[0]["own_lines"]
    assert (english[0]["source"], english[0]["kind"]) == ("b.md", "section")
    assert "text" not in english[0] and "matches" not in english[0]
    words = post(client, "/v1/search", query="sum", mode="words").json()
    assert words["usage"]["total_tokens"] == 0
    assert words["notes"] == answer["notes"] == []
    assert post(client, "/v1/search", query="sum", top_k=0).status_code == 422
    refused = post(client, "/v1/search", query="sum", kinds=["poem"])
    assert (refused.status_code, "poem" in refused.json()["error"]["message"]) == (422, True)
    absent = post(client, "/v1/search", query="sum", languages=["Latin"]).json()
    assert absent["data"] == [] and "Latin" in absent["notes"][0]


def test_texts_and_map(client):
    found = post(client, "/v1/texts", ids=["c.md:1-1", "gone"]).json()["data"]
    assert [(row["id"], row["text"]) for row in found] == [("c.md:1-1", "Was ist die Summe zweier Zahlen?")]
    assert found[0]["matches"] == []
    (marked,) = post(client, "/v1/texts", ids=["c.md:1-1"], query="die Summe").json()["data"]
    assert [marked["text"][start:end] for start, end in marked["matches"]] == ["Summe"]
    points = client.get("/v1/map", params={"limit": 3}).json()
    assert points["num_points"] == 3
    x = np.frombuffer(base64.b64decode(points["x"]), dtype="<f4")
    assert x.shape == (3,)
    codes = np.frombuffer(base64.b64decode(points["columns"]["language"]["codes"]), dtype="<i4")
    names = points["columns"]["language"]["names"]
    assert [names[code] for code in codes] == ["python-Code", "eng-Latn", "deu-Latn"]
    assert np.frombuffer(base64.b64decode(points["links"]), dtype="<i4").tolist() == [1, 2]
    assert client.get("/v1/map", params={"limit": 2}).json()["num_points"] == 2


def test_tokens_show_markers_and_what_was_cut(client, server):
    embedder = server[1].embedder
    text = "hello </s> world " * 400
    short, long = post(client, "/v1/tokens", input=["hello", text], input_type="document").json()["data"]
    assert [piece["id"] for piece in short["tokens"]] == embedder.tokenize(["hello"], "document").ids[0]
    assert short["tokens"][-1]["part"] == "marker"
    assert (short["truncated"], short["cut"]) == (False, "")
    shown = "".join(piece["text"] for piece in long["tokens"] if piece["part"] == "text")
    assert long["truncated"]
    assert shown + long["cut"] == text
    assert len(long["tokens"]) == embedder.contract.max_length
    assert long["num_tokens"] == embedder.tokenize([text], "document").truncation.num_tokens[0]


def test_similarity_is_a_matrix(client, server):
    embedder = server[1].embedder
    texts, documents = ["hello", "world", "add"], ["sum", "hello"]
    square = post(client, "/v1/similarity", input=texts).json()
    own = embedder.encode(texts)
    np.testing.assert_allclose(square["matrix"], own @ own.T, atol=1e-5)
    wide = post(client, "/v1/similarity", input=texts, documents=documents).json()
    expected = embedder.encode_query(texts) @ embedder.encode_document(documents).T
    np.testing.assert_allclose(wide["matrix"], expected, atol=1e-5)
    assert len(wide["truncated"]) == 5
    assert post(client, "/v1/similarity", input=["a"] * 65).status_code == 422


def test_texts_that_are_always_cut_are_said_to_be(client, server):
    most = server[1].embedder.contract.max_length
    long = "sum " * 2 * most
    found = post(client, "/v1/search", query=long, mode="meaning").json()
    assert [note for note in found["notes"] if f"longer than the {most} tokens" in note]
    assert not any("tokens" in note for note in post(client, "/v1/search", query=long, mode="words").json()["notes"])
    results = post(client, "/v1/moderations", input=[long, "a"]).json()["results"]
    assert [result["truncated"] for result in results] == [True, False]


def test_labels_and_moderations_follow_the_probabilities(client, server):
    texts = [f"text {number}" for number in range(8)]
    first = server[1].embedder.encode(texts)[:, 0].astype(float)
    harsh = 1 / (1 + np.exp(-8 * first))
    rows = post(client, "/v1/classify", input=texts).json()["data"]
    np.testing.assert_allclose([row["probabilities"]["harsh"] for row in rows], harsh, atol=1e-4)
    assert [row["labels"] for row in rows] == [["harsh"] if p > 0.5 else ["kind"] for p in harsh]
    results = post(client, "/v1/moderations", input=texts, model="tone").json()["results"]
    assert [result["flagged"] for result in results] == [bool(p >= 0.5) for p in harsh]
    assert not any(result["categories"]["kind"] for result in results)
    parts = post(client, "/v1/moderations", input=[{"type": "text", "text": texts[0]}]).json()["results"]
    assert parts[0] == results[0] or parts[0]["flagged"] == results[0]["flagged"]
    image = [{"type": "image_url", "image_url": {"url": "a"}}]
    assert post(client, "/v1/moderations", input=image).status_code == 422


def test_the_model_tells_its_fingerprint_and_what_it_offers(client, server):
    (row,) = client.get("/v1/models").json()["data"]
    assert row["id"] == "tiny"
    assert row["fingerprint"] == server[1].embedder.fingerprint
    assert row["dimensions"] == 32
    assert set(row["endpoints"]) == {
        "embeddings",
        "rerank",
        "tokens",
        "similarity",
        "search",
        "texts",
        "map",
        "classify",
        "moderations",
    }
    assert client.get("/v1/models/tiny").json() == row
    for name in ("also-tiny", row["fingerprint"], None):
        assert post(client, "/v1/embeddings", input="a", model=name).status_code == 200


def test_states_and_metrics(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {"status": "ready"}
    post(client, "/v1/embeddings", input="a")
    lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values['udever_requests_total{endpoint="/v1/embeddings",status="200"}']) >= 1
    assert float(values["udever_queue_tokens"]) == 0
    assert float(values["udever_held_bytes"]) == 0
    assert float(values["udever_tokens_total"]) > 0


def test_without_index_and_classifier_it_says_so(embedders, serve):
    def bare(service):
        service.index = service.classifier = None

    with serve(prepare=bare) as (address, _), httpx.Client(base_url=address) as client:
        for path, body in (
            ("/v1/search", {"query": "a"}),
            ("/v1/classify", {"input": "a"}),
            ("/v1/moderations", {"input": "a"}),
            ("/v1/texts", {"ids": ["a"]}),
        ):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_served")
        assert client.get("/v1/map").status_code == 404
        assert "<title>" in client.get("/").text  # the page itself says what is not served


def test_the_page_is_served_where_there_is_one(serve, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "app.js").write_text("1")
    with serve(page=tmp_path) as (address, _), httpx.Client(base_url=address) as client:
        page = client.get("/")
        assert "<title>page" in page.text
        assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
        assert client.get("/page/app.js").status_code == 200
        assert client.get("/page/../conftest.py").status_code == 404
        assert client.get("/page/%2e%2e/conftest.py").status_code == 404


def test_limits_on_body_and_tokens(serve):
    with serve(body_bytes=1000, request_tokens=50) as (address, _), httpx.Client(base_url=address) as client:
        assert client.post("/v1/embeddings", json={"input": "a " * 2000}).status_code == 413
        chunks = (b" " * 300 for _ in range(9))  # no length announced
        headers = {"Content-Type": "application/json"}
        assert client.post("/v1/embeddings", content=chunks, headers=headers).status_code == 413
        refused = client.post("/v1/embeddings", json={"input": ["add numbers"] * 40})
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "too_many_tokens")
        assert client.post("/v1/embeddings", json={"input": "a"}).status_code == 200
        assert "udever_held_bytes 0.0" in client.get("/metrics").text


def test_a_contract_that_skips_its_prompt_and_pools_the_rest(serve):
    with serve("bloom", changes={"pooling": "mean"}) as (address, service), httpx.Client(base_url=address) as client:
        contract = service.embedder.contract
        changed = contract.model_copy(
            update={"pool_prompt": False, "query": contract.query.model_copy(update={"prompt": "ask: "})}
        )
        service.embedder.use_contract(changed)
        try:
            documents = ["hello world", "add"]
            answer = client.post("/v1/rerank", json={"query": "sum", "documents": documents})
            scores = service.embedder.encode_document(documents) @ service.embedder.encode_query("sum")
        finally:
            service.embedder.use_contract(contract)
        by_index = {row["index"]: row["relevance_score"] for row in answer.json()["results"]}
        np.testing.assert_allclose([by_index[0], by_index[1]], scores, atol=1e-5)


def test_a_batch_with_a_bad_text_names_it_and_spares_the_others(serve):
    def poison(service):
        encode = service.batcher._encode

        def poisoned(sequences, skip):
            vectors = encode(sequences, skip)
            if any(len(sequence) == 3 for sequence in sequences):
                vectors[:] = np.nan
            return vectors

        service.batcher._encode = poisoned

    with serve(prepare=poison) as (address, service), httpx.Client(base_url=address) as client:
        texts = ["def add(a, b): return a + b", "hello world, add two numbers", "a"]
        lengths = list(map(len, service.embedder.tokenize(texts, "symmetric").ids))
        bad = [text for text, length in zip(texts, lengths, strict=True) if length == 3] or ["ab"]
        good = [text for text in texts if text not in bad]
        assert len(service.embedder.tokenize(bad, "symmetric").ids[0]) == 3
        answer = client.post("/v1/embeddings", json={"input": [*good, *bad]})
        assert answer.status_code == 422
        assert answer.json()["error"]["param"] == f"input[{len(good)}]"
        assert client.post("/v1/embeddings", json={"input": good}).status_code == 200


def test_a_large_float_answer_is_whole(client, server):
    texts = [f"word {number}" for number in range(2047)]  # several blocks of numbers
    answer = client.post("/v1/embeddings", json={"input": texts})
    assert json.loads(answer.content)["data"][-1]["index"] == 2046


def test_limits_have_sensible_defaults():
    assert Limits().queue_tokens >= Limits().request_tokens


def test_batches_on_the_cpu_are_of_few_shapes_and_fillers_change_nothing(serve, embedders):
    shapes = []

    def prepare(service):
        inner = service.embedder.embed_tokens

        def embed_tokens(ids, skip=0):
            shapes.append((len(ids), sum(map(len, ids))))
            return inner(ids, skip)

        service.embedder.embed_tokens = embed_tokens

    texts = [" ".join(["word"] * num) for num in range(1, 60)]
    embedder = embedders("qwen3")
    expected = embedder.encode(texts)
    try:
        with serve(prepare=prepare) as (address, _), httpx.Client(base_url=address, timeout=30) as client:
            for first in range(0, len(texts), 7):
                some = texts[first : first + 7]
                rows = client.post("/v1/embeddings", json={"input": some}).json()["data"]
                found = np.array([row["embedding"] for row in rows])
                assert len(rows) == len(some)
                assert (found * expected[first : first + 7]).sum(1).min() >= 0.99999
    finally:
        del embedder.embed_tokens
    assert len(shapes) > 10
    assert all(few_sizes(num) == num for shape in shapes for num in shape)


def test_free_memory_goes_back_now_and_then(serve, monkeypatch):
    tidied = []
    monkeypatch.setattr(service_module, "_TIDY_BATCHES", 3)
    monkeypatch.setattr(service_module, "give_back_free", lambda: tidied.append(1))
    with serve() as (address, _), httpx.Client(base_url=address, timeout=30) as client:
        for _ in range(7):
            assert post(client, "/v1/embeddings", input="hello").status_code == 200
    assert len(tidied) == 2
