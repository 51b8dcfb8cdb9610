"""`report.html`: one page that says what was gained, and loads nothing from anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from udever.evaluation.comparison import METRIC_NAMES, Results
from udever.evaluation.metrics import METRICS
from udever.report.comparison_figures import dot_charts, loss_curve
from udever.storage import atomic_file

_TEMPLATE = "comparison.html.jinja"

Hits = Sequence[tuple[float, str | None, str]]
"""(score, source, snippet), best first."""


@dataclass(frozen=True)
class Extras:
    """What the report shows besides the scores; what is empty is left out.

    `losses` are (step, loss) in order; `counts` what was mined, kept and skipped; `examples` questions
    with their hits; `settings` how the run was made.
    """

    losses: Sequence[tuple[int, float]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[tuple[str, Hits]] = ()
    settings: Mapping[str, object] = field(default_factory=dict)


def render_report(results: Results, extras: Extras | None = None, *, title: str) -> str:
    """The page as HTML; everything given is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("udever.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    extras = extras or Extras()
    return environment.get_template(_TEMPLATE).render(
        title=title,
        results=results,
        extras=extras,
        metrics=[(metric, METRIC_NAMES[metric]) for metric in METRICS],
        charts=dot_charts(results),
        curve=loss_curve(extras.losses),
    )


def write_report(
    path: str | Path, results: Results, extras: Extras | None = None, *, title: str = "Retrieval report"
) -> None:
    """Write the page to `path`, whole or not at all."""
    html = render_report(results, extras, title=title)
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
