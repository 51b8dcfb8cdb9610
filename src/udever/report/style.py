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
    """How one series is drawn: colour on light and dark ground, marker for matplotlib and for plotly."""

    color: str
    dark: str
    marker: str
    symbol: str


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
_MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("D", "diamond"),
    ("^", "triangle-up"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
    ("*", "star"),
    ("p", "pentagon"),
)
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
    color, dark = _COLORS[number % len(_COLORS)]
    marker, symbol = _MARKERS[number % len(_MARKERS)]
    return Series(color, dark, marker, symbol)


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


def settle(figure: "Canvas") -> None:
    """Lay the figure out for good; nothing moves afterwards."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def place_labels(
    axes: "Axes", points: Sequence[tuple[float, float, str]], *, columns: bool = False, near: bool = False
) -> int:
    """Write each point's text near it where it covers no marker or other label; return how many found no place.

    A text that is not right beside its point gets a thin line to it. With `columns`, points above one another get a
    column of texts; with `near` no text is far from its point. Only after `settle`.
    """
    figure: Any = axes.figure
    unit = figure.dpi / 72
    dots = [(float(x), float(y)) for x, y in (axes.transData.transform(point[:2]) for point in points)]
    taken: list[_Box] = [(x - 4 * unit, y - 4 * unit, x + 4 * unit, y + 4 * unit) for x, y in dots]
    frame = axes.get_window_extent()
    named = [(x, y, text) for (x, y), (_, _, text) in zip(dots, points, strict=True)]
    offsets = _columns(named, frame, unit) if columns else {}
    taken += [_box(dots[index], offset, points[index][2], unit) for index, offset in offsets.items()]
    left_out = 0
    for index, point in enumerate(points):
        found = (offsets[index], True) if index in offsets else _free(dots[index], point[2], (taken, frame, unit, near))
        if found is None:
            left_out += 1
            continue
        (dx, dy), far = found
        taken.append(_box(dots[index], (dx, dy), point[2], unit))
        _write_label(axes, point, (dx / unit, dy / unit), far=far)
    return left_out


def _free(
    dot: tuple[float, float], text: str, around: tuple[list["_Box"], Any, float, bool]
) -> tuple[tuple[float, float], bool] | None:
    """The best free place for a text, as an offset, and whether it is far from its point; None without one."""
    taken, frame, unit, near = around
    for offset, far in _offsets(_width(text) * unit, _HEIGHT * unit, unit):
        if far and near:
            return None
        box = _box(dot, offset, text, unit)
        if _inside(box, frame) and not any(_overlap(box, other) for other in taken):
            return offset, far
    return None


_Box = tuple[float, float, float, float]
_HEIGHT = _LABEL_SIZE * 1.15
_LEAST_COLUMN, _COLUMN_GAP, _OUTSIDE = 4, 22, 1000


def _write_label(axes: "Axes", point: tuple[float, float, str], offset: tuple[float, float], *, far: bool) -> None:
    """The text with its lower left corner `offset` points from the point."""
    x, y, text = point
    (dx, dy), width = offset, _width(text)
    # The true width is less than the bound: the end that is nearest to the point is the one that is held.
    side, anchor = (
        ("left", dx) if dx > 0 else ("right", dx + width) if dx < -width * 0.9 else ("center", dx + width / 2)
    )
    line = {"arrowstyle": "-", "color": QUIET, "lw": 0.5, "shrinkA": 0, "shrinkB": 2, "relpos": _ENDS[side]}
    options: Any = {"ha": side, "va": "bottom", "arrowprops": line if far else None}
    axes.annotate(text, (x, y), (anchor, dy), textcoords="offset points", fontsize=_LABEL_SIZE, color=INK, **options)


_ENDS = {"left": (0, 0.5), "right": (1, 0.5), "center": (0.5, 0)}


def _columns(dots: Sequence[tuple[float, float, str]], frame: Any, unit: float) -> dict[int, tuple[float, float]]:
    """Offsets for the texts of points that stand above one another: a column beside them, in their order."""
    groups: dict[int, list[int]] = {}
    for index, (x, _, _) in enumerate(dots):
        groups.setdefault(round(x / (3 * unit)), []).append(index)
    found: dict[int, tuple[float, float]] = {}
    for group in groups.values():
        if len(group) < _LEAST_COLUMN or len(group) * _HEIGHT * unit * 1.1 > frame.height:
            continue
        group = sorted(group, key=lambda index: dots[index][1])
        heights = _spread([dots[index][1] for index in group], _HEIGHT * unit * 1.1, frame)
        others = [(x, y) for index, (x, y, _) in enumerate(dots) if index not in group]
        sides: list[tuple[int, dict[int, tuple[float, float]]]] = []
        for right in (True, False):
            offsets: dict[int, tuple[float, float]] = {}
            covered = 0
            for index, height in zip(group, heights, strict=True):
                x, y, text = dots[index]
                gap = _COLUMN_GAP * unit
                offsets[index] = (gap if right else -gap - _width(text) * unit, height - y)
                box = _box((x, y), offsets[index], text, unit)
                covered += _OUTSIDE * (not _inside(box, frame))
                covered += sum(box[0] < a < box[2] and box[1] < b < box[3] for a, b in others)
            sides.append((covered, offsets))
        covered, offsets = min(sides, key=lambda side: side[0])
        if covered < _OUTSIDE:
            found |= offsets
    return found


def _spread(heights: Sequence[float], step: float, frame: Any) -> list[float]:
    """Where texts for points at these rising heights begin: `step` apart, near them, inside the frame."""
    lowest, places = frame.y0, []
    for height in heights:
        lowest = max(lowest, height - step / 2)
        places.append(lowest)
        lowest += step
    # Texts were only ever pushed up: the column moves back by the mean push, as far as the frame allows.
    push = sum(place + step / 2 - height for place, height in zip(places, heights, strict=True)) / len(places)
    shift = max(min(push, places[0] - frame.y0), lowest - frame.y1)
    return [place - shift for place in places]


def _box(dot: tuple[float, float], offset: tuple[float, float], text: str, unit: float) -> _Box:
    left, bottom = dot[0] + offset[0], dot[1] + offset[1]
    return left, bottom, left + _width(text) * unit, bottom + _HEIGHT * unit


def _inside(box: _Box, frame: Any) -> bool:
    return box[0] > frame.x0 and box[2] < frame.x1 and box[1] > frame.y0 and box[3] < frame.y1


def _width(text: str) -> float:
    """An upper bound of the width in points at the label size."""
    return sum(0.66 if ord(character) < 0x1100 else 1.05 for character in text) * _LABEL_SIZE


def _offsets(width: float, height: float, unit: float) -> Iterator[tuple[tuple[float, float], bool]]:
    """Where the lower left corner of a label may be from its point, the best first, and whether that is far."""
    for gap in (5, 15, 27, 40):
        side, rise, fall = gap * unit, gap * unit * 0.7, -gap * unit * 0.7 - height
        near = [(side, -height / 2), (-side - width, -height / 2), (-width / 2, side), (-width / 2, -side - height)]
        corners = [(rise, rise), (rise, fall), (-rise - width, rise), (-rise - width, fall)]
        yield from (((dx, dy), gap > 5) for dx, dy in near + corners)


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
