"""The look of every figure: colours that the colour-blind tell apart, shapes beside them, SVG that follows the page."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from udever.errors import needs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, QUIET, LINE, PANEL = "#1b1b1a", "#595955", "#d5d5d0", "#f6f6f4"
_DARK = {INK: "#ececea", QUIET: "#a9a9a3", LINE: "#41413d", PANEL: "#21211f"}


@dataclass(frozen=True, slots=True)
class Series:
    """How one series is drawn: its colour on light ground, its marker."""

    color: str
    marker: str


_COLORS = (
    ("#0067a3", "#62b8ee"),
    ("#ad5600", "#f0a03c"),
    ("#8a3f78", "#e29ad0"),
    ("#00735a", "#35c7a0"),
    ("#6b6b66", "#aaaaa4"),
    ("#a3222a", "#ff8f88"),
    ("#3b3b98", "#a5a5f5"),
    ("#7a6a00", "#d9c63a"),
)
_MARKERS = "osD^vPX*p"
PALETTE = dict((*_DARK.items(), *_COLORS))
"""Colour on light ground -> colour on dark ground."""

_RC: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 6,
    "hatch.color": QUIET,
    "hatch.linewidth": 0.8,
}
_FONT = "system-ui, 'DejaVu Sans', sans-serif"
_LABEL_SIZE = 7.5
_SIZE = re.compile(r' width="([\d.]+)pt" height="[\d.]+pt"')
_POINT, _LEAST = 4 / 3, 0.75


def series(number: int) -> Series:
    """The look of series `number`; colour and marker together are distinct up to 72."""
    return Series(_COLORS[number % len(_COLORS)][0], _MARKERS[number % len(_MARKERS)])


@contextmanager
def drawing() -> Iterator[None]:
    """The style, for as long as the block runs. Raises MissingExtra where matplotlib is not installed."""
    with needs("matplotlib", "figures", "a figure"):
        import matplotlib
    # Texts may be in scripts that matplotlib has no font for. They stay text in the SVG; the browser has the fonts.
    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def canvas(width: float, height: float) -> "Canvas":
    """An empty figure of this size in inches; inside `drawing`."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def to_svg(figure: "Canvas", name: str, titles: Mapping[str, str]) -> str:
    """The figure as SVG whose text stays text; `titles` are what the pointer shows for an artist's gid.

    The same input gives the same bytes, and ids are this figure's own, so that a page can hold several.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', lambda match: f'id="{name}-{match[1]}"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("'DejaVu Sans'", _FONT)
    for gid, title in titles.items():
        start = f'<g id="{name}-{gid}">'
        assert start in svg, gid
        svg = svg.replace(start, f"{start}<title>{escape(_clean(title), quote=False)}</title>", 1)
    return svg


def _clean(text: str) -> str:
    """Without the control characters that XML does not allow."""
    return "".join(character if character.isprintable() else " " for character in text)


def inline(svg: str, description: str) -> str:
    """The same SVG for inside a page: its colours follow the page's light or dark ground."""
    for number, light in enumerate(PALETTE):
        svg = svg.replace(light, f"var(--c{number}, {light})")
    label = escape(_clean(description), quote=True)
    size = _SIZE.search(svg)
    assert size is not None, "matplotlib writes its figures with a size"
    width = round(float(size[1]) * _POINT)
    # Never wider than drawn; on a narrow screen it scrolls within its frame once the text would be too small.
    style = f"max-width: {width}px; min-width: {round(width * _LEAST)}px"
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" style="{style}" ', 1).replace(size[0], "", 1)


def css_variables(*, dark: bool) -> str:
    """The declarations of the colours that `inline` refers to."""
    return " ".join(f"--c{number}: {pair[dark]};" for number, pair in enumerate(PALETTE.items()))


def write_labels(axes: "Axes", points: Sequence[tuple[float, float, str]]) -> None:
    """Each point's text right of it; where points crowd, the pointer and the interactive figure tell them apart."""
    for x, y, text in points:
        axes.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center", fontsize=_LABEL_SIZE, color=INK)
