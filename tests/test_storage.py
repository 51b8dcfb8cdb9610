import errno
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from udever.errors import OutputError
from udever.storage import MARKER, atomic_file, atomic_folder, check_replaceable, clean, remove_output


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def model_folder(target):
    return atomic_folder(target, "model")


@pytest.fixture
def out(tmp_path):
    """An earlier output."""
    with atomic_folder(tmp_path / "out", "model") as temporary:
        (temporary / "result").write_text("old")
    return tmp_path / "out"


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
        with atomic_folder(target, "model") as temporary:
            (temporary / "udever.json").write_text(content)
            (temporary / "empty").mkdir()
            (temporary / content).mkdir()
            (temporary / content / "deep.txt").write_text(content)
    assert names(target) == [MARKER, "empty", "second", "udever.json"]
    assert (target / "second" / "deep.txt").read_text() == "second"
    assert names(tmp_path) == ["out"]
    assert json.loads((target / MARKER).read_text())["files"] == ["empty/", "second/deep.txt", "udever.json"]


def test_a_folder_is_as_before_where_the_block_fails(out, tmp_path):
    with pytest.raises(RuntimeError, match="mine"), atomic_folder(out, "model") as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError("mine")
    assert names(out) == [MARKER, "result"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_is_as_before_where_the_swap_fails(out, tmp_path, monkeypatch, in_one_step):
    replace = type(out).replace

    def failing(self, to):
        if to == out and (self / "new").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, to)

    monkeypatch.setattr(type(out), "replace", failing)
    if in_one_step:
        monkeypatch.setattr("udever.storage.sync", lambda path: (path / "gone").stat())
    else:
        monkeypatch.setattr("udever.storage._exchange", lambda *_: False)
    with pytest.raises(OutputError), atomic_folder(out, "model") as temporary:
        (temporary / "new").write_text("new")
    assert names(out) == [MARKER, "result"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "content",
    [
        {"results.json": "{}", "thesis.txt": "years of work"},
        {"udever.json": "{}", "checkpoint.json": "{}", "filter.json": "{}"},
        {MARKER: "{}", "thesis.txt": ""},
        {MARKER: '{"udever_output": "model", "format": 1, "files": ["../thesis.txt"]}', "thesis.txt": ""},
        {"thesis.txt": "years of work"},
    ],
)
def test_a_folder_of_other_files_is_not_replaced(tmp_path, content):
    folder = tmp_path / "p"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(OutputError, match=f"such as {re.escape(min(content))}"), atomic_folder(folder, "model"):
        pass
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


def add(out, name):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("years of work")


@pytest.mark.parametrize("name", ["thesis.txt", "sub/thesis.txt", "inner/thesis.txt", ".hidden"])
def test_what_udever_did_not_write_is_named_and_stays(out, name):
    with atomic_folder(out, "model") as temporary, atomic_folder(temporary / "inner", "filter") as inner:
        (inner / "head").write_text("1")
    add(out, name)
    shown = name.split("/")[0] if name.startswith("sub/") else name
    with pytest.raises(OutputError, match=f"did not write: {re.escape(shown)};"):
        check_replaceable(out, "model")
    (out / name).unlink()
    if name.startswith("sub"):
        with pytest.raises(OutputError, match="did not write: sub"):
            check_replaceable(out, "model")
        (out / "sub").rmdir()
    (out / "link").symlink_to(out / "inner")
    with pytest.raises(OutputError, match="did not write: link"):
        check_replaceable(out, "model")
    (out / "link").unlink()
    check_replaceable(out, "model")
    with atomic_folder(out / "inner", "filter") as inner:  # an output inside an output may change by itself
        (inner / "other").write_text("2")
    with atomic_folder(out, "model") as temporary:
        (temporary / "last").write_text("3")
    assert names(out) == [MARKER, "last"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_what_comes_while_we_write_stays(out, monkeypatch, in_one_step):
    if not in_one_step:
        monkeypatch.setattr("udever.storage._exchange", lambda *_: False)
    with pytest.raises(OutputError, match="thesis"), atomic_folder(out, "model") as temporary:
        (temporary / "new").write_text("new")
        add(out, "thesis.txt")
    assert names(out) == [MARKER, "result", "thesis.txt"]
    (out / "thesis.txt").unlink()
    monkeypatch.setattr("udever.storage.check_replaceable", lambda *_: add(out, "thesis.txt"))
    with pytest.raises(OutputError, match="thesis"), atomic_folder(out, "model") as temporary:
        (temporary / "new").write_text("new")
    assert names(out) == [MARKER, "result", "thesis.txt"]


def test_removing_an_output_removes_what_it_lists(out, tmp_path):
    add(out, "thesis.txt")
    remove_output(out, "filter")
    assert names(out) == [MARKER, "result", "thesis.txt"]
    remove_output(out, "model")
    assert names(out) == ["thesis.txt"]
    remove_output(tmp_path / "nothing", "model")


def test_another_kind_is_not_replaced(out):
    with pytest.raises(OutputError, match=r"another kind \(model, not filter\)"):
        check_replaceable(out, "filter")


def test_a_link_stays_and_what_it_leads_to_is_replaced(out, tmp_path):
    link, file = tmp_path / "link", tmp_path / "file-link"
    link.symlink_to("out")
    file.symlink_to("out/result")
    with atomic_folder(link, "model") as temporary:
        (temporary / "result").write_text("new")
    assert link.is_symlink() and (out / "result").read_text() == "new"
    with atomic_file(file) as temporary:
        temporary.write_text("newer")
    assert file.is_symlink() and (out / "result").read_text() == "newer"
    assert names(tmp_path) == ["file-link", "link", "out"]
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for atomic in (atomic_file, model_folder):
        with pytest.raises(OutputError, match="leads nowhere"), atomic(loop):
            pass


def test_places_that_no_output_may_be(tmp_path, monkeypatch):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "texts").write_text("x")
    monkeypatch.chdir(tmp_path / "in")
    for place in (".", "..", "/"):
        with pytest.raises(OutputError, match="the folder you are in"):
            check_replaceable(place, "model")
    for place, given, told in (
        ("deep", "../in", "lies in the input"),
        ("new", ".", "lies in the input"),
        ("deep", "deep", "lies in the input"),
        ("../in/deep", "deep/..", "lies in the input"),
    ):
        with pytest.raises(OutputError, match=told):
            check_replaceable(place, "model", [given])
    monkeypatch.chdir(tmp_path / "in" / "deep")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "texts").write_text("x")
    with pytest.raises(OutputError, match=r"the input .* lies in it"):
        check_replaceable(tmp_path / "other", "model", [tmp_path / "other" / "texts"])
    check_replaceable(tmp_path / "new", "model", ["../texts", "org/model", tmp_path / "other"])
    with pytest.raises(OutputError, match="mount point"):
        check_replaceable("/proc", "model")
    with pytest.raises(OutputError, match="no regular file"), atomic_file("/dev/null"):
        pass


