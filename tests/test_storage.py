import errno
import os
import subprocess
import sys

import pytest

from udever.errors import OutputError
from udever.storage import atomic_file, atomic_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_moved_into_place_and_its_parents_made(tmp_path):
    target = tmp_path / "a" / "b" / "out.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["out.txt"]


def test_a_file_is_as_before_where_the_block_fails(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "out"
    for content in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / "udever.json").write_text(content)
            (temporary / content).mkdir()
            (temporary / content / "deep.txt").write_text(content)
    assert names(target) == ["second", "udever.json"]
    assert (target / "second" / "deep.txt").read_text() == "second"
    assert names(tmp_path) == ["out"]


def test_a_folder_is_as_before_where_the_block_fails(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "udever.json").write_text("old")
    with pytest.raises(RuntimeError, match="mine"), atomic_folder(target) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError("mine")
    assert names(target) == ["udever.json"]
    assert names(tmp_path) == ["out"]


def test_a_folder_is_as_before_where_the_swap_fails(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    (target / "udever.json").write_text("old")
    replace = type(target).replace

    def failing(self, to):
        if self.name.endswith(".tmp") and to == target and (self / "new").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, to)

    monkeypatch.setattr(type(target), "replace", failing)
    with pytest.raises(OutputError, match="free some space"), atomic_folder(target) as temporary:
        (temporary / "new").write_text("new")
    assert names(target) == ["udever.json"]
    assert names(tmp_path) == ["out"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="new or empty"), atomic_folder(tmp_path):
        pass
    assert names(tmp_path) == ["thesis.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, code):
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(OutputError, match="free some space") as caught, atomic(tmp_path / "out"):
            raise OSError(code, os.strerror(code))
        assert "\n" not in str(caught.value)
        assert names(tmp_path) == []


def test_a_limit_of_the_system_is_an_error_and_leaves_nothing(tmp_path):
    """A true EFBIG, in a process of its own that may not write more than a kilobyte."""
    script = """
import resource, signal, sys
from udever.errors import OutputError
from udever.storage import atomic_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    with atomic_file(sys.argv[1]) as temporary:
        temporary.write_bytes(b"x" * 5000)
except OutputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert "free some space" in done.stdout
    assert names(tmp_path) == []


def test_a_wrong_kind_of_target_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a folder"), atomic_file(tmp_path / "folder"):
        pass
    with pytest.raises(OutputError, match="is a file"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="cannot write"), atomic_file(tmp_path / "file" / "below"):
        pass
    with pytest.raises(OutputError, match="cannot write"), atomic_folder(tmp_path / "file" / "below"):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(OutputError), atomic_file(tmp_path / "out"):
        pass
    assert names(tmp_path) == []
