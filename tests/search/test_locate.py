import pytest

from udever.errors import DataError, OutputError
from udever.search.lance import LanceStore
from udever.search.locate import find_index, open_store, place_for


@pytest.fixture
def tree(tmp_path, put, embedder, index):
    tree = put(tmp_path / "tree", {"a/b/c.py": "x = 1\n"})
    index.update(LanceStore(tree / ".udever" / "index"), [tree], embedder)
    return tree


def test_an_index_is_found_from_its_folder_from_below_and_by_itself(tree, monkeypatch):
    place = str(tree / ".udever" / "index")
    assert find_index(str(tree)) == find_index(place) == place
    monkeypatch.chdir(tree / "a" / "b")
    assert find_index(None) == place
    assert find_index("s3://bucket/x") == "s3://bucket/x"


def test_no_index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no index in .*; make one with: udever index \. -m MODEL"):
        find_index(None)
    with pytest.raises(DataError, match="udever index there -m MODEL"):
        find_index("there")


def test_where_an_index_is_made(tree, tmp_path):
    place = str(tree / ".udever" / "index")
    assert place_for([tree / "a" / "b"], None) == place, "the one above covers it"
    (tmp_path / "new").mkdir()
    assert place_for([tmp_path / "new"], None) == str(tmp_path / "new" / ".udever" / "index")
    assert place_for([tree], "gs://bucket/x") == "gs://bucket/x"
    with pytest.raises(OutputError, match="it is a file"):
        place_for([tree], str(tree / "a/b/c.py"))


def test_the_address_chooses_the_store(tmp_path):
    assert isinstance(open_store(tmp_path / "x"), LanceStore)
    with pytest.raises(DataError, match="does not answer"):
        open_store("postgresql://nobody@127.0.0.1:9/x#name")
    with pytest.raises(DataError, match="cannot open"):
        open_store("nosuch://x/y")
