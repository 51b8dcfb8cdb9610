"""Answers as bytes, without a Python object per number; base64 of arrays, and codes for words that repeat."""

import asyncio
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.search.points import MapPoints

_BLOCK_NUMBERS = 1 << 16
"""Numbers written between two looks at the event loop: a few milliseconds as decimal text."""


def dumps(value: Any) -> bytes:
    """JSON; numpy arrays become arrays of numbers."""
    import orjson  # a map file is written without it

    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def base64_of(array: NDArray[Any]) -> str:
    """The array's bytes, little-endian, in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return binascii.b2a_base64(little.data, newline=False).decode("ascii")


def coded(values: Sequence[str]) -> dict[str, Any]:
    """A column of few distinct values: their names, and for each row which one, as base64 of int32."""
    names, codes = np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)
    return {"names": names.tolist(), "codes": base64_of(codes.astype(np.int32))}


def packed_map(points: MapPoints, num_rows: int) -> dict[str, Any]:
    """The points as `/v1/map` answers and as a map file holds them, out of `num_rows` rows in all."""

    def side(xy: NDArray[np.float32] | None, axis: int) -> str | None:
        return None if xy is None else base64_of(np.asarray(xy, dtype=np.float32)[:, axis])

    return {
        "num_points": len(points.xy),
        "num_rows": num_rows,
        "x": side(points.xy, 0),
        "y": side(points.xy, 1),
        "before_x": side(points.before, 0),
        "before_y": side(points.before, 1),
        "models": list(points.models),
        "ids": list(points.ids),
        "columns": {name: coded(values) for name, values in points.columns.items()},
        "links": base64_of(np.asarray(points.links, dtype=np.int32)),
    }


async def embeddings(
    vectors: NDArray[np.float32], truncated: Sequence[bool], *, model: str, num_tokens: int, base64: bool
) -> bytes:
    """OpenAI's list of embeddings; large ones leave the event loop free in between."""
    rows_per_block = max(1, _BLOCK_NUMBERS // vectors.shape[1])
    blocks: list[bytes] = []
    for first in range(0, len(vectors), rows_per_block):
        if first:
            await asyncio.sleep(0)
        block = vectors[first : first + rows_per_block]
        data = [
            {
                "object": "embedding",
                "index": first + row,
                "embedding": base64_of(vector) if base64 else vector,
                "truncated": truncated[first + row],
            }
            for row, vector in enumerate(block)
        ]
        blocks.append(dumps(data)[1:-1])
    tail = dumps({"model": model, "usage": usage(num_tokens)})
    return b'{"object":"list","data":[' + b",".join(blocks) + b"]," + tail[1:]


def usage(num_tokens: int) -> dict[str, int]:
    """OpenAI's count of tokens, as the model read them: markers and prompt included, what was cut not."""
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
