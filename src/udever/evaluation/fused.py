"""A model and BM25 joined as `search` joins them, as an mteb model."""

from collections.abc import Mapping, Sequence
from typing import Any

from udever.evaluation.lexical import Bm25Search
from udever.evaluation.mteb_meta import model_meta
from udever.evaluation.mteb_model import MtebModel
from udever.search.searchable import FUSED_DEPTH, fuse


class FusedSearch:
    """mteb's SearchProtocol over the best texts by meaning and by words, as deep as a search looks."""

    def __init__(self, name: str, model: MtebModel) -> None:
        meta = model.mteb_model_meta
        self.mteb_model_meta = model_meta(
            name=name,
            revision=meta.revision,
            framework="NumPy",
            num_parameters=meta.n_parameters,
            dimensions=meta.embed_dim,
        )
        self._systems: tuple[Any, ...] = (model, Bm25Search(meta))

    def index(self, corpus: Any, **options: Any) -> None:
        """Index the documents for both."""
        for system in self._systems:
            system.index(corpus, **options)

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **options: Any
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query by the sum of both; with `top_ranked`, of its candidates alone."""
        found = [
            system.search(queries, top_k=FUSED_DEPTH, top_ranked=top_ranked, **options) for system in self._systems
        ]
        return {name: fuse([list(hits[name]) for hits in found]) for name in found[0]}
