"""From embeddings and labels to a calibrated linear head.

scikit-learn's logistic regression on centred embeddings of unit variance; its strength and the calibration are
chosen on predictions for examples that were left out (every fold once), then all examples are fitted again.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.classify.examples import Kind
from udever.classify.head import decide, probabilities
from udever.errors import DataError, RecipeError, needs

_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
_FEW, _NUM_FOLDS, _NUM_FOLDS_OF_MANY = 2000, 5, 3
_ENOUGH = 10  # examples with and without a label from which it gets a calibration of its own
_Z = 1.6449  # one-sided 95 % confidence
_ABSENT = -30.0  # the score of a label that a fold's training part did not have
_FLOOR = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Choices of a fit. `precision` is wanted of every label's decisions, None for the plain decision."""

    precision: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision is not None and not 0 < self.precision < 1:
            raise RecipeError(f"precision is {self.precision}; expected a number between 0 and 1, such as 0.95")


@dataclass(frozen=True, slots=True)
class Linear:
    """Scores = embeddings @ weight.T + bias. `converged` is whether the optimiser came to its end."""

    weight: Floats
    bias: Floats
    converged: bool = True

    def scores(self, embeddings: np.ndarray) -> Floats:
        """[texts, labels]."""
        return embeddings @ self.weight.T + self.bias


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores * scale + shift are log-odds, [labels] each."""

    scale: Floats
    shift: Floats

    def __call__(self, scores: Floats) -> Floats:
        """Calibrated scores."""
        return scores * self.scale + self.shift


def fold_of(truth: NDArray[np.bool_], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A fold for every example, dealt out label combination by label combination, so that each has its share.

    A group goes to one fold whole. Raises DataError where all examples are one group.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    if len(first) < 2:
        raise DataError(
            "all examples are one group (or one text); expected at least two, to fit on some and test on others"
        )
    num_folds = min(len(first), _NUM_FOLDS if len(truth) < _FEW else _NUM_FOLDS_OF_MANY)
    order = np.random.default_rng(seed).permutation(len(first))
    _, combination = np.unique(truth[first], axis=0, return_inverse=True)
    order = order[np.argsort(combination.reshape(-1)[order], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % num_folds
    return fold[member.reshape(-1)]


def fit_linear(embeddings: np.ndarray, truth: NDArray[np.bool_], kind: Kind, strength: float) -> Linear:
    """One logistic regression over the labels, or one for each."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    spread = float(np.sqrt(embeddings.var(axis=0, dtype=np.float64).mean())) or 1.0
    x = ((embeddings - mean) / spread).astype(np.float64)
    if kind == "one":
        weight, bias, converged = _softmax(x, truth.argmax(axis=1), truth.shape[1], strength)
    else:
        parts = [_binary(x, truth[:, column], strength) for column in range(truth.shape[1])]
        weight, bias = np.stack([w for w, _, _ in parts]), np.array([b for _, b, _ in parts])
        converged = all(c for _, _, c in parts)
    weight = weight / spread
    return Linear(weight, bias - weight @ mean, converged)


def _regression(x: Floats, y: np.ndarray, strength: float) -> tuple[Any, bool]:
    with needs("scikit-learn", "classify", "fitting a filter"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(C=strength, max_iter=500).fit(x, y)
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _softmax(x: Floats, y: np.ndarray, num_labels: int, strength: float) -> tuple[Floats, Floats, bool]:
    weight, bias = np.zeros((num_labels, x.shape[1])), np.full(num_labels, _ABSENT)
    present = np.unique(y)
    if len(present) == 1:  # a fold's training part may hold a single label
        bias[present] = 0
        return weight, bias, True
    model, converged = _regression(x, y, strength)
    if len(present) == 2:  # scikit-learn gives the difference of the two
        weight[present], bias[present] = model.coef_ * [[-0.5], [0.5]], model.intercept_ * [-0.5, 0.5]
    else:
        weight[present], bias[present] = model.coef_, model.intercept_
    return weight, bias, converged


def _binary(x: Floats, y: np.ndarray, strength: float) -> tuple[Floats, float, bool]:
    if y.all() or not y.any():
        share = (y.sum() + 0.5) / (len(y) + 1)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share))), True
    model, converged = _regression(x, y, strength)
    return model.coef_[0], float(model.intercept_[0]), converged


@dataclass(frozen=True, slots=True)
class Labelled:
    """What heads are fitted on: embeddings [texts, dimensions], truth [texts, labels], a fold for each text."""

    embeddings: np.ndarray
    truth: NDArray[np.bool_]
    fold: NDArray[np.int64]
    kind: Kind

    def part(self, rows: np.ndarray) -> "Labelled":
        """Some of the texts."""
        return Labelled(self.embeddings[rows], self.truth[rows], self.fold[rows], self.kind)

    def scores_of(self, others: "Labelled", strength: float) -> Floats:
        """Scores of other texts, each by a head fitted on those of these texts that are in other folds."""
        scores = np.empty(others.truth.shape)
        for number in np.unique(others.fold):
            rest, test = self.fold != number, others.fold == number
            linear = fit_linear(self.embeddings[rest], self.truth[rest], self.kind, strength)
            scores[test] = linear.scores(others.embeddings[test])
        return scores


