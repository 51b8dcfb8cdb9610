"""How much of a request is looked at: bounds that hold before the work whose size they bound."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from udever.model.tokens import Tokenized, Truncation
from udever.serve.errors import ApiError

MAX_VALUES = 1 << 20
"""Numbers, texts and the like in one body: the parser keeps some tens of bytes for each."""

MAX_CONTAINERS = 1 << 14
"""Arrays and objects in one body: the parser keeps some hundreds of bytes for each."""

_STRING = re.compile(rb'"(?:[^"\\\\]|\\\\.)*+(?:"|\\Z)', re.DOTALL)
_MARGIN = 64
"""Tokens beyond those kept that are looked at, so that the place of the cut cannot change one that is."""

_CHARACTERS, _MOST_CHARACTERS, _LEAST_CHARACTERS = 8, 64, 16_384


def check_values(body: bytes) -> None:
    """Raise ApiError, 400, for JSON of more arrays, objects and values than a request can have use for."""
    if len(body) <= MAX_CONTAINERS or _within(body):
        return
    if not _within(_STRING.sub(b"", body)):  # brackets and commas in texts do not count
        raise ApiError(
            400,
            f"the body is no JSON that is read here: it holds more than {MAX_VALUES} values or {MAX_CONTAINERS} arrays and objects; send several",
            code="too_many_values",
        )


def _within(body: bytes) -> bool:
    return body.count(b",") < MAX_VALUES and body.count(b"[") + body.count(b"{") < MAX_CONTAINERS


def encode_beginnings(
    encode: Callable[[Sequence[str]], Tokenized], texts: Sequence[str], max_length: int
) -> Tokenized:
    """`encode(texts)`, but of a text that is far longer than `max_length` tokens no more than its beginning is read.

    As many characters are read as give the tokens that are kept, at most 64 for each; what lies behind counts as cut,
    and `num_tokens` of such a text is a lower bound.
    """
    size = max(_LEAST_CHARACTERS, _CHARACTERS * max_length)
    most = max(_LEAST_CHARACTERS, _MOST_CHARACTERS * max_length)
    tokenized = encode([text[:size] for text in texts])
    num_tokens, truncated = tokenized.truncation.num_tokens.copy(), tokenized.truncation.truncated.copy()
    ids = list(tokenized.ids)
    for row, text in enumerate(texts):
        read = size
        while read < len(text) and read < most and num_tokens[row] < max_length + _MARGIN:
            read *= 2
            again = encode([text[: min(read, most)]])
            ids[row], num_tokens[row] = again.ids[0], again.truncation.num_tokens[0]
            truncated[row] = again.truncation.truncated[0]
        truncated[row] |= min(read, most) < len(text)
    return Tokenized(ids, Truncation(num_tokens, np.asarray(truncated)), tokenized.skip)
