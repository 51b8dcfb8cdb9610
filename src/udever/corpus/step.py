"""What a job does to texts, apart from everything about files: the one thing that embedding and labelling differ in."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

FORMAT = 2
"""Counts up when shards are written otherwise; shards of another format are not taken over."""

Tick = Callable[[float, int], None]
"""`tick(share, num_tokens)`: this share of the texts in hand and so many tokens more are done."""


@dataclass(frozen=True, slots=True)
class Output:
    """A record for every text, in order; `failed` says why a text has none (its record is then not used)."""

    rows: np.ndarray
    failed: dict[int, str] = field(default_factory=dict)


class Step(Protocol):
    """Texts -> records of fixed width: `run(prepare(texts))`. The result of a text depends on that text alone.

    `prepare` (tokenising) runs in another thread than `run` (the model), on the texts of the next window.
    """

    @property
    def columns(self) -> np.dtype:
        """A structured type; among its fields are `num_tokens` (int32) and `truncated` (bool)."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """All that the result depends on besides the text, as Parquet metadata (`udever.fingerprint`, ...)."""
        ...

    def prepare(self, texts: list[str]) -> Any:
        """What can be done to `texts` without the model."""
        ...

    def run(self, prepared: Any, tick: Tick) -> Output:
        """The records of the texts that were prepared."""
        ...

    def derived(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """Columns for people that follow from the records, such as names of labels."""
        ...


def digest_of(step: Step) -> bytes:
    """16 bytes that name what a step does: identity, columns and the format of the shards."""
    told = json.dumps([FORMAT, sorted(step.identity.items()), repr(step.columns.descr)])
    return hashlib.blake2b(told.encode(), digest_size=16).digest()
