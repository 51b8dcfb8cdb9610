"""The classes for other frameworks: the page's programs as they stand, the frameworks' own tests, our vectors."""

import asyncio
import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from udever import Embedder
from udever.errors import TextError
from udever.integrations.langchain import UdeverEmbeddings

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
TEXTS = ["def add(a, b): return a + b", "größer 中文"]


@pytest.fixture(scope="module")
def embedder(decoders):
    return Embedder.load(decoders("llama"), dtype="float32", instruction="Task: {instruction}\n")


class TestLangChainUnit(EmbeddingsUnitTests):
    """The framework's own tests of construction."""

    @property
    def embeddings_class(self):
        """What is tested."""
        return UdeverEmbeddings

    @property
    def embedding_model_params(self):
        """The bundled model."""
        return {"model": "seedling"}


class TestLangChainIntegration(EmbeddingsIntegrationTests):
    """The framework's own tests of vectors, synchronous and not."""

    @property
    def embeddings_class(self):
        """What is tested."""
        return UdeverEmbeddings

    @property
    def embedding_model_params(self):
        """The bundled model."""
        return {"model": "seedling"}


def programs():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)


@pytest.mark.parametrize("number", range(len(programs())))
def test_a_program_of_the_page_finds_the_function(number, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the frameworks' own, at import
        exec(compile(programs()[number], str(PAGE), "exec"), {})
    assert capsys.readouterr().out.strip() == "def add(a, b): return a + b"


def test_langchain_gives_the_vectors_of_both_roles(embedder):
    made = UdeverEmbeddings(embedder, instruction="Find code")
    np.testing.assert_allclose(made.embed_documents(TEXTS), embedder.encode_document(TEXTS), atol=1e-6)
    expected = embedder.encode_query(TEXTS[0], instruction="Find code")
    np.testing.assert_allclose(made.embed_query(TEXTS[0]), expected, atol=1e-6)
    assert made.embed_documents([]) == []


def test_llama_index_gives_the_vectors_of_both_roles(embedder):
    from udever.integrations.llama_index import UdeverEmbedding

    made = UdeverEmbedding(embedder, instruction="Find code", embed_batch_size=1)
    np.testing.assert_allclose(made.get_text_embedding_batch(TEXTS), embedder.encode_document(TEXTS), atol=1e-6)
    expected = embedder.encode_query(TEXTS[0], instruction="Find code")
    np.testing.assert_allclose(made.get_query_embedding(TEXTS[0]), expected, atol=1e-6)
    assert made.to_dict()["class_name"] == "UdeverEmbedding"


class TestLlamaIndex:
    """Everything through which the framework asks an embedder; it has no tests of its own to inherit."""

    @pytest.fixture
    def made(self, embedder):
        """What is tested."""
        from udever.integrations.llama_index import UdeverEmbedding

        return UdeverEmbedding(embedder)

    def test_every_way_to_ask_gives_the_same_vectors(self, made, embedder):
        from llama_index.core.ingestion import IngestionPipeline
        from llama_index.core.schema import TextNode

        async def awaited():
            return [await made.aget_text_embedding(text) for text in TEXTS]

        nodes = [TextNode(text=text) for text in TEXTS]
        found = [
            [made.get_text_embedding(text) for text in TEXTS],
            made.get_text_embedding_batch(TEXTS),
            asyncio.run(awaited()),
            asyncio.run(made.aget_text_embedding_batch(TEXTS)),
            [node.embedding for node in made(nodes)],
            [node.embedding for node in asyncio.run(made.acall(nodes))],
            [node.embedding for node in IngestionPipeline(transformations=[made]).run(nodes=nodes)],
        ]
        for vectors in found:
            np.testing.assert_allclose(vectors, embedder.encode_document(TEXTS), atol=1e-6)
        asked = [made.get_query_embedding(TEXTS[0]), asyncio.run(made.aget_query_embedding(TEXTS[0]))]
        np.testing.assert_allclose(asked, [embedder.encode_query(TEXTS[0])] * 2, atol=1e-6)
        mean = made.get_agg_embedding_from_queries(TEXTS)
        np.testing.assert_allclose(mean, embedder.encode_query(TEXTS).mean(0), atol=1e-6)

    def test_awaited_texts_are_one_batch_and_hold_up_no_loop(self, made, embedder, monkeypatch):
        seen = []
        encode = embedder.encode_document

        def watched(texts):
            seen.append((texts, threading.current_thread() is threading.main_thread()))
            return encode(texts)

        monkeypatch.setattr(embedder, "encode_document", watched)
        asyncio.run(made.aget_text_embedding_batch(TEXTS))
        assert seen == [(TEXTS, False)]

    def test_nothing_to_embed_is_no_error(self, made):
        assert made.get_text_embedding_batch([]) == []
        assert asyncio.run(made.aget_text_embedding_batch([])) == []


class TestHaystack:
    """What a component for pipelines keeps to; the framework has no tests of embedders to inherit."""

    @pytest.fixture(params=["UdeverTextEmbedder", "UdeverDocumentEmbedder"])
    def made(self, request, decoders):
        """Each component."""
        from udever.integrations import haystack

        return getattr(haystack, request.param)(str(decoders("llama")))

    def test_it_goes_through_its_dictionary(self, made):
        again = type(made).from_dict(made.to_dict())
        assert again.to_dict() == made.to_dict()
        assert made.to_dict()["type"] == f"udever.integrations.haystack.{type(made).__name__}"

    def test_it_loads_its_model_when_warmed_up_and_once(self, made):
        assert "embedder" not in vars(made.model)
        made.warm_up()
        first = made.model.embedder
        made.warm_up()
        assert made.model.embedder is first

    def test_awaited_pipelines_and_stores_take_it(self, decoders):
        from haystack import Document, Pipeline
        from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
        from haystack.document_stores.in_memory import InMemoryDocumentStore

        from udever.integrations.haystack import UdeverDocumentEmbedder, UdeverTextEmbedder

        folder, store = str(decoders("llama")), InMemoryDocumentStore()
        embed = UdeverDocumentEmbedder(folder)
        assert embed.run([]) == {"documents": []}
        store.write_documents(embed.run([Document(content=text) for text in TEXTS])["documents"])
        pipeline = Pipeline()
        pipeline.add_component("query", UdeverTextEmbedder(folder))
        pipeline.add_component("find", InMemoryEmbeddingRetriever(store, top_k=2))
        pipeline.connect("query.embedding", "find.query_embedding")
        found = asyncio.run(pipeline.run_async({"query": {"text": TEXTS[0]}}))
        assert {document.content for document in found["find"]["documents"]} == set(TEXTS)


def test_haystack_gives_the_vectors_of_both_roles_and_goes_through_a_file(embedder, decoders):
    from haystack import Document, Pipeline

    from udever.integrations.haystack import UdeverDocumentEmbedder, UdeverTextEmbedder

    folder = str(decoders("llama"))
    pipeline = Pipeline()
    pipeline.add_component("query", UdeverTextEmbedder(folder, instruction="Find code"))
    pipeline.add_component("documents", UdeverDocumentEmbedder(folder))
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["udever.integrations.haystack"])
    documents = [Document(content=text, meta={"n": n}) for n, text in enumerate(TEXTS)]
    found = again.run({"query": {"text": TEXTS[0]}, "documents": {"documents": documents}})
    plain = Embedder.load(folder)
    np.testing.assert_allclose(
        found["query"]["embedding"], plain.encode_query(TEXTS[0], instruction="Find code"), atol=1e-6
    )
    kept = found["documents"]["documents"]
    np.testing.assert_allclose([d.embedding for d in kept], plain.encode_document(TEXTS), atol=1e-6)
    assert [d.meta["n"] for d in kept] == [0, 1]
    assert documents[0].embedding is None
    with pytest.raises(TextError, match=r"document .* has no content"):
        UdeverDocumentEmbedder(folder).run([Document(content=None)])
