"""What `adapt` chooses by development questions: how far from the base to the trained weights, and what words weigh."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from udever.embedder import Embedder
from udever.errors import ModelError
from udever.evaluation.item_scores import reciprocal_ranks
from udever.evaluation.mteb_model import MtebModel, as_mteb
from udever.evaluation.statistics import paired_bootstrap
from udever.evaluation.tasks import FolderTask
from udever.model.merging import blend
from udever.progress import Advance
from udever.search.bm25 import Bm25
from udever.search.exact import rank, top_k
from udever.search.searchable import DEPTH, WORDS_DEPTH, fuse
from udever.search.words_weight import WORDS_WEIGHT
from udever.training import SEEDLING

SHARES = (0.5, 0.75)
"""How far from the base to the trained weights the candidates between them lie."""

WEIGHTS = (0.01, 0.02, 0.035, WORDS_WEIGHT, 0.07, 0.1, 0.15)
"""What words may weigh: over seventeen projects nothing, and more, were worse (dev/LOG.md)."""

CONFIDENCE = 0.8
"""Of the interval that must lie above 0: nine of ten times the best is then better than the base. Of one attempt."""

WORDS_WEIGHT_ADAPTED = 0.035
"""What words weigh beside adapted weights where there are too few questions to choose by: they know the words of the
files themselves (dev/LOG.md)."""

UNTESTED_SHARE = 0.75
"""How far to go from the seedling where there are too few questions to choose by: no worse than all the way where that
gains, and less lost where it loses (dev/LOG.md). Other bases may be no embedders before they are trained."""

Floats = NDArray[np.float64]
Ranking = list[tuple[str, float]]
_AMONG = 10


class Trial:
    """The questions of a task that `write_held_out` wrote, to be asked of one model after another."""

    def __init__(self, task: FolderTask) -> None:
        self._corpus, self._queries, qrels = (task.read("pairs", part) for part in ("corpus", "queries", "qrels"))
        self._roles = ("symmetric", "symmetric") if task.spec.symmetric else ("query", "document")
        self._right: dict[str, dict[str, int]] = {}
        for query, document in zip(qrels["query_id"], qrels["corpus_id"], strict=True):
            self._right.setdefault(query, {})[document] = 1
        scores = (row for block in Bm25(self._corpus["text"]).scores(self._queries["text"]) for row in block)
        self._by_words = [self._ranking(*rank(said[None], WORDS_DEPTH), least=0.0) for said in scores]

    @property
    def num_questions(self) -> int:
        """How many questions there are."""
        return len(self._by_words)

    def _ranking(self, scores: NDArray[np.float32], rows: NDArray[np.int64], least: float = -2.0) -> Ranking:
        found = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return [(self._corpus["id"][row], score) for row, score in found if score > least]

    def rankings(self, model: MtebModel) -> list[Ranking]:
        """The nearest texts of every question."""
        asking, answering = self._roles
        documents = model.embed(self._corpus["text"], answering, None, "development")  # pyright: ignore[reportArgumentType]
        questions = model.embed(self._queries["text"], asking, None, "development")  # pyright: ignore[reportArgumentType]
        scores, rows = top_k(questions, documents, DEPTH)
        return [self._ranking(scores[place : place + 1], rows[place : place + 1]) for place in range(len(rows))]

    def by_meaning(self, rankings: list[Ranking]) -> Floats:
        """1 / rank of the first right answer among ten to each question."""
        return self._reciprocal(map(dict, rankings))

    def joined(self, rankings: list[Ranking], words_weight: float) -> Floats:
        """The same where words are searched besides."""
        size = len(self._corpus["id"])
        pairs = zip(rankings, self._by_words, strict=True)
        return self._reciprocal(fuse(nearest, said, size, words_weight) for nearest, said in pairs)

    def _reciprocal(self, found: Iterable[Mapping[str, float]]) -> Floats:
        others = {
            query: {name: score for name, score in scores.items() if name != query}
            for query, scores in zip(self._queries["id"], found, strict=True)
        }
        return reciprocal_ranks(self._right, others, [_AMONG])[_AMONG]


@dataclass(frozen=True)
class Choice:
    """`share` of the way from the base to the weights of attempt `number`, and what words weigh beside base and that.

    `scores` are the MRR@10 of every share of every attempt that was tried, the base (of no attempt) first; empty where
    there was nothing to choose by.
    """

    share: float
    base_weight: float
    words_weight: float
    scores: Mapping[tuple[int, float], float]
    num_questions: int = 0
    number: int = 0

    def sentence(self, names: Sequence[str]) -> str:
        """The choice in words; `names` are those of the attempts."""
        if not self.scores:
            way = f"{self.share:g} of the way from base to the weights trained {names[0]}"
            return f"there were too few questions to choose by: {way}"
        several = len({number for number, share in self.scores if share}) > 1
        tried = ", ".join(
            f"{self._way(share, names[number] if several else '')} {score:.3f}"
            for (number, share), score in self.scores.items()
        )
        what = (
            f"{self.share:g} of the way from base to the weights trained {names[self.number]}"
            if self.share
            else "the base as it was, since nothing is better by more than chance explains"
        )
        return f"chosen by {self.num_questions:,} development questions: {what} (MRR@10: {tried})"

    @staticmethod
    def _way(share: float, name: str) -> str:
        return " ".join(filter(None, [f"{share:g} of the way", name])) if share else "base"


def choose(
    base: Embedder,
    trained: Iterable[Embedder],
    task: FolderTask | None,
    scored: MtebModel | None = None,
    advance: Advance = lambda: None,
) -> Choice:
    """The best by the questions of a task; the base where nothing beats it beyond chance.

    Of several that were `trained` the best has to be the surer of it. Without a task, the first as it is, or most of
    the way to it from the seedling. `base` is left as it was; of the trained models one is held at a time.
    `scored` is the base as it is asked later, which remembers the vectors. `advance` is called after each model.
    """
    if task is None:
        share = UNTESTED_SHARE if base.name == SEEDLING else 1.0
        return Choice(share, WORDS_WEIGHT, WORDS_WEIGHT_ADAPTED, {})
    trial = Trial(task)
    start = trial.rankings(scored or as_mteb(base, revision="1"))
    advance()
    rankings = {(0, 0.0): start}
    num_trained = 0
    for number, model in enumerate(trained):
        num_trained += 1
        for share, candidate in candidates(base, model):
            rankings[number, share] = trial.rankings(as_mteb(candidate, revision="1"))
            advance()
    found = {place: trial.by_meaning(ranking) for place, ranking in rankings.items()}
    best = max(found, key=lambda place: found[place].mean())
    gain = paired_bootstrap(found[best], found[0, 0.0], confidence=1 - (1 - CONFIDENCE) / num_trained)
    number, share = best if gain.low > 0 else (0, 0.0)
    scores = {place: float(values.mean()) for place, values in found.items()}
    base_weight, words_weight = (_weight(trial, ranking) for ranking in (start, rankings[number, share]))
    return Choice(share, base_weight, words_weight, scores, trial.num_questions, number)


def candidates(base: Embedder, trained: Embedder) -> Iterator[tuple[float, Embedder]]:
    """What lies between the base and the trained model, and that, each good until the next; that alone if unlike."""
    state: dict[str, Tensor] = base.backbone.state_dict()  # pyright: ignore[reportAttributeAccessIssue]
    start = {name: tensor.clone() for name, tensor in state.items()}
    try:
        for share in SHARES:
            move(base, trained, share)
            yield share, base
            _put_back(state, start)
    except ModelError:
        pass
    finally:
        _put_back(state, start)
        base.weights_changed()
    yield 1.0, trained


def move(base: Embedder, trained: Embedder, share: float) -> None:
    """Move a base in place by `share` of the way to the trained weights. Raises ModelError for unlike models."""
    states = [embedder.backbone.state_dict() for embedder in (base, trained)]  # pyright: ignore[reportAttributeAccessIssue]
    blend(states[0], states[1], share, "linear")
    base.weights_changed()


@torch.no_grad()
def _put_back(state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
    for name, tensor in start.items():
        state[name].copy_(tensor)


def _weight(trial: Trial, rankings: list[Ranking]) -> float:
    """The weight of the highest MRR@10, averaged with those of its neighbours; of equal ones the smallest.

    A few questions make single weights jump; what is chosen has good ones on both sides.
    """
    scores = np.array([trial.joined(rankings, weight).mean() for weight in WEIGHTS])
    smooth = np.convolve(np.pad(scores, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return WEIGHTS[int(smooth.argmax())]
