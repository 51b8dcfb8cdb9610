"""The report of a filter as Markdown tables."""

from typing import TYPE_CHECKING

from udever.markdown import table

if TYPE_CHECKING:
    from udever.classify.report import HeadScore, Report

_SCORE_NAMES = ("examples", "accuracy", "macro F1", "calibration error", "precision kept", "recall kept")


def filter_markdown(report: "Report") -> str:
    """The numbers of a filter as tables: over all, by label, by language, and learned in one language for others."""
    return _overall(report) + _labels(report) + _languages(report) + _transfer(report)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _score_cells(score: "HeadScore") -> list[str]:
    numbers = (score.accuracy, score.macro_f1, score.calibration_error, score.kept_precision, score.kept_recall)
    return [f"{score.num_examples:,}", *map(_number, numbers)]


def _overall(report: "Report") -> str:
    wanted = "the plain decision" if report.precision is None else f"a precision of {report.precision:g}"
    notes = "".join(f"Note: {note}.\n" for note in report.notes)
    return (
        f"# Filter\n\nModel {report.model} (fingerprint {report.fingerprint}); thresholds for {wanted}. Every number "
        "is from examples the head was not fitted on (cross-validation). Kept: labels given at the thresholds.\n\n"
        + (f"{notes}\n" if notes else "")
        + table(_SCORE_NAMES, [_score_cells(report.overall)])
    )


def _labels(report: "Report") -> str:
    names = ("label", "examples", "precision", "recall", "F1", "threshold", "precision kept", "recall kept")
    rows = []
    for one in report.labels:
        numbers = (one.precision, one.recall, one.f1, one.threshold, one.kept_precision, one.kept_recall)
        rows.append([one.label, one.num_examples, *map(_number, numbers)])
    return f"\n## Labels\n\n{table(names, rows)}"


def _languages(report: "Report") -> str:
    rows = [[name, *_score_cells(score)] for name, score in report.languages.items()]
    return f"\n## Languages\n\n{table(('language', *_SCORE_NAMES), rows)}" if rows else ""


def _transfer(report: "Report") -> str:
    """Scores by language learned from (rows) and applied to (columns)."""
    languages = list(dict.fromkeys(one.language for one in report.transfer))
    cells = {(one.trained_on, one.language): one.score for one in report.transfer}
    sources = list(dict.fromkeys(one.trained_on for one in report.transfer))
    told = ""
    for title, pick in (("Accuracy", "accuracy"), ("Macro F1", "macro_f1")) if sources else ():
        rows = [[a, *(_number(getattr(cells[a, b], pick)) for b in languages)] for a in sources]
        told += f"\n## {title} when fitted on one language (row) and applied to others\n\n"
        told += table(("fitted on", *languages), rows)
    return told
