"""What bounds a server: one record, every entry with its default."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from udever.errors import DataError

MAX_INPUTS = 2048
"""Texts in one request, as OpenAI's interface has it."""

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds on what a client may ask for and on what the server holds at once.

    `body_bytes` one request body; `held_bytes` all bodies being read or answered; `request_tokens` the
    tokens of one request after the cut; `queue_tokens` the tokens waiting or running; `batch_tokens` one
    forward pass (None: 4096, on a GPU 32768); `timeout_s` from the body's end to the answer;
    `body_timeout_s` for the body to arrive, which besides must bring `rate_bytes_s` after the first five
    seconds, as a client must that reads an answer; `head_bytes` the headers of a request, `head_timeout_s` for them
    to arrive; `connections` how many there may be at once (None: 1000, or what the system's limit on open files
    leaves); `shown_characters` the texts whose tokens are listed in one
    answer; `age_cap_s` how much later a request may come and still be
    served before a text; `truncate` what happens to a text longer than the model takes where the request
    does not say.
    """

    body_bytes: int = 16 * _MEBIBYTE
    held_bytes: int = 256 * _MEBIBYTE
    request_tokens: int = 262_144
    queue_tokens: int = 524_288
    batch_tokens: int | None = None
    timeout_s: float = 120.0
    body_timeout_s: float = 30.0
    rate_bytes_s: float = 1024.0
    head_bytes: int = 65_536
    head_timeout_s: float = 10.0
    connections: int | None = None
    shown_characters: int = 65_536
    age_cap_s: float = 2.0
    truncate: Literal["error", "end"] = "error"
    similarity_texts: int = 64
    map_points: int = 50_000


def limits(**given: Any) -> Limits:
    """Limits with what is not None of `given` in place. Raises DataError for a value that makes no sense."""
    chosen = {name: value for name, value in given.items() if value is not None}
    assert chosen.keys() <= {field.name for field in fields(Limits)}
    bounds = Limits(**chosen)
    if bounds.truncate not in ("error", "end"):
        raise DataError(f"truncate is {bounds.truncate!r}; expected 'error' or 'end'")
    for field in fields(Limits):
        value = getattr(bounds, field.name)
        if value is not None and field.name != "truncate" and not value > 0:
            raise DataError(f"{field.name} is {value}; expected more than 0")
    return bounds
