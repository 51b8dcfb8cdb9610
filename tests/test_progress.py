"""What is written while work runs: nothing twice, a plain line a minute where nobody looks at a terminal."""

import io
import sys
import threading
import time

from udever import progress
from udever.progress import duration, progress_bar


def test_a_line_has_what_is_done_the_time_left_and_the_note():
    lines = progress._Lines("training", 500, 100)
    assert lines.line(60) == "training: 100 of 500"
    lines.advance(6, "loss 6")
    assert lines.line(60) == "training: 106 of 500, 66 min left, loss 6"
    lines.advance(12)
    assert lines.line(180) == "training: 118 of 500, 64 min left, loss 6"
    lines = progress._Lines("reading", None, 0)
    lines.advance(1007)
    assert lines.line(61) == "reading: 1,007"


def test_a_pipe_gets_a_line_a_minute_though_a_step_takes_many(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.02)
    written = []
    with progress_bar("training", 4) as advance:
        advance(0, note="scoring the base")
        while len(written) < 3:
            written += capsys.readouterr().err.splitlines()
    assert set(written) == {"training: 0 of 4, scoring the base"}
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_short_and_hidden_work_write_nothing(capsys, monkeypatch):
    with progress_bar("short", 2) as advance:
        advance(2)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.001)
    with progress_bar("hidden", 2, enabled=False) as advance:
        time.sleep(0.02)
        advance(2, note="x")
    assert capsys.readouterr().err == ""


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
