"""The classes for other frameworks: the page's programs as they stand, the frameworks' own tests, our vectors."""

import re
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
