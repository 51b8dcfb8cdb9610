"""The report of a filter as Markdown tables."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udever.classify.report import Report, Score

_SCORE_NAMES = ("examples", "accuracy", "macro F1", "calibration error", "precision kept", "recall kept")


def filter_markdown(report: "Report") -> str:
    """The numbers of a filter as tables: over all, by label, by language, and learned in one language for others."""
    parts = (_overall_lines(report), _label_lines(report), _language_lines(report), _transfer_lines(report))
    return "\n".join(line for part in parts for line in part) + "\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _heading(*names: str) -> list[str]:
    return [_row(*names), _row(*("---" for _ in names))]


def _score_cells(score: "Score") -> list[str]:
    numbers = (score.accuracy, score.macro_f1, score.calibration_error, score.kept_precision, score.kept_recall)
    return [f"{score.num_examples:,}", *map(_number, numbers)]


def _overall_lines(report: "Report") -> list[str]:
    wanted = "the plain decision" if report.precision is None else f"a precision of {report.precision:g}"
    return [
        "# Filter",
        "",
        f"Model {report.model} (fingerprint {report.fingerprint}); thresholds for {wanted}. Every number is from "
        "examples the head was not fitted on (cross-validation). Kept: labels given at the thresholds.",
        "",
        *(f"Note: {note}." for note in report.notes),
        *([""] if report.notes else []),
        *_heading(*_SCORE_NAMES),
        _row(*_score_cells(report.overall)),
    ]


def _label_lines(report: "Report") -> list[str]:
    names = ("label", "examples", "precision", "recall", "F1", "threshold", "precision kept", "recall kept")
    lines = ["", "## Labels", "", *_heading(*names)]
    for one in report.labels:
        numbers = (one.precision, one.recall, one.f1, one.threshold, one.kept_precision, one.kept_recall)
        lines.append(_row(one.label, one.num_examples, *map(_number, numbers)))
    return lines


def _language_lines(report: "Report") -> list[str]:
    if not report.languages:
        return []
    lines = ["", "## Languages", "", *_heading("language", *_SCORE_NAMES)]
    return lines + [_row(name, *_score_cells(score)) for name, score in report.languages.items()]


def _transfer_lines(report: "Report") -> list[str]:
    """Accuracy by language learned from (rows) and applied to (columns)."""
    if not report.transfer:
        return []
    languages = list(dict.fromkeys(one.language for one in report.transfer))
    cells = {(one.trained_on, one.language): one.score for one in report.transfer}
    sources = list(dict.fromkeys(one.trained_on for one in report.transfer))
    lines: list[str] = []
    for title, pick in (("Accuracy", "accuracy"), ("Macro F1", "macro_f1")):
        lines += ["", f"## {title} when fitted on one language (row) and applied to others", ""]
        lines += _heading("fitted on", *languages)
        lines += [_row(a, *(_number(getattr(cells[a, b], pick)) for b in languages)) for a in sources]
    return lines
