"""An index in a folder that somebody else made: shown, and otherwise not believed."""

import os
import sys
from pathlib import Path

import pytest

from udever.errors import DataError, ModelError
from udever.search.index import Index
from udever.search.locate import NAME, check_found, open_store, own_model
from udever.search.store import parse_manifest

TREE = {"src/a.py": "def parse(text):\n    return load(text)\n", "b.md": "# Guide\n\nHow to parse.\n"}


@pytest.fixture
def tree(tmp_path, put, embedder, index):
    """A folder with its index inside."""
    folder = put(tmp_path / "home" / "clone", TREE)
    index.update(open_store(folder / NAME), [folder], embedder)
    return folder


def forge(tree, **changes):
    store = open_store(tree / NAME)
    manifest = parse_manifest(store.read_manifest(), "x")
    store.write_manifest(manifest.model_copy(update=changes).model_dump_json())
    return store


@pytest.mark.parametrize("base", ["/etc", "/", "../../..", "../../../..", ".", "../../src"])
def test_files_are_read_below_the_folder_of_the_index_alone(base, tree):
    assert Index(open_store(tree / NAME)).read("src/a.py").first_line == 1
    index = Index(forge(tree, base=base))
    with pytest.raises(DataError, match="--root"):
        index.read("src/a.py")
    with pytest.raises(DataError, match="is not in the index"):
        Index(index.store, Path("/etc")).read("passwd")
    assert Index(index.store, tree).read("src/a.py").first_line == 1


def test_another_place_needs_its_base_by_hand(tmp_path, tree, embedder, index):
    store = open_store(tmp_path / "elsewhere")
    index.update(store, [tree], embedder)
    with pytest.raises(DataError, match=f"--root {tree}"):
        Index(store).read("src/a.py")
    assert Index(store, tree).read("src/a.py").first_line == 1


def test_a_found_index_is_not_followed_out_of_its_folder(tree, tmp_path):
    (tmp_path / "home" / "private").mkdir()
    check_found(open_store(tree / NAME), [tree])
    store = forge(tree, base="../../..", roots=("clone", "private"))
    with pytest.raises(DataError, match="private too"):
        check_found(store, [tree])
    check_found(store, [tree, tmp_path / "home" / "private"])


def test_a_hub_model_is_never_fetched_because_an_index_says_so(tree, monkeypatch):
    import huggingface_hub

    def forbidden(*given, local_files_only=False, **named):
        assert local_files_only, "the hub was asked"
        raise huggingface_hub.errors.LocalEntryNotFoundError("not there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", forbidden)
    for name in ("someone/model", "../model", "model", "/no/such/folder", "a/b/c"):
        with pytest.raises(ModelError, match=f"-m {name}"):
            Index(forge(tree, model=name)).own_model()
    assert own_model("seedling", "x") == "seedling"
    assert own_model(str(tree), "x") == str(tree)


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root gives files away")
def test_an_index_of_another_user_must_be_named(tree, monkeypatch):
    monkeypatch.chdir(tree / "src")
    assert Index.open().status().num_files == 2
    os.chown(tree / NAME, 12345, -1)
    with pytest.raises(DataError, match="another user"):
        Index.open()
    assert Index.open(str(tree)).status().num_files == 2
    with pytest.raises(DataError, match="another user"):
        check_found(open_store(tree / NAME), [tree])
