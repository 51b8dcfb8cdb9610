"""The processors of this machine: how many threads compute on them, how those wait, and what others take meanwhile."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

QUIET_SPINS = 3000
"""How often a thread of GNU OpenMP looks again before it sleeps: longer than Python takes between two products, and
within 3 % of its own default of 300,000."""
BUSY_SPINS = 0
"""The same beside other work: a thread that looks has the processor that another thread of the same product needs."""
BUSY_FROM = 0.4
"""How many processors' worth others take where it counts as beside other work."""
_WINDOW_S = 30.0  # seconds of work that are compared with those before
_SLOWER = 1.15
_BLOCK_MS = 0  # LLVM's and Intel's OpenMP count milliseconds; their default is 200
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_THREADS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
_IDLE = slice(3, 5)  # idle, and idle while the disk is read
_LEAST_SECONDS = 0.1  # of all processors together; the system counts in hundredths
_LONGEST_WAIT = 0.1  # seconds until there are as many


def wait_gently(others: "OthersLoad | None" = None) -> None:
    """Let threads that wait for one another sleep soon, for this process and those it starts; at once beside others.

    By default they spin for a millisecond and more after every product, and beside another busy process each product
    then waits for the thread that has no processor. `others` has looked since the command began; without it, or where
    the system does not tell, the machine counts as quiet. How many threads there are stays, and so does every result.
    What the environment says already stays. Without effect on a torch that is loaded.
    """
    if not any(os.environ.get(name) for name in _WAITING):
        taken = others.processors() if others is not None else None
        os.environ["GOMP_SPINCOUNT"] = str(BUSY_SPINS if taken is not None and taken >= BUSY_FROM else QUIET_SPINS)
        os.environ["KMP_BLOCKTIME"] = str(_BLOCK_MS)


def use_threads(count: int) -> None:
    """Compute with `count` threads, here and in the processes that are started from here."""
    for name in _THREADS:
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


class OthersLoad:
    """What other processes take of the processors this one may use, from when it is made."""

    def __init__(self, stat: Path | None = None) -> None:
        self._stat = stat
        self._began = self._read()

    def share(self) -> float | None:
        """Their share of all the time there was, 0 to 1; None where the system does not tell, or too little passed."""
        now = self._read()
        if self._began is None or now is None:
            return None
        busy, total, own = (after - before for after, before in zip(now[:3], self._began[:3], strict=True))
        if total < _LEAST_SECONDS:
            return None
        return min(1.0, max(0.0, (busy - own) / total))

    def processors(self) -> float | None:
        """The same as a number of processors: 1.0 is one that others keep busy all the time.

        Where too little time passed it is waited for, a tenth of a second at most.
        """
        end = time.monotonic() + _LONGEST_WAIT
        while (share := self.share()) is None and self._began is not None and time.monotonic() < end:
            time.sleep(_LONGEST_WAIT / 10)
        return None if share is None or self._began is None else share * self._began[3]

    def _read(self) -> tuple[float, float, float, int] | None:
        """Seconds that these processors worked, that they had, and that this process worked; how many they are."""
        if sys.platform != "linux":
            return None
        try:
            tick = os.sysconf("SC_CLK_TCK")
            mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
            text = (self._stat or Path("/proc/stat")).read_text()
            lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
            times = [[int(value) for value in line[1:9]] for line in lines if line[0] in mine]
        except (OSError, ValueError):
            return None
        if not times:
            return None
        total = sum(map(sum, times)) / tick
        return total - sum(sum(line[_IDLE]) for line in times) / tick, total, time.process_time(), len(times)


class BusyWarning(UserWarning):
    """Other processes began to take processors in the middle of a run."""


class Company:
    """Sees whether others begin to take the processors of a run under way, when threads cannot change how they wait."""

    def __init__(self, look: Callable[[], OthersLoad] = OthersLoad) -> None:
        self._look = look
        self._alone: float | None = None  # seconds for a unit of work beside nobody
        self._is_told = os.environ.get("GOMP_SPINCOUNT") == str(BUSY_SPINS)  # nothing would be gained
        self._begin()

    def joins(self, seconds: float, amount: float) -> bool:
        """After `amount` of work in `seconds`: whether others came and it takes longer than before; True once."""
        self._seconds, self._amount = self._seconds + seconds, self._amount + amount
        if self._is_told or self._seconds < _WINDOW_S:
            return False
        taken, pace = self._others.processors(), self._seconds / max(1.0, self._amount)
        self._begin()
        if taken is not None and taken < BUSY_FROM:
            self._alone = pace if self._alone is None else min(pace, self._alone)
        elif taken is not None and self._alone is not None:
            self._is_told = pace > _SLOWER * self._alone
        return self._is_told

    def _begin(self) -> None:
        self._others, self._seconds, self._amount = self._look(), 0.0, 0.0
