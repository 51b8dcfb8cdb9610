"""Search: exact, by BM25 and both fused, over whatever is `Searchable`; stores; the index of a tree of files.

`index.Index` (ask), `update.update_index` (bring up to date), `tune.tune`; `in_memory` for embeddings files.
"""
