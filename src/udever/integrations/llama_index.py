"""`Embedder` as LlamaIndex's `BaseEmbedding`."""

import asyncio
from typing import Any

from udever.embedder import Embedder
from udever.errors import needs

with needs("llama-index-core", "llama-index", "udever.integrations.llama_index"):
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr


class UdeverEmbedding(BaseEmbedding):
    """Queries and documents by one embedder, each with the prompt of its role.

    `model` is an embedder, or what `Embedder.load` takes. `instruction` tells the model what queries look for. Other
    keywords are the framework's (`embed_batch_size`, `callback_manager`). Raises as `Embedder.encode`.
    """

    instruction: str | None = None
    _embedder: Embedder = PrivateAttr()

    def __init__(self, model: Embedder | str = "seedling", *, instruction: str | None = None, **framework: Any) -> None:
        embedder = model if isinstance(model, Embedder) else Embedder.load(model)
        super().__init__(model_name=embedder.name, **framework)
        self._embedder, self.instruction = embedder, instruction

    @classmethod
    def class_name(cls) -> str:
        """What the framework stores it under."""
        return "UdeverEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.encode_query(query, instruction=self.instruction).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embedder.encode_document(text).tolist()

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.encode_document(texts).tolist()

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
