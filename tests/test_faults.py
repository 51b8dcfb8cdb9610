import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench" / "faults.py"


def test_a_few_random_kills_leave_no_trace():
    command = [sys.executable, str(BENCH), "kills", "--number", "8", "--kinds", "embed", "classify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 with a trace") == 2
