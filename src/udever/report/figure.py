"""What an analysis hands over: figures with their data, tables, and the files they become."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from udever.report.style import css_variables, inline

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
    """A figure as SVG, and the numbers in it.

    `name` is the stem of its files; `description` says for those who do not see it what it shows.
    """

    name: str
    title: str
    caption: str
    description: str
    svg: str
    data: Data

    @property
    def inline_svg(self) -> str:
        """The SVG for inside a page."""
        return inline(self.svg, self.description)

    def write(self, folder: Path) -> None:
        """Write NAME.svg, NAME.html and NAME.csv into `folder`."""
        folder.mkdir(exist_ok=True)
        header = '<?xml version="1.0" encoding="utf-8"?>\n'
        (folder / f"{self.name}.svg").write_text(header + self.svg, encoding="utf-8")
        (folder / f"{self.name}.csv").write_text(self.data.to_csv(), encoding="utf-8")
        (folder / f"{self.name}.html").write_text(self._page(), encoding="utf-8")

    def _page(self) -> str:
        values = {
            "title": html.escape(self.title),
            "caption": html.escape(self.caption),
            "light": css_variables(dark=False),
            "dark": css_variables(dark=True),
            "svg": self.inline_svg,
        }
        return re.sub(r"\{(title|caption|light|dark|svg)\}", lambda mark: values[mark[1]], _PAGE)


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


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root { --ground: #fff; --ink: #1b1b1a; --quiet: #595955; {light} }
@media (prefers-color-scheme: dark) { :root { --ground: #161615; --ink: #ececea; --quiet: #a9a9a3; {dark} } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
svg { display: block; width: 100%; max-width: none !important; height: auto; }
svg path { vector-effect: non-scaling-stroke; }
h1 { font-size: 1.25rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; color: var(--quiet); font-size: .9rem; }
#said { min-height: 3em; color: var(--ink); }
</style>
</head>
<body>
<h1>{title}</h1>
<div class="scroll">{svg}</div>
<p id="said" aria-live="polite"></p>
<p>{caption} Point at a mark to read it. The wheel enlarges, dragging moves, a double click shows all again.</p>
<script>
"use strict";
const svg = document.querySelector("svg"), said = document.getElementById("said");
const {x: left, y: upper, width: whole, height: high} = svg.viewBox.baseVal;
const placed = [...svg.querySelectorAll(":is(use, text)[x]")].map((one) => [one, one.getAttribute("transform") ?? ""]);
let x = left, y = upper, scale = 1;

/** Shows the part that begins at x, y; marks and texts keep their size. */
function show() {
  x = Math.min(Math.max(x, left), left + whole * (1 - scale));
  y = Math.min(Math.max(y, upper), upper + high * (1 - scale));
  svg.setAttribute("viewBox", `${x} ${y} ${whole * scale} ${high * scale}`);
  for (const [one, turned] of placed) {
    const [a, b] = [one.getAttribute("x"), one.getAttribute("y")];
    one.setAttribute("transform", `${turned} translate(${a} ${b}) scale(${scale}) translate(${-a} ${-b})`);
  }
}
svg.addEventListener("wheel", (event) => {
  event.preventDefault();
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const next = Math.min(1, Math.max(1 / 50, scale * Math.exp(event.deltaY / 300)));
  x = at.x - (at.x - x) * next / scale;
  y = at.y - (at.y - y) * next / scale;
  scale = next;
  show();
}, {passive: false});
svg.addEventListener("pointermove", (event) => {
  said.textContent = event.target.closest("g:has(> title)")?.querySelector("title").textContent ?? "";
  if (!event.buttons || scale === 1) return;
  const pixel = 1 / svg.getScreenCTM().a;
  x -= event.movementX * pixel;
  y -= event.movementY * pixel;
  show();
});
svg.addEventListener("dblclick", () => { scale = 1; show(); });
</script>
</body>
</html>
"""
