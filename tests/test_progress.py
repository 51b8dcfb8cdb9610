"""What is written while work runs: nothing twice, a plain line a minute where nobody looks at a terminal."""

import io
import sys

import pytest

from udever import progress
from udever.progress import duration, progress_bar


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    turned = Clock()
    monkeypatch.setattr(progress, "time", turned)
    return turned


def test_a_pipe_gets_a_plain_line_a_minute_with_the_time_left(capsys, clock):
    with progress_bar("training", 500, completed=100) as advance:
        for step in range(1, 21):
            clock.now = 10.0 * step
            advance(note=f"loss {step}")
    assert capsys.readouterr().err.splitlines() == [
        "training: 106 of 500, 66 min left, loss 6",
        "training: 112 of 500, 65 min left, loss 12",
        "training: 118 of 500, 64 min left, loss 18",
    ]


def test_a_count_without_an_end_and_short_work(capsys, clock):
    with progress_bar("reading", None) as advance:
        advance(7)
        clock.now = 61.0
        advance(1000)
    with progress_bar("short", 2) as advance:
        advance(2)
    with progress_bar("hidden", 2, enabled=False) as advance:
        clock.now = 1000.0
        advance(2, note="x")
    assert capsys.readouterr().err == "reading: 1,007\n"


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress_bar("training", 4, completed=1) as advance:
        advance(3, note="loss 1.5")
    assert "4/4" in shown.getvalue() and "loss 1.5" in shown.getvalue()


def test_durations():
    assert [duration(s) for s in (90, 600, 12_600)] == ["90 s", "10 min", "3.5 h"]
