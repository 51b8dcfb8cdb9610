"""`Embedder` as Haystack's components: one for documents before they are stored, one for the text of a query."""

from dataclasses import replace
from typing import Any

from udever.embedder import Embedder
from udever.errors import TextError, needs

with needs("haystack-ai", "haystack", "udever.integrations.haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict


class _Component:
    """What both components are made of: the model's name, loaded when the pipeline warms up or first runs."""

    def __init__(self, model: str = "seedling") -> None:
        self.model = model
        self._embedder: Embedder | None = None

    def warm_up(self) -> None:
        """Load the model, once."""
        if self._embedder is None:
            self._embedder = Embedder.load(self.model)

    @property
    def embedder(self) -> Embedder:
        """The model, loaded where it was not."""
        self.warm_up()
        assert self._embedder is not None
        return self._embedder


@component
class UdeverTextEmbedder(_Component):
    """The vector of a query. `model` is what `Embedder.load` takes; `instruction` says what queries look for."""

    def __init__(self, model: str = "seedling", instruction: str | None = None) -> None:
        super().__init__(model)
        self.instruction = instruction

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, list[float]]:
        """`embedding`: the vector of `text`. Raises as `Embedder.encode`."""
        return {"embedding": self.embedder.encode_query(text, instruction=self.instruction).tolist()}

    def to_dict(self) -> dict[str, Any]:
        """The component for a pipeline's file."""
        return default_to_dict(self, model=self.model, instruction=self.instruction)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "UdeverTextEmbedder":
        """The component out of a pipeline's file."""
        return default_from_dict(cls, data)


@component
class UdeverDocumentEmbedder(_Component):
    """Documents with their vectors. `model` is what `Embedder.load` takes."""

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """`documents`: copies with `embedding` set. Raises TextError, naming the document, where one has no text."""
        texts = []
        for document in documents:
            if document.content is None:
                raise TextError(f"document {document.id} has no content; leave it out before embedding")
            texts.append(document.content)
        vectors = self.embedder.encode_document(texts).tolist() if texts else []
        return {"documents": [replace(d, embedding=vector) for d, vector in zip(documents, vectors, strict=True)]}

    def to_dict(self) -> dict[str, Any]:
        """The component for a pipeline's file."""
        return default_to_dict(self, model=self.model)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "UdeverDocumentEmbedder":
        """The component out of a pipeline's file."""
        return default_from_dict(cls, data)
