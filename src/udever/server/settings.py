"""What bounds a server: one record, every entry with its default."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from udever.errors import DataError

MAX_INPUTS = 2048
"""Texts in one request, as OpenAI's interface has it."""

Truncate = Literal["error", "end"]
"""What happens to a text that is too long."""

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds on what a client may ask for and on what the server holds at once.

    * `body_bytes`: size of one request body. `held_bytes`: size of all bodies that are being read or answered.
    * `request_tokens`: tokens of one request, after texts were cut. `queue_tokens`: tokens that wait or are computed.
    * `batch_tokens`: tokens of one forward pass (None: 4096, on a GPU 32768).
    * `timeout_s`: time from the end of the body to the answer.
    * `body_timeout_s`: time for the body to arrive. After the first five seconds it must also arrive at `rate_bytes_s`
      or faster, and a client must read its answer as fast.
    * `head_bytes`: size of the headers of a request. `head_timeout_s`: time for them to arrive.
    * `connections`: connections at once (None: 1000, or what the system's limit on open files leaves).
    * `shown_characters`: characters of the texts of one request whose tokens are listed.
    * `age_cap_s`: how much later than a text a request may arrive and still be served before it.
    * `truncate`: what happens to a text longer than the model takes, where the request does not say.
    * `similarity_texts`: texts of one similarity matrix. `map_points`: points of one map.
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
    truncate: Truncate = "error"
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
