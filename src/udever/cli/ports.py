"""Where rooms that never import one another meet: an index and a classifier as the server takes them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udever.embedder import Embedder
    from udever.serve import Classifier, IndexPort


def index_port(embedder: "Embedder", path: Path) -> "IndexPort":
    """The embeddings file at `path`, searched exactly. Raises DataError or ContractError where it does not fit."""
    raise NotImplementedError


def classifier_port(embedder: "Embedder", folder: Path) -> "Classifier":
    """The classifier in `folder`. Raises DataError or ContractError where it does not fit the model."""
    raise NotImplementedError
