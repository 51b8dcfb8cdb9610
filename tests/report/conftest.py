import csv
import io
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from udever.evaluation.results import ModelScores, Score
from udever.report.figure import Figure

SVG = "{http://www.w3.org/2000/svg}"


def make_score(task, subset, value, *languages, kind="Retrieval", interval=None, trained_on=False):
    low, high = (value - interval, value + interval) if interval else (None, None)
    return Score(task, kind, "test", subset, languages, "main_score", value, low, high, trained_on)


def make_model(name, /, *scores, size=None, revision="r" * 32, **label):
    meta = {"name": name, "revision": revision, "udever": {"label": label, "environment": {"python": "3.11.9"}}}
    return ModelScores(name, revision, size, 64, meta, tuple(scores))


def read_rows(figure_or_table):
    """The rows of the CSV as dictionaries."""
    return list(csv.DictReader(io.StringIO(figure_or_table.data.to_csv())))


def parse(figure: Figure):
    return ElementTree.fromstring(figure.svg)


def placed(figure: Figure, pattern: str):
    """Where each marker whose id matches stands in the SVG: {what the pattern's group holds: (x, y)}."""
    found = {}
    for group in parse(figure).iter(f"{SVG}g"):
        match = re.fullmatch(f"{figure.name}-{pattern}", group.get("id", ""))
        if match:
            (mark,) = group.iter(f"{SVG}use")
            found[match[1]] = (float(mark.get("x")), float(mark.get("y")))
    return found


def is_affine(data, drawn, tolerance=0.05):
    """Whether coordinates in the picture are a straight function of those in the data."""
    data, drawn = np.asarray(data, dtype=float), np.asarray(drawn, dtype=float)
    matrix = np.stack([data, np.ones_like(data)], axis=1)
    solved = np.linalg.lstsq(matrix, drawn, rcond=None)[0]
    return abs(solved[0]) > 1e-6 and np.abs(matrix @ solved - drawn).max() < tolerance


@pytest.fixture(scope="session")
def make_results():
    """Makers of results, and readers of what became of them."""
    return SimpleNamespace(
        score=make_score, model=make_model, rows=read_rows, parse=parse, placed=placed, is_affine=is_affine, svg=SVG
    )
