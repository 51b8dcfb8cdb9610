"""`Embedder` as LangChain's `Embeddings`."""

from udever.embedder import Embedder
from udever.errors import needs

with needs("langchain-core", "langchain", "udever.integrations.langchain"):
    from langchain_core.embeddings import Embeddings


class UdeverEmbeddings(Embeddings):
    """Queries and documents by one embedder, each with the prompt of its role.

    `model` is an embedder, or what `Embedder.load` takes. `instruction` tells the model what queries look for.
    Raises as `Embedder.encode`.
    """

    def __init__(self, model: Embedder | str = "seedling", *, instruction: str | None = None) -> None:
        self.embedder = model if isinstance(model, Embedder) else Embedder.load(model)
        self.instruction = instruction

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, in order."""
        return self.embedder.encode_document(texts).tolist() if texts else []

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self.embedder.encode_query(text, instruction=self.instruction).tolist()
