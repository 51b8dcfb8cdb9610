import shutil

import numpy as np
import pytest

from udever.errors import ContractError, OutputError
from udever.search.audit import audit
from udever.search.index import Index
from udever.search.lance import LanceStore
from udever.search.seal import damage

TREE = {f"f{n}.md": f"# Title {n}\n\nText number {n} about {n * 7} things.\n" for n in range(30)}


@pytest.fixture
def made(tmp_path, put, embedder, index):
    """An index in a folder and a way to audit and to update it."""
    tree = put(tmp_path / "tree", TREE)
    place = tmp_path / "index"
    index.update(LanceStore(place), [tree], embedder)
    assert audit(str(place), None).findings == []
    return place, tree


def files_of(place):
    hidden = {".seal.json", ".udever-output.json", "lock"}
    return sorted(path for path in place.rglob("*") if path.is_file() and path.name not in hidden)


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_flipped_bit_is_found(made):
    place, _ = made
    rng = np.random.default_rng(0)
    files = files_of(place)
    for _ in range(40):
        path = files[rng.integers(len(files))]
        before = path.read_bytes()
        flip(path, int(rng.integers(8 * len(before))))
        assert damage(place) == [
            f"{path.relative_to(place).as_posix()}: its bytes are not those that were written (digest)"
        ]
        path.write_bytes(before)
    flip(place / ".seal.json", 99)
    assert ".seal.json is damaged" in damage(place)[0]


def truncated(place):
    path = max(files_of(place), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-100])


def randomised(place):
    path = max((place / "chunks.lance" / "data").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[100:164] = bytes(range(64))
    path.write_bytes(data)


def emptied(place):
    shutil.rmtree(place / "chunks.lance")


def beheaded(place):
    shutil.rmtree(place / "manifest.lance")


def enriched(place):
    (place / "chunks.lance" / "_versions" / "1.manifest").write_bytes(b"not ours")


@pytest.mark.parametrize("harm", [truncated, randomised, emptied, beheaded, enriched])
def test_what_is_damaged_is_found_and_made_anew(made, embedder, index, harm):
    place, tree = made
    expected = index.contents(LanceStore(place))
    harm(place)
    assert audit(str(place), None).findings
    done = index.update(LanceStore(place), [tree], embedder, model=None)
    assert done.damaged and done.num_changed == 30
    assert index.contents(LanceStore(place)) == expected
    assert audit(str(place), None).findings == []
    assert not index.update(LanceStore(place), [tree], embedder).damaged


def test_a_sample_finds_vectors_that_were_sealed_anew(made, embedder):
    place, _ = made
    store = LanceStore(place)
    found = audit(str(place), lambda name, precision: embedder, sample=100)
    assert found.findings == [] and found.num_sampled == found.num_chunks == 30
    chunks = store._table("chunks")
    table = chunks.search().limit(2).to_arrow()
    swapped = table.set_column(
        table.column_names.index("embedding"), "embedding", table["embedding"].take([1, 0]).combine_chunks()
    ).select(chunks.schema.names)
    chunks.merge_insert("id").when_matched_update_all().execute(swapped)
    (place / ".seal.json").unlink()
    found = audit(str(place), lambda name, precision: embedder, sample=100)
    assert len([one for one in found.findings if "is not what the model makes of its text" in one]) == 2
    assert any("did not come to its end" in one for one in found.findings)


def test_an_update_that_was_stopped_is_told_and_ended(made, embedder, index, put):
    place, tree = made

    class Stopping(type(embedder)):
        def encode_document(self, *args, **options):
            raise KeyboardInterrupt

    put(tree, {"new.md": "# New\n\nnew text\n"})
    with pytest.raises(KeyboardInterrupt):
        index.update(LanceStore(place), [tree], Stopping())
    assert audit(str(place), None).findings[0].startswith("its last update did not come to its end")
    assert not index.update(LanceStore(place), [tree], embedder).damaged
    assert audit(str(place), None).findings == []


def test_precision_is_part_of_the_index(made, embedder, index, put):
    place, tree = made
    other = type(embedder)()
    other.precision = "bfloat16"
    with pytest.raises(ContractError, match=r"computed in float32, fake is loaded in bfloat16; load it with --dtype"):
        Index(LanceStore(place)).search(other, "a question")
    put(tree, {"new.md": "# New\n\nnew text\n"})
    with pytest.raises(ContractError, match="computed in float32"):
        index.update(LanceStore(place), [tree], other)
    index.update(LanceStore(place), [tree], other, rebuild=True)
    assert Index(LanceStore(place)).manifest.precision == "bfloat16"


def test_a_lance_folder_of_others_is_left_alone(tmp_path, put, embedder, index):
    import lancedb

    tree = put(tmp_path / "tree", TREE)
    database = lancedb.connect(tmp_path / "theirs")
    database.create_table("chunks", [{"id": 1, "mine": "years of work"}])
    with pytest.raises(OutputError, match=r"such as chunks\.lance"):
        index.update(LanceStore(tmp_path / "theirs"), [tree], embedder)
    store = LanceStore(f"file://{tmp_path / 'theirs'}")
    with pytest.raises(OutputError, match="'chunks' that is not an index's"):
        store.create(64)
    assert database.open_table("chunks").to_arrow().to_pylist() == [{"id": 1, "mine": "years of work"}]


def test_a_stray_file_beside_the_tables_is_no_damage(made, embedder, index):
    place, tree = made
    (place / ".DS_Store").write_bytes(b"Mac")
    assert damage(place) == []
    done = index.update(LanceStore(place), [tree], embedder)
    assert (done.damaged, done.num_embedded) == ([], 0)
    (place / ".DS_Store").unlink()
    assert damage(place) == [], "nor was it sealed"


def test_killed_while_the_first_manifest_was_made(made, embedder, index):
    place, tree = made
    shutil.rmtree(place / "manifest.lance" / "_versions")
    empty = place.with_name("empty")
    (empty / "..udever-output.json.0123abcd.tmp").mkdir(parents=True)
    (empty / "..udever-output.json.0123abcd.tmp" / ".udever-lock").write_text("")
    assert index.update(LanceStore(empty), [tree], embedder).num_chunks == 30
    (place / ".seal.json").unlink()
    assert LanceStore(place).read_manifest() is None
    assert index.update(LanceStore(place), [tree], embedder).num_chunks == 30
    assert audit(str(place), None).findings == []
