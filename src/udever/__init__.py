"""udever: any decoder-only language model as a universal embedder, for natural and programming languages.

from udever import Embedder

embedder = Embedder.load("path/to/model")
queries = embedder.encode_query(["how to read a file line by line"])
documents = embedder.encode_document(["with open(path) as handle: ..."])
embedder.similarity(queries, documents)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udever import errors
    from udever.adaptation import AdaptSettings, adapt
    from udever.classify import Filter
    from udever.corpus.vectors import read_vectors
    from udever.embedder import Embedder, TruncationWarning
    from udever.evaluation.evaluate import evaluate
    from udever.search.index import Index
    from udever.search.searchable import Filters
    from udever.server.run import serve
    from udever.training.recipe import Recipe
    from udever.training.run import train

__version__ = "0.1.0"

__all__ = [
    "AdaptSettings",
    "Embedder",
    "Filter",
    "Filters",
    "Index",
    "Recipe",
    "TruncationWarning",
    "adapt",
    "errors",
    "evaluate",
    "read_vectors",
    "serve",
    "train",
]

_MODULES = {
    "AdaptSettings": "udever.adaptation",
    "Embedder": "udever.embedder",
    "Filter": "udever.classify",
    "Filters": "udever.search.searchable",
    "Index": "udever.search.index",
    "Recipe": "udever.training.recipe",
    "TruncationWarning": "udever.embedder",
    "adapt": "udever.adaptation",
    "evaluate": "udever.evaluation.evaluate",
    "read_vectors": "udever.corpus.vectors",
    "serve": "udever.server.run",
    "train": "udever.training.run",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import udever` loads no torch."""
    if name == "errors":
        return import_module("udever.errors")
    if name not in _MODULES:
        from udever.nearest import nearest

        near = nearest(name, __all__)
        hint = "; write Embedder.load(name)" if name == "SentenceTransformer" else f"; did you mean {near!r}?"
        raise AttributeError(f"module 'udever' has no attribute {name!r}" + (hint if near or "load" in hint else ""))
    from udever.garbage import uncollected

    with uncollected():
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
