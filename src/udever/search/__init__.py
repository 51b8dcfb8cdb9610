"""Search: exact, by BM25 and both fused, over whatever is `Searchable`; stores; the index of a tree of files.

`index.Index` (ask), `update.update_index` (bring up to date), `tune.tune`; `in_memory` for embeddings files.
"""

from udever.search.embeddings_file import EmbeddingTable, TableWriter, read, write
from udever.search.exact import top_k, top_k_blocks
from udever.search.searchable import Hit, Searchable

__all__ = [
    "EmbeddingTable",
    "Hit",
    "Searchable",
    "TableWriter",
    "read",
    "top_k",
    "top_k_blocks",
    "write",
]
