"""What enters the server from a room beside it: a classifier on embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.model.contract import RoleName
from udever.nearest import suggestion


class Filter(Protocol):
    """A head on embeddings with its labels, as `udever classify fit` makes it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes."""
        ...

    @property
    def role(self) -> str:
        """The role that its embeddings were made in."""
        ...

    @property
    def dimensions(self) -> int:
        """The width of its embeddings."""
        ...

    def predict(self, embeddings: NDArray[np.float32]) -> NDArray[np.floating]:
        """Probabilities [n, labels]."""
        ...

    def decide(self, predicted: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The labels that each text has: [n, labels]."""
        ...


@dataclass(frozen=True)
class Classifier:
    """A head on embeddings: `predict(embeddings [n, dimensions]) -> probabilities [n, classes]`.

    `decide(probabilities)` says which classes a text has, bool [n, classes]. In a moderation the classes in
    `harmless` are never flagged. `role` and `dimensions` are those of the embeddings it was fitted on.
    """

    predict: Callable[[NDArray[np.float32]], NDArray[np.floating]]
    decide: Callable[[NDArray[np.floating]], NDArray[np.bool_]]
    classes: tuple[str, ...]
    name: str = "classifier"
    harmless: frozenset[str] = frozenset()
    role: RoleName = "symmetric"
    dimensions: int | None = None

    @classmethod
    def of(cls, filter_: Filter, name: str, harmless: Sequence[str] = ()) -> Self:
        """`filter_` under a name. Raises DataError where it lacks a label that is to be harmless."""
        unknown = [label for label in harmless if label not in filter_.labels]
        if unknown:
            hint = suggestion(unknown[0], filter_.labels, "the filter's labels are")
            raise DataError(f"harmless is {unknown[0]!r}; {hint}")
        return cls(
            predict=filter_.predict,
            decide=filter_.decide,
            classes=filter_.labels,
            name=name,
            harmless=frozenset(harmless),
            role=filter_.role,  # pyright: ignore[reportArgumentType] # one of the three, as it was fitted
            dimensions=filter_.dimensions,
        )
