"""How much of a request is looked at: bounds that hold before the work whose size they bound."""

from collections.abc import Callable, Sequence

import numpy as np

from udever.model.tokens import Tokenized, Truncation
from udever.server.errors import ApiError

MAX_VALUES = 1 << 20
"""Numbers, texts and the like in one body: the parser keeps some tens of bytes for each."""

MAX_CONTAINERS = 1 << 14
"""Arrays and objects in one body: the parser keeps some hundreds of bytes for each."""

_BLOCK = 1 << 20
_MARGIN = 64
"""Tokens beyond those kept that are looked at, so that the place of the cut cannot change one that is."""

_CHARACTERS, _MOST_CHARACTERS, _LEAST_CHARACTERS = 8, 64, 16_384


def check_values(body: bytes) -> None:
    """Raise ApiError, 400, for JSON of more arrays, objects and values than a request can have use for."""
    if len(body) <= MAX_CONTAINERS:
        return
    if _few(body.count(b","), body.count(b"[") + body.count(b"{")):
        return
    if not _few(*_outside_of_texts(body)):
        raise ApiError(
            400,
            f"the body is no JSON that is read here: it holds more than {MAX_VALUES} values "
            f"or {MAX_CONTAINERS} arrays and objects; send several",
            code="too_many_values",
        )


def _few(num_commas: int, num_containers: int) -> bool:
    return num_commas < MAX_VALUES and num_containers < MAX_CONTAINERS


def _outside_of_texts(body: bytes) -> tuple[int, int]:
    """How many commas, and how many opening brackets, stand between strings."""
    bare = np.frombuffer(body.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    num_commas = num_containers = num_quotes = 0
    for start in range(0, len(bare), _BLOCK):
        block = bare[start : start + _BLOCK]
        quotes = np.cumsum(block == ord('"'))
        between = block[(quotes + num_quotes) % 2 == 0]
        num_quotes += int(quotes[-1])
        num_commas += int(np.count_nonzero(between == ord(",")))
        num_containers += int(np.count_nonzero((between == ord("[")) | (between == ord("{"))))
    return num_commas, num_containers


def encode_beginnings(encode: Callable[[Sequence[str]], Tokenized], texts: Sequence[str], max_length: int) -> Tokenized:
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
