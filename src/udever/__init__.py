"""udever: any decoder-only language model as a universal embedder, for natural and programming languages.

from udever import Embedder

embedder = Embedder.load("path/to/model")
queries = embedder.encode_query(["how to read a file line by line"])
documents = embedder.encode_document(["with open(path) as handle: ..."])
embedder.similarity(queries, documents)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udever.adaptation import AdaptSettings, adapt
    from udever.corpus.vectors import read_vectors
    from udever.embedder import Embedder, TruncationWarning
    from udever.errors import (
        ContractError,
        DataError,
        ModelError,
        OutputError,
        RecipeError,
        TextError,
        UdeverError,
    )
    from udever.training import Recipe, train

__version__ = "0.1.0"

__all__ = [
    "AdaptSettings",
    "ContractError",
    "DataError",
    "Embedder",
    "ModelError",
    "OutputError",
    "Recipe",
    "RecipeError",
    "TextError",
    "TruncationWarning",
    "UdeverError",
    "adapt",
    "read_vectors",
    "train",
]

_ROOMS = {
    "AdaptSettings": "udever.adaptation",
    "Embedder": "udever.embedder",
    "Recipe": "udever.training",
    "TruncationWarning": "udever.embedder",
    "adapt": "udever.adaptation",
    "read_vectors": "udever.corpus.vectors",
    "train": "udever.training",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import udever` loads no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'udever' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ROOMS.get(name, "udever.errors")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
