"""The C library's memory allocator, told how tensors live."""

import ctypes
import os
import re
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_THRESHOLD_BYTES = 12 << 20
_MOST_BYTES = 32 << 20
"""The largest blocks that glibc keeps in its heap by itself, by and by; at its end it then keeps twice as much free."""
_wishes: set[str] = set()
"""What was asked for, which holds for the rest of the process."""


def return_large_blocks() -> bool:
    """Let blocks of 12 MiB and more go back to the system when they are freed; whether that could be done.

    glibc by and by keeps blocks of up to 32 MiB in its heap, where tensors of ever other sizes tear holes: training
    BLOOM of 1024 dimensions in packed micro-batches then held 0.3 to 0.6 GB that no tensor used. Smaller blocks
    stay in the heap, since fresh pages cost time (dev/LOG.md). Other C libraries are left alone.
    """
    _wishes.add("return large blocks")
    return _set(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)


def keep_freed_blocks() -> bool:
    """Let the process at once keep as much of what it frees as glibc would by and by; whether that could be done.

    A layer's temporaries come again in the next, and as fresh pages they take 5 to 10 % of a forward pass
    (dev/LOG.md). Left alone once `return_large_blocks` was asked for, and where `MALLOC_TRIM_THRESHOLD_` is set.
    """
    if _wishes or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    return _set(_M_MMAP_THRESHOLD, _MOST_BYTES) and _set(_M_TRIM_THRESHOLD, 2 * _MOST_BYTES)


def _set(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(option, value) == 1


def give_back_free() -> bool:
    """Hand pages that no block uses back to the system, of every thread's heap; whether some were.

    Takes a few milliseconds; what is allocated next faults its pages in again.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and trim(0) == 1


def resident_bytes() -> tuple[int, int] | None:
    """What of this process lies in memory now, and the most that did so far; None where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return None
    now, most = (re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
    return (int(now[1]) << 10, int(most[1]) << 10) if now and most else None
