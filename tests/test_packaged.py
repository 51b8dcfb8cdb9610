"""Models that are packages of their own: what is missing is one line, and nothing half put together stays."""

import json
import shutil
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from udever import packaged
from udever.errors import ModelError, OutputError
from udever.packaged import Packaged, packaged_folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of two parts whose file is no GGUF file; its `assemble` can be made to fail."""
    part = tmp_path / "part"
    part.write_bytes(b"x" * 100)

    def assemble(path, overwrite):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        if module.fails:
            raise module.fails

    module = SimpleNamespace(
        EXPECTED_SHA256="ab" * 32,
        MODEL_NAME="tiny.gguf",
        chunk_paths=lambda: [part, part],
        assemble=assemble,
        fails=None,
        __spec__=SimpleNamespace(),
    )
    monkeypatch.setitem(sys.modules, "a_package", module)
    monkeypatch.setattr(packaged, "PACKAGED", {"tiny": Packaged("a_package", "pip install a", "its terms", 1000)})
    monkeypatch.setenv("UDEVER_CACHE", str(tmp_path / "cache"))
    yield module
    assert not list((tmp_path / "cache").rglob("*.gguf"))


def refused(what, kind=ModelError):
    with pytest.raises(kind, match=what) as caught:
        packaged_folder("tiny")
    assert "\n" not in str(caught.value)


def test_a_package_that_is_not_installed_is_named_with_its_terms(package, monkeypatch):
    monkeypatch.delitem(sys.modules, "a_package")
    refused(r"pip install a \(its terms\)")
    assert packaged_folder("another") is None


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'a_package_part2'"), ValueError("sha256")])
def test_a_part_that_is_missing_or_damaged_is_one_line(package, error):
    package.fails = error
    refused("cannot be put together: .*pip install a --force-reinstall")


def test_a_file_that_cannot_be_read_is_removed(package):
    refused("no GGUF file")


def test_a_full_disk_is_told_before_the_work(package, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1100))
    package.fails = RuntimeError("began")
    refused("GB free", OutputError)


def test_two_that_begin_at_once_put_it_together_once(package, monkeypatch):
    began = []

    def slowly(path):
        began.append(path)
        time.sleep(0.3)
        assert path.read_bytes() == b"half"
        folder = packaged.converted_folder(package.EXPECTED_SHA256)
        folder.mkdir(parents=True)
        (folder / packaged.SOURCE_FILE).write_text(json.dumps({}))
        return folder

    monkeypatch.setattr(packaged, "gguf_folder", slowly)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(packaged_folder, ["tiny", "tiny"])
    assert one == other
    assert len(began) == 1
