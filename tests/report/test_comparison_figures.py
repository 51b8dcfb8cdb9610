import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from udever.evaluation import METRICS, Results, Scores
from udever.report.comparison_figures import dot_charts, loss_curve, nice_step


@settings(deadline=None)
@given(span=st.floats(1e-6, 1e6), most=st.integers(1, 20))
def test_steps_are_round_and_few(span, most):
    step = nice_step(span, most)
    assert span / step <= most + 1e-6
    assert f"{step:e}"[0] in "125"
    assert span / step > most / 3  # and not fewer than needed


def test_dots_lie_where_the_means_are():
    per_query = {metric: np.array([0.0, 1.0] * 20) for metric in METRICS}
    results = Results({"zero": Scores({metric: np.zeros(40) for metric in METRICS}, 9), "half": Scores(per_query, 9)})
    for chart in dot_charts(results):
        zero, half = chart.dots
        start, *_, end = chart.ticks
        assert zero.x == zero.low == zero.high == start.at
        share = (half.x - start.at) / (end.at - start.at)
        assert share * float(end.label) == pytest.approx(0.5, abs=0.01)
        assert half.low < half.x < half.high
        assert "half 0.500, 95% interval 0.3" in chart.description


def test_loss_curve():
    curve = loss_curve([(0, 4.0), (5, 2.0), (10, float("nan")), (20, 1.0)])
    assert curve is not None
    points = [tuple(map(float, point.split(","))) for point in curve.points.split()]
    assert len(points) == 3
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.25, abs=0.01)
    assert y0 < y1 < y2 and (y2 - y0) / (y2 - y1) == pytest.approx(3, abs=0.05)
    assert "from 4.000 at step 0 to 1.000 at step 20" in curve.description


@pytest.mark.parametrize("losses", [[], [(1, 2.0)], [(1, float("nan")), (2, 1.0)]])
def test_too_few_losses_for_a_curve(losses):
    assert loss_curve(losses) is None


@settings(deadline=None)
@given(st.lists(st.floats(-5, 50), min_size=2, max_size=30), st.sampled_from([1, 7, 200]))
def test_curves_stay_short_and_inside(values, times):
    curve = loss_curve(list(enumerate(values * times)))
    assert curve is not None
    points = [tuple(map(float, point.split(","))) for point in curve.points.split()]
    assert 2 <= len(points) <= 601
    assert all(0 <= x <= curve.width and 0 <= y <= curve.height for x, y in points)


def test_long_curves_keep_their_ends():
    curve = loss_curve([(step, 10.0 - step / 1000) for step in range(5001)])
    assert curve is not None
    points = curve.points.split()
    assert 300 < len(points) <= 601
    assert "from 10.000 at step 0 to 5.000 at step 5000" in curve.description
    assert points[0].startswith("52.0,") and points[-1].startswith("428.0,")
