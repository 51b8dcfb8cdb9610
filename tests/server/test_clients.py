"""The clients that people use, as they come, against a real server."""

import asyncio
import re
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

SERVING = Path(__file__).parents[2] / "docs" / "serving.md"


def run_snippet(word, address, names):
    """The Python block of docs/serving.md that has `word`, run against the server at `address`."""
    blocks = re.findall(r"```python\n(.*?)```", SERVING.read_text("utf-8"), re.S)
    (block,) = [block for block in blocks if word in block]
    block = block.replace("http://localhost:8000", address).replace("my-model", "tiny")
    exec(block.replace("(**server,", "(**server, http_client=http,"), names)  # one that the test closes
    return names


@pytest.fixture(scope="module")
def official(server):
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key="unused-key") as client:
        yield client


TEXTS = ["how to add numbers", "def add(a, b): return a + b", "größer 中文"]


def test_openai_embeddings_as_they_are_by_default(official, server):
    """It asks for base64 by itself and gives back numbers."""
    answer = official.embeddings.create(model="tiny", input=TEXTS)
    expected = server[1].embedder.encode(TEXTS)
    np.testing.assert_allclose([row.embedding for row in answer.data], expected, atol=1e-5)
    assert answer.usage.total_tokens == sum(map(len, server[1].embedder.tokenize(TEXTS, "symmetric").ids))
    assert answer.model == "tiny"


def test_openai_options(official, server):
    embedder = server[1].embedder
    floats = official.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="float", user="someone")
    np.testing.assert_allclose(floats.data[0].embedding, embedder.encode(TEXTS[0]), atol=1e-5)
    small = official.embeddings.create(model="tiny", input=TEXTS, dimensions=8)
    np.testing.assert_allclose([row.embedding for row in small.data], embedder.encode(TEXTS, truncate_dim=8), atol=1e-5)
    query = official.embeddings.create(
        model="tiny", input=TEXTS[0], extra_body={"input_type": "query", "instruction": "Find code"}
    )
    expected = embedder.encode_query(TEXTS[0], instruction="Find code")
    np.testing.assert_allclose(query.data[0].embedding, expected, atol=1e-5)
    ids = embedder.tokenizer.hf.encode(TEXTS[0], add_special_tokens=False)
    for given in (ids, [ids, ids]):
        answer = official.embeddings.create(model="tiny", input=given)
        np.testing.assert_allclose(answer.data[0].embedding, embedder.encode(TEXTS[0]), atol=1e-5)


def test_openai_async(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{server[0]}/v1", api_key="unused-key") as client:
            calls = (client.embeddings.create(model="tiny", input=f"text {number}") for number in range(40))
            return await asyncio.gather(*calls)

    answers = asyncio.run(run())
    expected = server[1].embedder.encode([f"text {number}" for number in range(40)])
    np.testing.assert_allclose([answer.data[0].embedding for answer in answers], expected, atol=1e-5)


def test_openai_errors_models_and_moderations(official, server):
    with pytest.raises(openai.NotFoundError, match="tiny") as missing:
        official.embeddings.create(model="text-embedding-3-small", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError) as long:
        official.embeddings.create(model="tiny", input="long " * 2000)
    assert long.value.code == "context_length_exceeded" and "--truncate end" in long.value.message
    assert [model.id for model in official.models.list()] == ["tiny"]
    assert official.models.retrieve("tiny").model_extra["fingerprint"] == server[1].embedder.fingerprint
    verdict = official.moderations.create(input=["hello", "world"])
    assert len(verdict.results) == 2
    assert {result.flagged for result in verdict.results} <= {True, False}


def test_openai_with_keys(serve):
    with serve(keys=["right-key-1", "right-key-2"]) as (address, _):
        for key in ("right-key-1", "right-key-2"):
            with openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0) as client:
                assert client.embeddings.create(model="tiny", input="a").data
        with (
            openai.OpenAI(base_url=f"{address}/v1", api_key="wrong-key", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError) as refused,
        ):
            client.embeddings.create(model="tiny", input="a")
        assert refused.value.code == "invalid_api_key"


