"""What a job does to texts, apart from everything about files: a text to its vector, or to something made of that."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
import pyarrow as pa

from udever.errors import RecipeError
from udever.search.embeddings_file import ROLES, Role

if TYPE_CHECKING:
    from udever.embedder import Embedder
    from udever.model.tokens import Tokenized

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


VectorType = Literal["float32", "float16"]
VECTOR_TYPES: tuple[str, ...] = get_args(VectorType)

_COUNTS = [("num_tokens", "<i4"), ("truncated", "?")]


@dataclass(frozen=True)
class EmbedStep:
    """Texts -> `embedding`, `num_tokens`, `truncated`.

    `dimensions` keeps the first ones of each vector, which then has length 1 again (where the model's contract
    scales at all). Raises RecipeError or TextError for a choice that does not exist.
    """

    embedder: "Embedder"
    role: Role = "document"
    dimensions: int | None = None
    vector_type: VectorType = "float32"
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise RecipeError(f"role is {self.role!r}; expected one of {', '.join(ROLES)}")
        if self.vector_type not in VECTOR_TYPES:
            raise RecipeError(f"vector_type is {self.vector_type!r}; expected one of {', '.join(VECTOR_TYPES)}")
        self.embedder.check_dimensions(self.dimensions)
        self.embedder.token_budget(self.batch_tokens)

    @property
    def num_gpus(self) -> int:
        """How many GPUs one such step takes."""
        return int(self.embedder.device.type == "cuda")

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        return self.dimensions or self.embedder.dimensions

    @property
    def columns(self) -> np.dtype:
        """Fields of a record."""
        kind = {"float32": "<f4", "float16": "<f2"}[self.vector_type]
        return np.dtype([("embedding", kind, (self.num_dimensions,)), *_COUNTS])

    @property
    def identity(self) -> dict[str, str]:
        """Vector space, side, size, and the precision the model computes in."""
        return {
            "udever.fingerprint": self.embedder.fingerprint,
            "udever.dimensions": str(self.num_dimensions),
            "udever.role": self.role,
            "udever.vector_type": self.vector_type,
            "udever.precision": self.embedder.precision,
            "udever.unit": str(self.embedder.contract.normalize).lower(),
        }

    def prepare(self, texts: list[str]) -> "Tokenized":
        """Tokenise."""
        tokenized = self.embedder.tokenize(texts, self.role)
        self.embedder.check_tokens(tokenized.ids)
        return tokenized

    def run(self, prepared: "Tokenized", tick: Tick) -> Output:
        """Embed, the longest first; a vector without a direction is the failure of its text alone."""
        import torch

        from udever.model.packing import unusable

        lengths = [len(sequence) for sequence in prepared.ids]
        out = torch.empty(len(lengths), self.num_dimensions)
        batches = self.embedder.encode_tokenized(prepared, dimensions=self.dimensions, batch_tokens=self.batch_tokens)
        for batch, vectors in batches:
            out[batch] = vectors.cpu()
            done = sum(lengths[i] for i in batch)
            tick(done / sum(lengths), done)
        rows = self._records(out.numpy(), prepared)
        reason = "its vector is not finite or has no length; load the model in float32"
        return Output(rows, self._without_direction(rows["embedding"]) | dict.fromkeys(unusable(out), reason))

    def _records(self, vectors: np.ndarray, prepared: "Tokenized") -> np.ndarray:
        rows = np.empty(len(vectors), self.columns)
        with np.errstate(over="ignore"):  # beyond float16's range: infinite, and found by the next check
            rows["embedding"] = vectors
        rows["num_tokens"] = [len(sequence) for sequence in prepared.ids]
        rows["truncated"] = prepared.truncation.truncated
        return rows

    def _without_direction(self, stored: np.ndarray) -> dict[int, str]:
        """What only cutting or the narrower type made unusable."""
        bad = ~np.isfinite(stored).all(1) | ~stored.any(1)
        reason = f"its vector has no length or no place in {self.vector_type} at {self.num_dimensions} dimensions"
        return {int(row): reason for row in np.flatnonzero(bad)}

    def derived(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """Nothing more."""
        return {}


@dataclass(frozen=True)
class VectorStep:
    """Texts -> what `function` makes of their vectors [texts, dimensions]: a structured array of type `made`.

    `names` is added to the identity; `show` turns the records into columns for people.
    """

    inner: EmbedStep
    made: np.dtype
    names: dict[str, str]
    function: Callable[[np.ndarray], np.ndarray]
    show: Callable[[np.ndarray], dict[str, pa.Array]]

    @property
    def columns(self) -> np.dtype:
        """The fields of `made`, and the counts."""
        return np.dtype([*self.made.descr, *_COUNTS])

    @property
    def identity(self) -> dict[str, str]:
        """The embedding's, and `names`."""
        return {**self.inner.identity, **self.names}

    def prepare(self, texts: list[str]) -> Any:
        """Tokenise."""
        return self.inner.prepare(texts)

    def run(self, prepared: Any, tick: Tick) -> Output:
        """Embed and apply `function` to the texts that have a vector."""
        output = self.inner.run(prepared, tick)
        rows = np.zeros(len(output.rows), self.columns)
        kept = np.setdiff1d(np.arange(len(rows)), list(output.failed))
        made = self.function(output.rows["embedding"][kept].astype(np.float32))
        for name in self.made.names or ():
            rows[name][kept] = made[name]
        for name, _ in _COUNTS:
            rows[name] = output.rows[name]
        return Output(rows, output.failed)

    def derived(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """What `show` makes."""
        return self.show(rows)
