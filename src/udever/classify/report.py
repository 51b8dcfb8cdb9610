"""`fit`: a filter, and a report of how good it is on examples it has not seen.

All numbers come from cross-validation: every example is scored by a head fitted without it, with calibration
and thresholds from the other folds.
"""

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from udever.classify.examples import Examples, Kind
from udever.classify.fitting import (
    FitSettings,
    Floats,
    Labelled,
    calibrate,
    choose_thresholds,
    fit_linear,
    fold_of,
    leave_out,
)
from udever.classify.head import Filter, decide, probabilities
from udever.errors import DataError
from udever.text.grouping import groups_of, spelling

_LEAST = 20
_MOST_LANGUAGES = 12
_NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label. `precision`, `recall` and `f1` are of the plain decision; `kept_*` of decisions at `threshold`.

    `counted` is whether left-out examples showed that the threshold gives the wanted precision. None where
    there is nothing to divide by.
    """

    label: str
    num_examples: int
    precision: float | None
    recall: float | None
    f1: float
    threshold: float
    counted: bool
    kept_precision: float | None
    kept_recall: float | None


@dataclass(frozen=True, slots=True)
class HeadScore:
    """Numbers of one set of texts. `accuracy`: all labels of a text right; `macro_f1`: mean over its labels.

    `calibration_error` is the mean distance of probability and frequency in ten bins. `kept` is the share of
    labels given at the thresholds, `kept_precision` how many of them are right.
    """

    num_examples: int
    accuracy: float
    macro_f1: float
    calibration_error: float
    kept_precision: float | None
    kept_recall: float | None


@dataclass(frozen=True, slots=True)
class HeadTransfer:
    """A head fitted on `trained_on` alone, scored on `language`; where they are one, by cross-validation."""

    trained_on: str
    language: str
    score: HeadScore


@dataclass(frozen=True)
class Report:
    """How a filter does on examples it has not seen."""

    kind: Kind
    model: str
    fingerprint: str
    strength: float
    converged: bool
    precision: float | None
    overall: HeadScore
    labels: list[LabelScore]
    languages: dict[str, HeadScore] = field(default_factory=dict)
    transfer: list[HeadTransfer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def json(self) -> str:
        """The report as JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _f1(right: np.ndarray, given: np.ndarray, there: np.ndarray) -> np.ndarray:
    return 2 * right / np.maximum(given + there, 1)


def _calibration_error(predicted: Floats, truth: NDArray[np.bool_], kind: Kind) -> float:
    if kind == "one":
        rows, best = np.arange(len(truth)), predicted.argmax(axis=1)
        p, hit = predicted[rows, best], truth[rows, best]
    else:
        p, hit = predicted.reshape(-1), truth.reshape(-1)
    place = np.minimum((p * _NUM_BINS).astype(int), _NUM_BINS - 1)
    gaps = [abs(p[place == b].mean() - hit[place == b].mean()) * (place == b).mean() for b in np.unique(place)]
    return float(sum(gaps))


@dataclass(frozen=True, slots=True)
class _Seen:
    """Probabilities, plain decisions and decisions at the thresholds for texts, none seen in fitting."""

    predicted: Floats
    plain: NDArray[np.bool_]
    kept: NDArray[np.bool_]

    def score(self, truth: NDArray[np.bool_], kind: Kind, rows: np.ndarray) -> HeadScore:
        truth, plain, kept = truth[rows], self.plain[rows], self.kept[rows]
        there = truth.sum(axis=0)
        f1 = _f1((plain & truth).sum(axis=0), plain.sum(axis=0), there)
        return HeadScore(
            num_examples=len(truth),
            accuracy=float((plain == truth).all(axis=1).mean()),
            macro_f1=float(f1[there > 0].mean()) if there.any() else 0.0,
            calibration_error=_calibration_error(self.predicted[rows], truth, kind),
            kept_precision=_ratio((kept & truth).sum(), kept.sum()),
            kept_recall=_ratio((kept & truth).sum(), truth.sum()),
        )


def _plain(predicted: Floats, kind: Kind) -> NDArray[np.bool_]:
    return decide(predicted, np.full(predicted.shape[1], 0.0 if kind == "one" else 0.5), kind)


def _see(left: Floats, known: Labelled, others: Labelled, scores: Floats, precision: float | None) -> _Seen:
    """`scores` of `others`, each fold calibrated and decided by what `left`, the scores of `known`, say in the rest."""
    kind = known.kind
    predicted, kept = np.empty(scores.shape), np.empty(scores.shape, bool)
    for number in np.unique(others.fold):
        test, apart = others.fold == number, known.fold != number
        rest, truth = left[apart], known.truth[apart]
        calibration = calibrate(rest, truth, kind)
        thresholds = choose_thresholds(probabilities(calibration(rest), kind), truth, kind, precision)
        predicted[test] = probabilities(calibration(scores[test]), kind)
        kept[test] = decide(predicted[test], thresholds.values, kind)
    return _Seen(predicted, _plain(predicted, kind), kept)


