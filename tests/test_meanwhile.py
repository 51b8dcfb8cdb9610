"""Files that others write, replace or take away while they are read or written here."""

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from udever import Embedder, loading, storage, terminal
from udever.corpus import folder as layout
from udever.errors import ContractError, DataError, OutputError
from udever.evaluation.run import TaskJob
from udever.pairs.files import ROWS_SCHEMA, hold
from udever.search import locate
from udever.server import run as serving
from udever.source import git


@pytest.mark.parametrize("family", ["bloom", "gpt_neox"])
def test_weights_in_memory_are_not_those_of_a_file_that_is_written_into(family, make, tmp_path):
    folder = make.decoder(family, tmp_path / "model")
    embedder = Embedder.load(folder, dtype="float32")
    expected = embedder.encode("a text")
    with (folder / "model.safetensors").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    np.testing.assert_array_equal(embedder.encode("a text"), expected)


def test_a_model_that_is_replaced_while_it_is_loaded_is_refused(make, tmp_path, monkeypatch):
    folder, other = make.decoder("qwen3", tmp_path / "model"), make.decoder("qwen3", tmp_path / "other")
    load = loading.load_backbone

    def after_another(*arguments, **options):
        folder.rename(tmp_path / "old")
        other.rename(folder)
        return load(*arguments, **options)

    monkeypatch.setattr(loading, "load_backbone", after_another)
    with pytest.raises(ContractError, match="was changed while it was loaded"):
        Embedder.load(folder, dtype="float32")


def test_a_table_that_is_changed_while_it_is_read_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("UDEVER_CACHE", str(tmp_path / "cache"))
    table = tmp_path / "pairs.jsonl"
    table.write_text("before")
    is_same = storage.unchanged([table])

    def read():
        table.write_text("meanwhile")
        yield pa.RecordBatch.from_pylist([], ROWS_SCHEMA)

    with pytest.raises(DataError, match="changed while it was read"):
        hold(read, "a key", 10**9, is_same)
    assert not list((tmp_path / "cache").glob("*.arrow"))


def test_a_task_whose_data_are_changed_while_it_is_scored_has_no_score():
    TaskJob("task", "before", dict, fingerprint=lambda: "before").check_unchanged()
    with pytest.raises(DataError, match="changed while it was scored"):
        TaskJob("task", "before", dict, fingerprint=lambda: "after").check_unchanged()


def test_two_servers_on_one_port_are_refused_before_the_second_says_that_it_serves():
    first = serving._listening("127.0.0.1", 0)
    with first, pytest.raises(OutputError, match="cannot listen on"):
        serving._listening("127.0.0.1", first.getsockname()[1])
    assert isinstance(first, socket.socket)


def test_an_index_that_another_process_is_beginning_is_no_foreign_folder(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / f".{storage.MARKER}.0a1b2c3d.tmp").mkdir()
    (folder / f".{storage.MARKER}.0a1b2c3d.tmp" / "theirs").write_text("")
    (folder / "lock").write_text("")
    locate.prepare(folder)
    assert storage.is_output(folder, "index")


def test_another_job_that_began_before_the_lock_was_had_is_not_taken_for_ones_own(tmp_path, monkeypatch):
    held = layout.held_alone

    @contextmanager
    def after_another(lock, busy):
        monkeypatch.setattr(layout, "held_alone", held)
        with layout.at_work(tmp_path / "out", {"udever.fingerprint": "theirs"}, {"column": "text"}):
            pass
        with held(lock, busy):
            yield

    monkeypatch.setattr(layout, "held_alone", after_another)
    with (
        pytest.raises(ContractError, match="holds results with fingerprint theirs"),
        layout.at_work(tmp_path / "out", {"udever.fingerprint": "ours"}, {"column": "text"}),
    ):
        pytest.fail("the folder of another job was taken")


def test_a_shard_that_was_taken_away_is_told(tmp_path):
    (tmp_path / layout.SHARDS).mkdir()
    with pytest.raises(OutputError, match="a shard has gone"):
        layout.place_shards(tmp_path, ["0" * 32])


def test_a_probe_that_another_writer_has_removed_refuses_nothing(tmp_path, monkeypatch):
    remove = Path.rmdir

    def after_another(path):
        remove(path)
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "rmdir", after_another)
    storage.check_replaceable(tmp_path / "out", "model")


def test_a_path_that_libraries_cannot_take_is_refused_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="its path is not UTF-8") as caught:
        storage.check_replaceable(tmp_path / os.fsdecode(b"x\xff"), "model")
    assert str(caught.value).encode()


def test_a_user_without_a_home_folder(monkeypatch, tmp_path):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    for name in ("HOME", "UDEVER_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MTEB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OutputError, match="set UDEVER_CACHE"):
        storage.cache_folder()
    git._user_excludes(tmp_path)
    terminal.quiet_mteb()
    assert Path(os.environ["MTEB_CACHE"]).is_dir()
