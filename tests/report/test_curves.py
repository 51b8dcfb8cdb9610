from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.report.curves import ticks


@given(st.floats(-50, 0), st.floats(0, 5000))
def test_an_axis_holds_nought_and_all_values(low, high):
    marks = ticks(low, high)
    assert 0 in marks and marks[0] <= low + 1e-6 and marks[-1] >= high - 1e-6
    assert 2 <= len(marks) <= 8
    steps = [after - before for before, after in pairwise(marks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-6)