def test_langchain(server):
    from langchain_openai import OpenAIEmbeddings

    embedder = server[1].embedder
    options = {"model": "tiny", "api_key": "unused-key", "base_url": f"{server[0]}/v1"}
    options["check_embedding_ctx_length"] = False  # otherwise it sends another tokenizer's ids

    async def ask():
        async with httpx.AsyncClient() as http:
            return await OpenAIEmbeddings(**options, http_async_client=http).aembed_query(TEXTS[0])

    np.testing.assert_allclose(asyncio.run(ask()), embedder.encode(TEXTS[0]), atol=1e-5)
    with httpx.Client() as http:
        plain = OpenAIEmbeddings(**options, http_client=http)
        np.testing.assert_allclose(plain.embed_documents(TEXTS), embedder.encode(TEXTS), atol=1e-5)
        np.testing.assert_allclose(plain.embed_query(TEXTS[0]), embedder.encode(TEXTS[0]), atol=1e-5)
        small = OpenAIEmbeddings(**options, http_client=http, dimensions=8)
        np.testing.assert_allclose(small.embed_query(TEXTS[0]), embedder.encode(TEXTS[0], truncate_dim=8), atol=1e-5)


def test_langchain_as_the_page_has_it_needs_no_network(server, monkeypatch):
    """Questions go as queries, documents as documents; tiktoken, which fetches its tables, is not asked."""
    import tiktoken

    def fetch(*_):
        raise AssertionError("tiktoken would be fetched")

    monkeypatch.setattr(tiktoken, "encoding_for_model", fetch)
    monkeypatch.setattr(tiktoken, "get_encoding", fetch)
    embedder = server[1].embedder
    with httpx.Client() as http:
        names = run_snippet("OpenAIEmbeddings", server[0], {"http": http})
        expected = embedder.encode_document(["one text", "another"])
        np.testing.assert_allclose(names["vectors"], expected, atol=1e-5)
        np.testing.assert_allclose(names["question"], embedder.encode_query("a question"), atol=1e-5)


def test_llama_index(server):
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    embedder = server[1].embedder
    expected = embedder.encode(TEXTS)
    options = {"model_name": "tiny", "api_base": f"{server[0]}/v1", "api_key": "unused-key"}

    async def ask():
        async with httpx.AsyncClient() as http:
            return await OpenAILikeEmbedding(**options, async_http_client=http).aget_query_embedding(TEXTS[0])

    np.testing.assert_allclose(asyncio.run(ask()), expected[0], atol=1e-5)
    with httpx.Client() as http:
        model = OpenAILikeEmbedding(**options, http_client=http)
        np.testing.assert_allclose(model.get_text_embedding_batch(TEXTS), expected, atol=1e-5)
        np.testing.assert_allclose(model.get_query_embedding(TEXTS[0]), expected[0], atol=1e-5)
        names = run_snippet("OpenAILikeEmbedding", server[0], {"http": http})
        query = names["queries"].get_query_embedding(TEXTS[0])
        np.testing.assert_allclose(query, embedder.encode_query(TEXTS[0]), atol=1e-5)
        document = names["documents"].get_text_embedding(TEXTS[0])
        np.testing.assert_allclose(document, embedder.encode_document(TEXTS[0]), atol=1e-5)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_rerank_as_cohere_and_jina_shape_it(path, server):
    """The body that Cohere's client sends, and the fields that it and Jina's users read."""
    body = {"model": "tiny", "query": "add numbers", "documents": TEXTS, "top_n": 2}
    answer = httpx.post(server[0] + path, json=body, headers={"Authorization": "Bearer unused-key"}).json()
    assert len(answer["results"]) == 2
    assert {"index", "relevance_score"} <= answer["results"][0].keys()
    assert answer["results"][0]["relevance_score"] >= answer["results"][1]["relevance_score"]
    assert answer["meta"]["api_version"]["version"] == "2"
    assert answer["usage"]["total_tokens"] > 0