def fit(
    embeddings: np.ndarray, examples: Examples, *, fingerprint: str, model: str, settings: FitSettings | None = None
) -> tuple[Filter, Report]:
    """A filter from examples and their embeddings [texts, dimensions] by the model with `fingerprint`.

    Raises DataError for fewer examples than can be left out in turn (4).
    """
    settings = settings or FitSettings()
    if len(examples) < 4:
        raise DataError(f"{len(examples)} examples are too few to fit on some and test on others; give at least 4")
    kind, truth = examples.kind, examples.truth
    assert len(embeddings) == len(examples)
    texts = groups_of(examples.texts)
    fold = fold_of(truth, groups_of(examples.texts, examples.groups), settings.seed)
    known = Labelled(np.asarray(embeddings, np.float32), truth, fold, kind)
    strength, left = leave_out(known)
    calibration = calibrate(left, truth, kind)
    thresholds = choose_thresholds(probabilities(calibration(left), kind), truth, kind, settings.precision)
    linear = fit_linear(known.embeddings, truth, kind, strength)
    made = Filter(
        labels=examples.names,
        kind=kind,
        weight=(linear.weight * calibration.scale[:, None]).astype(np.float32),
        bias=calibration(linear.bias).astype(np.float32),
        thresholds=thresholds.values.astype(np.float32),
        fingerprint=fingerprint,
        model=model,
        precision=settings.precision,
    )
    seen = _see(left, known, known, left, settings.precision)
    everywhere = np.arange(len(examples))
    report = Report(
        kind=kind,
        model=model,
        fingerprint=fingerprint,
        strength=strength,
        converged=linear.converged,
        precision=settings.precision,
        overall=seen.score(truth, kind, everywhere),
        labels=_label_scores(made, seen, truth, thresholds.counted),
        languages={name: seen.score(truth, kind, rows) for name, rows in _by_language(examples).items()},
        transfer=_transfer(known, examples, settings),
        notes=_repeats(examples, texts) + _notes(examples, thresholds.counted, settings, linear.converged),
    )
    return made, report


def _label_scores(made: Filter, seen: _Seen, truth: NDArray[np.bool_], counted: NDArray[np.bool_]) -> list[LabelScore]:
    scores = []
    for column, label in enumerate(made.labels):
        y, plain, kept = truth[:, column], seen.plain[:, column], seen.kept[:, column]
        scores.append(
            LabelScore(
                label=label,
                num_examples=int(y.sum()),
                precision=_ratio((plain & y).sum(), plain.sum()),
                recall=_ratio((plain & y).sum(), y.sum()),
                f1=float(_f1((plain & y).sum(), plain.sum(), y.sum())),
                threshold=float(made.thresholds[column]),
                counted=bool(counted[column]),
                kept_precision=_ratio((kept & y).sum(), kept.sum()),
                kept_recall=_ratio((kept & y).sum(), y.sum()),
            )
        )
    return scores


def _by_language(examples: Examples) -> dict[str, np.ndarray]:
    if examples.languages is None:
        return {}
    languages = np.array(examples.languages)
    return {str(name): np.flatnonzero(languages == name) for name in np.unique(languages)}


def _transfer(known: Labelled, examples: Examples, settings: FitSettings) -> list[HeadTransfer]:
    """Every language with enough examples as the only one to learn from, all of them to be tested on."""
    rows_of = {name: rows for name, rows in _by_language(examples).items() if len(rows) >= _LEAST}
    largest = sorted(rows_of, key=lambda name: -len(rows_of[name]))[:_MOST_LANGUAGES]
    if len(largest) < 2:
        return []
    table: list[HeadTransfer] = []
    for source in sorted(largest):
        own = known.part(rows_of[source])
        if len(np.unique(own.truth, axis=0)) < 2 or len(np.unique(own.fold)) < 2:
            continue
        strength, left = leave_out(own)
        for target in sorted(largest):
            others = known.part(rows_of[target])
            scores = left if target == source else own.scores_of(others, strength)
            seen = _see(left, own, others, scores, settings.precision)
            table.append(HeadTransfer(source, target, seen.score(others.truth, known.kind, np.arange(len(scores)))))
    return table


def _repeats(examples: Examples, texts: NDArray[np.int64]) -> list[str]:
    """What there is to say about equal and near-equal texts, whose group numbers are `texts`."""
    notes = []
    num_repeats = len(texts) - len(np.unique(texts))
    if num_repeats:
        notes.append(
            f"{num_repeats:,} of {len(texts):,} examples repeat the text of another, exactly or nearly; such texts are "
            f"fitted or tested on together"
        )
    found: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for row, text in enumerate(examples.texts):
        # The same words in another language may mean something else.
        found[spelling(text), examples.languages[row] if examples.languages else None].append(row)
    differing = [rows for rows in found.values() if len({examples.labels[row] for row in rows}) > 1]
    if differing:
        first = differing[0]
        shown = " and ".join(dict.fromkeys(", ".join(examples.labels[row]) or "no label" for row in first))
        notes.append(
            f"{len(differing):,} texts have conflicting labels, in {sum(map(len, differing)):,} examples; the first is "
            f"{examples.texts[first[0]][:60]!r}: {shown}"
        )
    return notes


def _notes(examples: Examples, counted: NDArray[np.bool_], settings: FitSettings, converged: bool) -> list[str]:
    notes = []
    if not converged:
        notes.append("the regression stopped before its end; more examples or fewer labels would help")
    counts = Counter(label for labels in examples.labels for label in labels)
    few = [label for label in examples.names if counts[label] < 5]
    if few:
        notes.append(f"fewer than 5 examples, so hardly tested: {', '.join(few[:20])}")
    if settings.precision is not None and not counted.all():
        names = [label for label, shown in zip(examples.names, counted, strict=True) if not shown]
        notes.append(
            f"too few examples to show a precision of {settings.precision:g}, threshold taken from the probability "
            f"alone: {', '.join(names[:20])}"
        )
    return notes
