"""`Embedder` as Haystack's components: one for documents before they are stored, one for the text of a query."""

from dataclasses import replace
from functools import cached_property
from typing import Any

from udever.embedder import Embedder
from udever.errors import TextError, needs

with needs("haystack-ai", "haystack", "udever.integrations.haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict


class _Model:
    """A model's name; the model is loaded when the pipeline warms up or first runs. (A component may not inherit.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded once."""
        return Embedder.load(self.name)


@component
class UdeverTextEmbedder:
    """The vector of a query. `model` is what `Embedder.load` takes; `instruction` says what queries look for."""

    def __init__(self, model: str = "seedling", instruction: str | None = None) -> None:
        self.model = _Model(model)
        self.instruction = instruction

    def warm_up(self) -> None:
        """Load the model, once."""
        self.model.embedder  # noqa: B018

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """`embedding`: the vector of `text`. Raises as `Embedder.encode`."""
        return {"embedding": self.model.embedder.encode_query(text, instruction=self.instruction).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """The component for a pipeline's file."""
        return default_to_dict(self, model=self.model.name, instruction=self.instruction)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "UdeverTextEmbedder":
        """The component out of a pipeline's file."""
        return default_from_dict(cls, data)


@component
class UdeverDocumentEmbedder:
    """Documents with their vectors. `model` is what `Embedder.load` takes."""

    def __init__(self, model: str = "seedling") -> None:
        self.model = _Model(model)

    def warm_up(self) -> None:
        """Load the model, once."""
        self.model.embedder  # noqa: B018

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """`documents`: copies with `embedding` set. Raises TextError, naming the document, where one has no text."""
        texts = []
        for document in documents:
            if document.content is None:
                raise TextError(f"document {document.id} has no content; leave it out before embedding")
            texts.append(document.content)
        vectors = self.model.embedder.encode_document(texts).tolist() if texts else []
        return {"documents": [replace(d, embedding=vector) for d, vector in zip(documents, vectors, strict=True)]}

    def to_dict(self) -> dict[str, Any]:
        """The component for a pipeline's file."""
        return default_to_dict(self, model=self.model.name)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "UdeverDocumentEmbedder":
        """The component out of a pipeline's file."""
        return default_from_dict(cls, data)
