"""The C library's memory allocator, told how tensors live."""

import ctypes
import os
import re
import sys
from functools import cache
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
_THRESHOLD_BYTES = 12 << 20
_USUAL_MAPPED, _USUAL_PAD = 65536, 128 << 10
"""glibc's own values of what `keep_blocks` changes."""
_PAD_BYTES = 64 << 20
_MOST = (1 << 31) - 1
_MOST_BY_ITSELF = 32 << 20
"""The largest blocks that glibc by and by keeps in its heap by itself; at its end it then leaves twice as much free."""
_HOLES = 1.15
"""How much more than after the largest piece of work a heap may hold."""
_asked_for: list[str] = []
"""What training chose, for the rest of the process."""


def keep_blocks() -> bool:
    """Let freed blocks of any size stay in the heap for the next; whether that could be done.

    A model of few layers is no sooner through a block than it is freed, and pages that come fresh from the system at
    every step are then 40 % of the time of training (dev/LOG.md). Costs holes in the heap. Other C libraries than glibc
    are left alone.
    """
    _asked_for.append("blocks stay")
    return _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST), (_M_TOP_PAD, _PAD_BYTES))


def return_large_blocks() -> bool:
    """Let blocks of 12 MiB and more go back to the system when they are freed; whether that could be done.

    glibc by and by keeps blocks of up to 32 MiB in its heap, where tensors of ever other sizes tear holes: training
    BLOOM of 1024 dimensions in packed micro-batches then held 0.3 to 0.6 GB that no tensor used. Smaller blocks
    stay in the heap, its end too, until `give_back_free`: fresh pages at every step are a sixth of the time of training
    Gemma (dev/LOG.md). Other C libraries are left alone.
    """
    _asked_for.append("large blocks go")
    heap = ((_M_MMAP_MAX, _USUAL_MAPPED), (_M_TRIM_THRESHOLD, _MOST), (_M_TOP_PAD, _USUAL_PAD))
    return _mallopt(*heap, (_M_MMAP_THRESHOLD, _THRESHOLD_BYTES))


@cache
def keep_temporaries() -> bool:
    """Let the process, once, keep as much of what it frees as glibc would by and by; whether that could be done.

    A layer's temporaries come again in the next, and as fresh pages they took 3 to 15 % of its time (dev/LOG.md).
    What training chose goes before, and so does `MALLOC_TRIM_THRESHOLD_` in the environment.
    """
    if _asked_for or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    return _mallopt((_M_MMAP_THRESHOLD, _MOST_BY_ITSELF), (_M_TRIM_THRESHOLD, 2 * _MOST_BY_ITSELF))


def _mallopt(*settings: tuple[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings)


def give_back_free() -> bool:
    """Hand pages that no block uses back to the system, of every thread's heap; whether some were.

    Takes a few milliseconds; what is allocated next faults its pages in again.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) == 1


class Heap:
    """What a repeated piece of work leaves in the heap stays for the next, until holes make it grow.

    Blocks of ever other sizes tear holes. `after` is told how much each piece was; once the process holds more than
    after the largest so far, and a little, what is free is given back.
    """

    def __init__(self) -> None:
        self._largest, self._limit = -1, 0

    def after(self, work: int) -> bool:
        """Note a piece of `work` that has ended; whether memory was given back."""
        taken = resident_bytes()
        if taken is None:
            return False
        if work > self._largest:
            self._largest, self._limit = work, int(_HOLES * taken[0])
            return False
        return taken[0] > self._limit and give_back_free()


def resident_bytes() -> tuple[int, int] | None:
    """What of this process lies in memory now, and the most that did so far; None where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    now, most = (re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
    return (int(now[1]) << 10, int(most[1]) << 10) if now and most else None
