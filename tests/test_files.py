import os
import socket
from pathlib import Path

import pytest

from udever.errors import DataError, FileRefused
from udever.files import open_regular, read_regular


def _reason(path: Path, **options: object) -> str:
    with pytest.raises(FileRefused) as caught:
        open_regular(path, **options)  # type: ignore[arg-type]
    assert isinstance(caught.value, DataError)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_regular_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    with open_regular(tmp_path / "a", root=tmp_path, max_bytes=3) as file:
        assert file.read() == b"one"
    assert read_regular(tmp_path / "a", max_bytes=3) == b"one"
    assert _reason(tmp_path / "a", max_bytes=2) == "holds more than 2 bytes"


def test_a_link_is_followed_only_below_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"one")
    (tmp_path / "secret").write_bytes(b"two")
    (root / "inside").symlink_to("a")
    (root / "outside").symlink_to("../secret")
    (root / "through").symlink_to(tmp_path)
    assert read_regular(root / "inside", root=root, max_bytes=9) == b"one"
    assert read_regular(root / "outside", max_bytes=9) == b"two"
    assert _reason(root / "outside", root=root) == "is a link out of its folder"
    assert _reason(root / "through" / "secret", root=root) == "is a link out of its folder"


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("fifo", "zero", "socket"):
            assert _reason(tmp_path / name) == "is not a regular file"
    assert _reason(tmp_path) == "is a folder"
    assert _reason(tmp_path / "none") == "does not exist"
    (tmp_path / "loop").symlink_to("loop")
    assert _reason(tmp_path / "loop") == "is a loop of links"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs a file whose size is told as 0")
def test_a_file_that_says_too_little_of_its_size_is_read_to_the_limit() -> None:
    with pytest.raises(FileRefused, match="holds more than 10 bytes"):
        read_regular(Path("/proc/self/maps"), max_bytes=10)


def test_a_name_that_is_no_utf8_is_told_in_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(FileRefused) as caught:
        open_regular(path)
    assert str(caught.value).encode()
