"""Embeddings on disk and exact search over them."""

from udever.index.files import Chunk, read_chunks
from udever.index.hits import Hit, search
from udever.index.search import top_k, top_k_blocks
from udever.index.table import EmbeddingTable, TableWriter, read, write

__all__ = [
    "Chunk",
    "EmbeddingTable",
    "Hit",
    "TableWriter",
    "read",
    "read_chunks",
    "search",
    "top_k",
    "top_k_blocks",
    "write",
]
