"""What enters the server from a room beside it: a classifier on embeddings."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError
from udever.model.contract import RoleName
from udever.nearest import suggestion


@dataclass(frozen=True)
class Classifier:
    """A head on embeddings: `predict(embeddings [n, dimensions]) -> probabilities [n, classes]`.

    `decide(probabilities)` says which classes a text has, bool [n, classes]. In a moderation the classes in
    `harmless` are never flagged. `role` and `dimensions` are those of the embeddings it was fitted on. Raises DataError
    where it lacks a class that is to be harmless.
    """

    predict: Callable[[NDArray[np.float32]], NDArray[np.floating]]
    decide: Callable[[NDArray[np.floating]], NDArray[np.bool_]]
    classes: tuple[str, ...]
    name: str = "classifier"
    harmless: Collection[str] = ()
    role: RoleName = "symmetric"
    dimensions: int | None = None

    def __post_init__(self) -> None:
        unknown = [label for label in self.harmless if label not in self.classes]
        if unknown:
            hint = suggestion(unknown[0], self.classes, "the filter's labels are")
            raise DataError(f"harmless is {unknown[0]!r}; {hint}")
