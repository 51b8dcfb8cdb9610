"""Answers as bytes, without a Python object per number."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from udever.serve.packed import base64_of

_BLOCK_NUMBERS = 1 << 16
"""Numbers written between two looks at the event loop: a few milliseconds as decimal text."""


def dumps(value: Any) -> bytes:
    """JSON; numpy arrays become arrays of numbers."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


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
