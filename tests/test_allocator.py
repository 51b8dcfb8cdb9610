"""Large blocks go back to the system or stay in the heap, as was asked for."""

import subprocess
import sys

import pytest

from udever import allocator
from udever.allocator import keep_temporaries

PROGRAM = """
import sys
from pathlib import Path
from udever.allocator import keep_blocks, return_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

import torch
asked = {"return": [return_large_blocks], "both": [keep_blocks, return_large_blocks]}
assert all(ask() for ask in asked.get(sys.argv[1], []))
torch.ones(30 << 20, dtype=torch.uint8)  # the first free of a mapped block raises glibc's own threshold
kept = []
before = resident()
for size in range(13, 29):
    block = torch.ones(size << 20, dtype=torch.uint8)
    kept.append(torch.ones(1 << 20, dtype=torch.uint8))  # holds the heap open behind the block
    del block
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is asked, on Linux alone")
def test_freed_tensors_leave_the_process():
    def held(how):
        done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert held("return") < 24 << 20
    assert held("both") < 24 << 20  # the last that was asked for counts
    assert held("leave") > 32 << 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is asked, on Linux alone")
def test_what_training_frees_is_not_faulted_in_again_at_every_step():
    program = """
import resource, torch
from udever.allocator import return_large_blocks
assert return_large_blocks()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(4 << 20, dtype=torch.uint8).add_(1) for _ in range(16)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_384 / 8, "64 MiB are 16,384 pages"


def test_a_heap_is_given_back_where_holes_make_it_grow(monkeypatch):
    """Not where a larger piece of work needs more: each entry is work, what the process holds after it, given back."""
    given = []
    monkeypatch.setattr(allocator, "give_back_free", lambda: given.append(1) or True)
    heap = allocator.Heap()
    steps = [(10, 100, False), (5, 114, False), (5, 116, True), (20, 300, False), (19, 340, False), (20, 346, True)]
    for work, held, expected in steps:
        monkeypatch.setattr(allocator, "resident_bytes", lambda held=held: (held, held))
        assert heap.after(work) is expected
    assert len(given) == 2
    monkeypatch.setattr(allocator, "resident_bytes", lambda: None)  # the system does not tell
    assert not heap.after(1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is asked, on Linux alone")
def test_kept_blocks_are_faulted_in_once():
    program = """
import resource, sys, torch
from udever.allocator import keep_blocks
asked = sys.argv[1] == "ask" and keep_blocks()
for _ in range(4):  # the heap takes its shape in the first two
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.zeros(100 << 20, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

    def faults(how):
        done = subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("ask") < faults("leave") / 10


FAULTING = """
import resource, sys
import numpy
from udever import allocator

if sys.argv[1] == "train":
    assert allocator.return_large_blocks()
if sys.argv[1] != "leave":
    assert allocator.keep_temporaries() == (sys.argv[1] == "ask")
def layer():
    blocks = [numpy.ones(16 << 20, dtype=numpy.uint8) for _ in range(3)]
layer()
layer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
layer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is asked, on Linux alone")
def test_temporaries_that_come_again_are_no_fresh_pages(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)

    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTING, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    left = faults("leave")
    assert faults("ask") < left / 10
    assert faults("train") > left / 10  # training's own wish goes before


def test_a_wish_in_the_environment_goes_before(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_temporaries.__wrapped__()
