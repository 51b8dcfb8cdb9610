"""Embeddings files as others may have written them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def write_embeddings(path, header, texts, vectors, *, sources=None, ids=None):
    """A file of one row a text under `header`."""
    path.parent.mkdir(exist_ok=True)
    vectors = np.ascontiguousarray(vectors, np.float32)
    columns = {
        "id": pa.array(ids or [f"id{row}" for row in range(len(texts))], pa.string()),
        "text": pa.array(texts, pa.string()),
        "source": pa.array(sources or [None] * len(texts), pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), header.dimensions),
        "num_tokens": pa.array([1] * len(texts), pa.int32()),
        "truncated": pa.array([False] * len(texts)),
    }
    told = {f"udever.{name}": str(getattr(header, name)) for name in ("fingerprint", "dimensions", "role")}
    pq.write_table(pa.table(columns).replace_schema_metadata(told), path)