def leave_out(known: Labelled) -> tuple[float, Floats]:
    """The strength that predicts left-out examples best, and scores of every example by heads that had not seen it."""
    truth, kind = known.truth, known.kind
    tried = {strength: known.scores_of(known, strength) for strength in _STRENGTHS}
    best = min(tried, key=lambda one: log_loss(calibrate(tried[one], truth, kind)(tried[one]), truth, kind))
    return best, tried[best]


def log_loss(scores: Floats, truth: NDArray[np.bool_], kind: Kind) -> float:
    """Mean negative log-likelihood of the truth, per text (one) or per text and label (several)."""
    predicted = np.clip(probabilities(scores, kind), _FLOOR, 1 - _FLOOR)
    if kind == "one":
        return float(-np.log(predicted[truth]).mean())
    return float(-np.where(truth, np.log(predicted), np.log(1 - predicted)).mean())


def calibrate(scores: Floats, truth: NDArray[np.bool_], kind: Kind) -> Calibration:
    """The calibration under which left-out scores give the truth its best probability.

    One temperature for all labels; for several labels, those with enough examples get a slope and a shift of
    their own (Platt's, with his smoothed targets).
    """
    known = scores != _ABSENT if kind == "one" else np.ones_like(truth)
    rows = np.flatnonzero((known & truth).any(axis=1)) if kind == "one" else np.arange(len(truth))
    scale = _temperature(scores[rows], truth[rows], kind) if len(rows) else 1.0
    calibration = Calibration(np.full(truth.shape[1], scale), np.zeros(truth.shape[1]))
    if kind == "several":
        for column in range(truth.shape[1]):
            y = truth[:, column]
            if min(y.sum(), len(y) - y.sum()) >= _ENOUGH:
                slope, shift = _platt(scores[:, column], y)
                if slope > 0:
                    calibration.scale[column], calibration.shift[column] = slope, shift
    return calibration


def _temperature(scores: Floats, truth: NDArray[np.bool_], kind: Kind) -> float:
    """The factor on scores with the least log-loss, by golden section; a weak pull to 1 for separable cases."""
    low, high = -4.0, 4.0
    share = (np.sqrt(5) - 1) / 2

    def cost(log_scale: float) -> float:
        return log_loss(scores * np.exp(log_scale), truth, kind) * len(scores) + 0.5 * log_scale**2

    for _ in range(40):
        width = share * (high - low)
        if cost(high - width) < cost(low + width):
            high = low + width
        else:
            low = high - width
    return float(np.exp((low + high) / 2))


def _platt(scores: Floats, y: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift of a logistic curve through scores, by Newton's method."""
    positives = int(y.sum())
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (len(y) - positives + 2))
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    weights = np.array([1.0, 0.0])
    ridge = 1e-6 * np.eye(2)

    def cost(w: np.ndarray) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - target * z).sum() + 0.5e-6 * (w @ w))

    for _ in range(50):
        p = probabilities(design @ weights, "several")
        gradient = design.T @ (p - target) + ridge @ weights
        step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + ridge, gradient)
        factor = 1.0
        while factor > 1e-6 and cost(weights - factor * step) > cost(weights):
            factor /= 2
        weights = weights - factor * step
        if np.abs(factor * step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A threshold for each label; `counted` says where left-out examples showed that it gives the precision.

    Elsewhere there are too few examples to show it, and the threshold is the wanted precision itself, which
    is right as far as the probabilities are.
    """

    values: Floats
    counted: NDArray[np.bool_]


def lowest_precision(num_right: np.ndarray, num: np.ndarray) -> np.ndarray:
    """The precision that is exceeded with 95 % confidence (Wilson's bound) when `num_right` of `num` are right."""
    share = num_right / num
    centre = share + _Z**2 / (2 * num)
    width = _Z * np.sqrt(share * (1 - share) / num + _Z**2 / (4 * num**2))
    return (centre - width) / (1 + _Z**2 / num)


def choose_thresholds(predicted: Floats, truth: NDArray[np.bool_], kind: Kind, precision: float | None) -> Thresholds:
    """The lowest thresholds at which decisions on left-out examples have the wanted precision."""
    num_labels = truth.shape[1]
    if precision is None:
        return Thresholds(np.full(num_labels, 0.0 if kind == "one" else 0.5), np.zeros(num_labels, bool))
    values, counted = np.full(num_labels, precision), np.zeros(num_labels, bool)
    candidates = decide(predicted, np.zeros(num_labels), kind)
    for column in range(num_labels):
        rows = np.flatnonzero(candidates[:, column])
        if not len(rows):
            continue
        rows = rows[np.argsort(-predicted[rows, column], kind="stable")]
        p = predicted[rows, column]
        good = lowest_precision(truth[rows, column].cumsum(), np.arange(1, len(rows) + 1)) >= precision
        good[:-1] &= p[:-1] > p[1:]  # equal probabilities fall on one side together
        if good.any():
            values[column], counted[column] = p[np.flatnonzero(good)[-1]], True
    return Thresholds(values, counted)
