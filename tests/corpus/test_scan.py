from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.corpus.scan import HASH, HashLog, hash_bytes, repeated
from udever.errors import OutputError

NAMES = st.lists(st.integers(0, 30), max_size=60)


def log_of(path, numbers):
    path.unlink(missing_ok=True)  # hypothesis comes back to one folder
    log = HashLog(path)
    hashes = np.array([hash_bytes(str(n).encode()) for n in numbers], HASH)
    half = len(numbers) // 2
    log.add(hashes[:half], np.arange(half))
    log.add(hashes[half:], np.arange(half, len(numbers)))
    return log


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=NAMES, num_parts=st.integers(1, 5))
def test_parts_are_the_whole_in_order(tmp_path, numbers, num_parts):
    log = log_of(tmp_path / "log", numbers)
    parts = [log.part(number, num_parts) for number in range(num_parts)]
    together = np.concatenate(parts)
    expected = sorted((hash_bytes(str(n).encode()), tag) for tag, n in enumerate(numbers))
    assert [(e["hash"].ljust(16, b"\0"), e["tag"]) for e in together] == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=NAMES)
@pytest.mark.parametrize("at_once", [7, 1 << 20])
def test_repeated_as_counted_by_python(tmp_path, monkeypatch, numbers, at_once):
    monkeypatch.setattr("udever.corpus.scan._AT_ONCE", at_once)
    found = [e for part in repeated(log_of(tmp_path / "log", numbers)) for e in part]
    several = {n for n, count in Counter(numbers).items() if count > 1}
    assert {numbers[int(e["tag"])] for e in found} == several and len(found) == len(several)
    assert all(numbers.index(numbers[int(e["tag"])]) == int(e["tag"]) for e in found)  # the first of each


def test_hashes_that_end_in_zeros_stay_apart(tmp_path):
    log = HashLog(tmp_path / "log")
    log.add(np.array([b"a" + b"\0" * 15, b"a" + b"\0" * 14 + b"\1"], HASH), np.arange(2))
    assert not sum(len(part) for part in repeated(log))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_an_output_error_also_for_temporary_files():
    with pytest.raises(OutputError, match=r"cannot write /dev/full: No space left on device; free some space"):
        HashLog(Path("/dev/full")).add(np.zeros(1, HASH), 0)
