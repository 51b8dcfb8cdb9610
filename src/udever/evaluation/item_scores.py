"""Catching, while mteb evaluates, the values of single items that it averages away."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.evaluation.statistics import Items, Statistic, statistic

Floats = NDArray[np.float64]

_QUERY_METRICS = {
    "ndcg_at_": "ndcg_cut_",
    "map_at_": "map_cut_",
    "recall_at_": "recall_",
    "precision_at_": "P_",
    "hit_rate_at_": "success_",
    "mrr_at_": "mrr_",
}
_SIMILARITIES = {
    "similarity": ("similarity_scores", 1),
    "cosine": ("cosine_scores", 1),
    "manhattan": ("manhattan_distances", -1),
    "euclidean": ("euclidean_distances", -1),
    "dot": ("dot_scores", 1),
}
_AGREE = 1e-5
"""mteb rounds its retrieval scores to five places."""

NOWHERE = Path("predictions")
"""Given to mteb as the folder for predictions: it makes mteb hand them over, and nothing is written."""


def reciprocal_ranks(
    qrels: Mapping[str, Mapping[str, int]], results: Mapping[str, Mapping[str, float]], depths: Sequence[int]
) -> dict[int, Floats]:
    """1 / rank of each query's first relevant document among the best `depth`, else 0, by depth: of mteb's MRR.

    Queries are in the order of `results`, which has the scores of their documents; of equal ones the higher id is
    first.
    """
    from mteb._evaluators.retrieval_metrics import mrr

    found = mrr(qrels, results, depths)  # pyright: ignore[reportArgumentType]
    return {depth: np.array(found[f"MRR@{depth}"]) for depth in depths}


class Collector:
    """Listens to one mteb task. `items(split, scores)` gives what was behind the main scores of a split.

    Items whose statistic is not the main score are dropped: a task with a metric of its own gets no interval rather
    than a wrong one.
    """

    def __init__(self, task: Any) -> None:
        self._task = task
        self._predictions: dict[tuple[str, str], Any] = {}
        self._per_query: dict[tuple[str, str], Mapping[str, Mapping[str, float]]] = {}
        task._save_task_predictions = self._take_predictions
        if hasattr(task, "task_specific_scores"):
            self._own_scores = task.task_specific_scores
            task.task_specific_scores = self._take_query_scores

    def _take_predictions(
        self, predictions: Any, model: Any, prediction_folder: Any, hf_split: str, hf_subset: str
    ) -> None:
        self._predictions[hf_split, hf_subset] = predictions

    def _take_query_scores(
        self, scores: Any, qrels: Any, results: Any, *args: Any, hf_split: str, hf_subset: str
    ) -> Any:
        by_depth = reciprocal_ranks(qrels, results, self._task.k_values)
        self._per_query[hf_split, hf_subset] = {
            query: {**scores[query], **{f"mrr_{depth}": values[row] for depth, values in by_depth.items()}}
            for row, query in enumerate(results)
        }
        return self._own_scores(scores, qrels, results, *args, hf_split=hf_split, hf_subset=hf_subset)

    def items(self, split: str, scores: Mapping[str, Mapping[str, Any]]) -> list[Items]:
        """The items of every subset of a split whose statistic is its main score; `scores` by subset.

        Of a search also those of the other metrics that its folder asks for.
        """
        found = [self._of(split, subset, entry) for subset, entry in scores.items()]
        main = [
            items
            for items in found
            if items is not None and abs(statistic(items) - scores[items.subset]["main_score"]) < _AGREE
        ]
        more = [
            Items(split, subset, "mean", self.per_query(split, subset, metric), metric=metric)
            for subset in scores
            for metric in getattr(self._task.metadata, "metrics", ())
            if (split, subset) in self._per_query
        ]
        return main + more

    def _of(self, split: str, subset: str, scores: Mapping[str, Any]) -> Items | None:
        metric = self._task.metadata.main_score
        kind = self._task.metadata.type
        if kind == "Clustering":
            levels = scores.get("v_measures")
            values = levels.values() if isinstance(levels, Mapping) else [levels or []]
            return _mean(split, subset, [value for level in values for value in level])
        if (split, subset) in self._per_query:
            return _mean(split, subset, self.per_query(split, subset, metric))
        predictions = self._predictions.get((split, subset))
        if predictions is None:
            return None
        data = self._data(split, subset)
        if kind == "STS":
            gold = np.asarray(data["score"], dtype=np.float64)
            name = "cosine_scores" if metric == "cosine_spearman" else "similarity_scores"
            return Items(split, subset, "spearman", np.asarray(predictions[name], dtype=np.float64), gold)
        if kind == "PairClassification":
            labels = np.asarray(data[self._task.label_column_name], dtype=np.float64)
            return _pairs(split, subset, metric, scores, (predictions, labels))
        if kind == "Classification":
            gold = np.asarray(data[self._task.label_column_name])
            return _mean(split, subset, np.mean([np.asarray(run) == gold for run in predictions], axis=0))
        return _bitext(split, subset, predictions, data) if kind == "BitextMining" else None

    def _data(self, split: str, subset: str) -> Any:
        dataset = self._task.dataset
        return dataset[subset][split] if subset in dataset else dataset[split]

    def per_query(self, split: str, subset: str, metric: str) -> Floats:
        """A metric of search for each query, by id; empty for one that is not known query by query."""
        found = self._per_query[split, subset]
        name = next((theirs + metric[len(ours) :] for ours, theirs in _QUERY_METRICS.items() if ours in metric), None)
        if name is None or not all(name in scores for scores in found.values()):
            return np.zeros(0)
        return np.array([found[query][name] for query in sorted(found)], dtype=np.float64)


def _mean(split: str, subset: str, values: Sequence[float] | NDArray[Any]) -> Items | None:
    return Items(split, subset, "mean", np.asarray(values, dtype=np.float64)) if len(values) else None


def _pairs(
    split: str, subset: str, metric: str, scores: Mapping[str, Any], found: tuple[Mapping[str, Any], Floats]
) -> Items | None:
    """The similarity that gave the score; of "max_ap" the one that was the best."""
    predictions, labels = found
    wanted = metric.rpartition("_")[2]
    names: dict[str, Statistic] = {"ap": "average_precision", "accuracy": "accuracy"}
    if wanted not in names:
        return None
    for kind, (column, sign) in _SIMILARITIES.items():
        if scores.get(f"{kind}_{wanted}") == scores["main_score"]:
            return Items(split, subset, names[wanted], sign * np.asarray(predictions[column], np.float64), labels)
    return None


def _bitext(split: str, subset: str, predictions: Mapping[str, Any], data: Any) -> Items | None:
    """F1 of the sentence each first sentence belongs to: their mean is mteb's weighted F1."""
    if set(predictions) != {"sentence1-sentence2"}:
        return None
    chosen = np.array([hit["corpus_id"] for hit in predictions["sentence1-sentence2"]])
    gold = np.array([pair[1] for pair in data["gold"]]) if "gold" in data else np.arange(len(chosen))
    size = int(max(chosen.max(), gold.max())) + 1
    right = np.bincount(gold[chosen == gold], minlength=size)
    total = np.bincount(gold, minlength=size) + np.bincount(chosen, minlength=size)
    return _mean(split, subset, (2 * right / np.maximum(total, 1))[gold])
