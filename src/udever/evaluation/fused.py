"""A model and BM25 joined as `search` joins them, as an mteb model."""

from collections.abc import Mapping, Sequence
from typing import Any

from udever.evaluation.lexical import Bm25Search
from udever.evaluation.mteb_meta import model_meta
from udever.evaluation.mteb_model import MtebModel
from udever.search.fusion import DEPTH, WORDS_DEPTH, WORDS_WEIGHT, fuse


class FusedSearch:
    """mteb's SearchProtocol over the best texts by meaning and by words, as deep as a search looks."""

    def __init__(self, name: str, model: MtebModel, words_weight: float = WORDS_WEIGHT) -> None:
        self._words_weight = words_weight
        self._num_texts = 0
        meta = model.mteb_model_meta
        self.mteb_model_meta = model_meta(
            name=name,
            revision=f"{meta.revision}-{words_weight:g}",
            framework="NumPy",
            num_parameters=meta.n_parameters,
            dimensions=meta.embed_dim,
        )
        self._systems: tuple[Any, ...] = (model, Bm25Search(meta))

    def index(self, corpus: Any, **options: Any) -> None:
        """Index the documents for both."""
        self._num_texts = len(corpus)
        for system in self._systems:
            system.index(corpus, **options)

    def search(
        self, queries: Any, *, top_k: int, top_ranked: Mapping[str, Sequence[str]] | None = None, **options: Any
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query by the sum of both; with `top_ranked`, of its candidates alone."""
        by_meaning, by_words = (
            system.search(queries, top_k=depth, top_ranked=top_ranked, **options)
            for system, depth in zip(self._systems, (DEPTH, WORDS_DEPTH), strict=True)
        )
        return {
            name: fuse(_ranked(by_meaning[name]), _ranked(hits), self._num_texts, self._words_weight)
            for name, hits in by_words.items()
        }


def _ranked(hits: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(hits.items(), key=lambda item: -item[1])
