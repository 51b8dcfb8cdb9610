"""The one page: of `udever report` with every figure and table as files beside it, of `udever adapt` alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udever.report import languages, plane, tables, transfer, universal, variants
from udever.report.figure import Data, Section
from udever.report.labels import Label
from udever.report.runs import Run, make_runs
from udever.report.shares import LanguageShares, bloom_shares
from udever.report.style import css_variables
from udever.storage import atomic_file, atomic_folder

if TYPE_CHECKING:
    from udever.evaluation.results import ModelScores

PAGE_FILE, RESULT_FILE = "report.html", "results.json"
_TEMPLATE = "page.html.jinja"


@dataclass(frozen=True)
class ReportOptions:
    """What a person adds to the results.

    `labels` by model, `shares` of pre-training (BLOOM's if None), `plane` before and after finetuning, `against`
    the model that the others are compared with.
    """

    title: str = "Evaluation report"
    labels: Mapping[str, Label] = field(default_factory=dict)
    shares: LanguageShares | None = None
    plane: "plane.Plane | None" = None
    against: str | None = None


def write_benchmark_report(
    models: "Sequence[ModelScores]",
    folder: str | Path,
    options: ReportOptions | None = None,
    *,
    show_progress: bool = False,
) -> list[Section]:
    """Write report.html, results.json, figures/ and tables/ into `folder`, whole or not at all; return its sections.

    Raises DataError for results or labels that do not fit, OutputError where the folder holds something else,
    MissingExtra where matplotlib is missing.
    """
    options = options or ReportOptions()
    runs = universal.by_score(make_runs(models, options.labels))
    with atomic_folder(folder, "report") as temporary:
        sections = make_sections(runs, options, show_progress=show_progress)
        (temporary / "figures").mkdir()
        (temporary / "tables").mkdir()
        for section in sections:
            for figure in section.figures:
                figure.write(temporary / "figures")
            for table in section.tables:
                _write(temporary / "tables" / f"{table.name}.csv", table.data.to_csv())
        _write(temporary / "tables" / "scores.csv", tables.every_score(runs).to_csv())
        _write(temporary / RESULT_FILE, _results(runs, sections))
        _write(temporary / PAGE_FILE, render(runs, sections, options.title))
    return sections


def make_sections(runs: Sequence[Run], options: ReportOptions, *, show_progress: bool = False) -> list[Section]:
    """Every section in the order of the page, those with nothing to show included."""
    return [
        tables.overview(runs),
        universal.section(runs),
        languages.section(runs, options.shares or bloom_shares()),
        plane.section(options.plane),
        transfer.section(runs),
        variants.section(runs, variants.KIND),
        variants.section(runs, variants.TUNING),
        tables.scores_section(runs),
        tables.differences(runs, options.against, show_progress=show_progress),
    ]


def render(runs: Sequence[Run], sections: Sequence[Section], title: str) -> str:
    """The page of a folder of results, with links to its files."""
    num_scores = sum(len(run.scores) for run in runs)
    about = f"{len(runs)} model{'' if len(runs) == 1 else 's'}, {num_scores:,} scores."
    environments = [(run.name, rows) for run in runs if (rows := environment_of(run.model.meta))]
    return render_page(title, about, sections, environments=environments, files=True)


def write_page(path: str | Path, title: str, about: str, sections: Sequence[Section]) -> None:
    """Write one page that needs no file beside it, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(render_page(title, about, sections), encoding="utf-8")


def render_page(
    title: str,
    about: str,
    sections: Sequence[Section],
    *,
    environments: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (),
    files: bool = False,
) -> str:
    """A page as HTML that loads nothing; everything given is escaped. `files` links to figures/ and tables/."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("udever.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        title=title,
        about=about,
        sections=sections,
        environments=environments,
        files=files,
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
    )


def environment_of(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of everything the results tell about where and how they were made."""
    details = meta.get("udever")
    found = [("revision", str(meta["revision"]))] if meta.get("revision") else []
    return found + (_flat(details) if isinstance(details, Mapping) else [])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif value is not None:
            rows.append(
                (f"{prefix}{name}", json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value))
            )
    return rows


def _results(runs: Sequence[Run], sections: Sequence[Section]) -> str:
    figures = [figure for section in sections for figure in section.figures]
    written = [table for section in sections for table in section.tables]
    content = {
        "models": [{"name": run.name, "model": run.model.name, "revision": run.model.revision} for run in runs],
        "figures": {figure.name: _records(figure.data) for figure in figures},
        "tables": {table.name: _records(table.data) for table in written},
        "missing": {section.id: section.missing for section in sections if section.missing},
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _records(data: Data) -> list[dict[str, Any]]:
    return [dict(zip(data.columns, row, strict=True)) for row in data.rows]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
