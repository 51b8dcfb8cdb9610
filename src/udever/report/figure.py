"""What an analysis hands over: figures with their data, tables, and the files they become."""

import csv
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udever.errors import needs
from udever.report.style import INK, PALETTE, inline

PLOTLY_FILE = "plotly.min.js"
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Data:
    """A table of plain values; None is a value that is missing, an empty field in the CSV."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]

    def to_csv(self) -> str:
        """As CSV with a header, floats in full."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return buffer.getvalue()


@dataclass(frozen=True)
class Figure:
    """A figure: SVG for print, a plotly figure (data and layout) for the screen, and the numbers in it.

    `name` is the stem of its files; `layout.meta.least_width` in plotly is the least width in pixels at which it can be
    read; `description` says for those who do not see it what it shows.
    """

    name: str
    title: str
    caption: str
    description: str
    svg: str
    plotly: Mapping[str, Any]
    data: Data

    @property
    def inline_svg(self) -> str:
        """The SVG for inside a page."""
        return inline(self.svg, self.description)

    def write(self, folder: Path) -> None:
        """Write NAME.svg, NAME.html and NAME.csv into `folder`, with plotly's script beside them once."""
        folder.mkdir(exist_ok=True)
        header = '<?xml version="1.0" encoding="utf-8"?>\n'
        (folder / f"{self.name}.svg").write_text(header + self.svg, encoding="utf-8")
        (folder / f"{self.name}.csv").write_text(self.data.to_csv(), encoding="utf-8")
        (folder / f"{self.name}.html").write_text(self._page(), encoding="utf-8")
        if not (folder / PLOTLY_FILE).exists():
            (folder / PLOTLY_FILE).write_text(_plotly_script(), encoding="utf-8")

    def _page(self) -> str:
        layout = {**_LAYOUT, **self.plotly["layout"]}
        # "<" alone could end the script element early, so it is written as an escape below.
        plot = json.dumps({"data": self.plotly["data"], "layout": layout}, ensure_ascii=False, allow_nan=False)
        values = {
            "title": html.escape(self.title),
            "caption": html.escape(self.caption),
            "description": html.escape(self.description),
            "palette": json.dumps(PALETTE),
            "script": PLOTLY_FILE,
            "plot": plot.replace("<", "\\u003c"),
        }
        return re.sub(r"\{(title|caption|description|palette|script|plot)\}", lambda mark: values[mark[1]], _PAGE)


@dataclass(frozen=True)
class Cell:
    """One cell of a table on the page: what is shown, what is shown small below it, and its place."""

    text: str
    small: str = ""
    best: bool = False
    number: bool = True
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table for the page, and its numbers for the CSV `name`."""

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    data: Data
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report; `missing` says why there is nothing to show."""

    id: str
    title: str
    text: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    missing: str = ""


def _plotly_script() -> str:
    with needs("plotly", "figures", "an interactive figure"):
        from plotly.offline import get_plotlyjs
    return get_plotlyjs()


_AXIS = {"gridcolor": "#d5d5d0", "zerolinecolor": "#d5d5d0", "linecolor": "#595955", "automargin": True}
_LAYOUT = {
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hovermode": "closest",
    "margin": {"l": 20, "r": 20, "t": 20, "b": 20},
    "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
    "hoverlabel": {"align": "left"},
}


def axis(title: str = "", **options: Any) -> dict[str, Any]:
    """A plotly axis in the common look."""
    return {**_AXIS, "title": {"text": title}, **options}


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root { --ground: #fff; --ink: #1b1b1a; --quiet: #595955; }
@media (prefers-color-scheme: dark) { :root { --ground: #161615; --ink: #ececea; --quiet: #a9a9a3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
h1 { font-size: 1.25rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; color: var(--quiet); font-size: .9rem; }
</style>
</head>
<body>
<h1>{title}</h1>
<div class="scroll"><div id="plot" role="img" aria-label="{description}"></div></div>
<p>{caption}</p>
<script src="{script}"></script>
<script type="application/json" id="figure">{plot}</script>
<script>
"use strict";
const palette = {palette};
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 40rem)");
function draw() {
  const colour = (_, value) => dark.matches && Object.hasOwn(palette, value) ? palette[value] : value;
  const figure = JSON.parse(document.getElementById("figure").textContent, colour);
  const plot = document.getElementById("plot");
  plot.style.height = `${figure.layout.height ?? 560}px`;
  plot.style.minWidth = `${figure.layout.meta?.least_width ?? 0}px`;
  delete figure.layout.height;
  if (narrow.matches) figure.layout.font.size = 11;
  Plotly.react("plot", figure.data, figure.layout, {responsive: true, displaylogo: false});
}
dark.addEventListener("change", draw);
narrow.addEventListener("change", draw);
draw();
</script>
</body>
</html>
"""
