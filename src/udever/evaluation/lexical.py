"""What tables are read against: BM25, character n-grams, vectors that know nothing; and a model joined with BM25."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from udever.errors import needs
from udever.evaluation.mteb_meta import model_meta
from udever.evaluation.mteb_model import Floats, MtebModel, Role, document_blocks, query_texts
from udever.search.searchable import DEPTH, WORDS_DEPTH, fuse
from udever.search.words_weight import WORDS_WEIGHT

_BUCKETS = 4096
_SEED_BYTES = 8
_RANDOM_DIMENSIONS = 256

NAMES = ("bm25", "char-tfidf", "random")
"""What `lexical_model` knows."""


def lexical_model(name: str, revision: str) -> Any:
    """A baseline by one of `NAMES`, as an mteb model."""
    dimensions = {"bm25": None, "char-tfidf": _BUCKETS, "random": _RANDOM_DIMENSIONS}[name]
    meta = model_meta(name=f"baseline/{name}", revision=revision, framework="NumPy", dimensions=dimensions)
    if name == "bm25":
        return Bm25Search(meta)
    return CharTfidf(meta) if name == "char-tfidf" else MtebModel(_random_vectors, meta, remembered_bytes=0)


class Bm25Search:
    """mteb's SearchProtocol over BM25; it has no vectors, so it scores retrieval and reranking alone."""

    def __init__(self, meta: Any) -> None:
        self.mteb_model_meta = meta
        self._index: Any = None
        self._ids: list[str] = []

    def index(self, corpus: Any, **_: Any) -> None:
        """Index the documents, title and text."""
        from udever.search.bm25 import Bm25

        blocks = list(document_blocks(corpus, len(corpus) or 1))
        self._ids = [name for ids, _ in blocks for name in ids]
        self._index = Bm25([text for _, texts in blocks for text in texts])

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """The best documents of each query by BM25; with `top_ranked`, its candidates alone."""
        rows = {name: row for row, name in enumerate(self._ids)}
        names = [str(name) for name in queries["id"]]
        found: dict[str, dict[str, float]] = {}
        for block in self._index.scores(query_texts(queries, task_metadata)):
            for scores in block:
                name = names[len(found)]
                if top_ranked is not None:
                    found[name] = {document: float(scores[rows[document]]) for document in top_ranked[name]}
                else:
                    best = np.argsort(-scores, kind="stable")[:top_k]
                    # one that shares no word is not found: in the order of the corpus it would rank as luck has it
                    found[name] = {self._ids[row]: float(scores[row]) for row in best if scores[row] > 0}
        return found


class CharTfidf(MtebModel):
    """Character n-grams of two to four within words, hashed to 4096 numbers, weighted by how rare they are in a task.

    The rarity is that of the texts handed over ahead, or of the documents searched; without either all count alike.
    """

    def __init__(self, meta: Any) -> None:
        super().__init__(self._weighted, meta, remembered_bytes=0)
        self._rarity = np.ones(_BUCKETS, dtype=np.float32)

    def embed_ahead(self, texts: Sequence[str], task_metadata: Any, place: str) -> None:
        """Count in how many texts each n-gram stands."""
        counts = np.zeros(_BUCKETS)
        for start in range(0, len(texts), 4096):
            counts += np.asarray((_ngrams(texts[start : start + 4096]) > 0).sum(axis=0)).ravel()
        self._rarity = (np.log((1 + len(texts)) / (1 + counts)) + 1).astype(np.float32)

    def index(self, corpus: Any, **options: Any) -> None:
        """Take the documents, and the rarity of n-grams from them."""
        self.embed_ahead([text for _, texts in document_blocks(corpus, 4096) for text in texts], None, "")
        super().index(corpus, **options)

    def _weighted(self, texts: Sequence[str], role: Role, prompt: str | None) -> Floats:
        counts = _ngrams(texts).toarray().astype(np.float32)
        weights = np.log1p(counts) * self._rarity
        # a text without a word still needs a direction: all n-grams alike
        weights[~weights.any(axis=1)] = 1
        return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _ngrams(texts: Sequence[str]) -> Any:
    with needs("scikit-learn", "eval", "char-tfidf"):
        from sklearn.feature_extraction.text import HashingVectorizer
    hasher = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(2, 4),
        n_features=_BUCKETS,
        norm=None,  # pyright: ignore[reportArgumentType]
        alternate_sign=False,
    )
    return hasher.transform(texts)


def _random_vectors(texts: Sequence[str], role: Role, prompt: str | None) -> Floats:
    """A direction drawn from the text's hash: the same text gives the same vector, and no two texts are related."""
    seeds = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_SEED_BYTES).digest() for text in texts)
    return np.stack(
        [
            np.random.default_rng(int.from_bytes(seed)).standard_normal(_RANDOM_DIMENSIONS, dtype=np.float32)
            for seed in seeds
        ]
    )


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
