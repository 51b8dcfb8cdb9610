"""Embeddings on disk, exact search over them, and the index of a tree of files.

The index itself is `index.query.Index` (ask), `index.update.update_index` (bring up to date), `index.tune.tune`.
"""

from udever.search.embeddings_file import EmbeddingTable, TableWriter, read, write
from udever.search.exact import top_k, top_k_blocks
from udever.search.hits import Hit, search_files

__all__ = [
    "EmbeddingTable",
    "Hit",
    "TableWriter",
    "read",
    "search_files",
    "top_k",
    "top_k_blocks",
    "write",
]