def test_killed_anywhere_nothing_is_lost_and_the_next_run_cleans(killed, tmp_path, monkeypatch):
    def write(target, content):
        with atomic_folder(target / "out", "model") as folder:
            (folder / "result").write_text(content)
        with atomic_file(target / "file") as temporary:
            temporary.write_text(content)

    for in_one_step in (True, False):
        if not in_one_step:
            monkeypatch.setattr("udever.storage._exchange", lambda *_: False)
        count = killed(lambda: write(tmp_path / "count", "old") or write(tmp_path / "count", "new"), 10**9)
        for event in range(count // 2, count):
            place = tmp_path / f"{in_one_step}{event}"
            write(place, "old")
            assert killed(lambda place=place: write(place, "old") or write(place, "new"), event) is None
            if in_one_step:
                assert (place / "out" / "result").read_text() in ("old", "new")
            clean(place, "out")
            assert (place / "out" / "result").read_text() in ("old", "new")
            assert names(place / "out") == [MARKER, "result"]
            assert (place / "file").read_text() in ("old", "new")
            write(place, "newest")
            assert names(place) == ["file", "out"]
            assert (place / "out" / "result").read_text() == (place / "file").read_text() == "newest"


def test_the_temporary_folder_of_a_living_writer_stays(tmp_path):
    with atomic_file(tmp_path / "out") as first, atomic_file(tmp_path / "out") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "out").read_text() == "first"
    (tmp_path / ".out.12345678.tmp").mkdir()
    (tmp_path / ".out.12345678.tmp" / "mine").write_text("not udever's")
    with atomic_file(tmp_path / "out") as temporary:
        temporary.write_text("third")
    assert names(tmp_path) == [".out.12345678.tmp", "out"]


def test_many_writers_of_one_file_do_not_take_each_others_temporary_folders(tmp_path):
    def write(number):
        for _ in range(100):
            with atomic_file(tmp_path / "out") as temporary:
                temporary.write_text(f"{number}" * 9)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert (tmp_path / "out").read_text() in {f"{number}" * 9 for number in range(8)}
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path, code):
    for atomic in (atomic_file, model_folder):
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


@pytest.mark.parametrize(
    "write",
    [
        "from safetensors.numpy import save_file; import numpy; save_file({'x': numpy.ones(9999)}, folder / 'x')",
        "from tokenizers import Tokenizer, models; Tokenizer(models.BPE({'a' * 9999: 0}, [])).save(str(folder / 'x'))",
    ],
)
def test_a_limit_of_the_system_that_a_library_meets_is_the_same_error(tmp_path, write):
    script = f"""
import resource, signal, sys
from udever.errors import OutputError
from udever.storage import atomic_folder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    with atomic_folder(sys.argv[1], "model") as folder:
        {write}
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
    with pytest.raises(OutputError, match="is a file"), model_folder(tmp_path / "file"):
        pass
    with pytest.raises(OutputError, match="cannot write"), atomic_file(tmp_path / "file" / "below"):
        pass
    with pytest.raises(OutputError, match="cannot write"), model_folder(tmp_path / "file" / "below"):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(OutputError), atomic_file(tmp_path / "out"):
        pass
    assert names(tmp_path) == []
