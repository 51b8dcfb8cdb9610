import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udever.corpus import Again, audit
from udever.corpus import folder as layout
from udever.corpus.shards import ShardName
from udever.errors import ContractError, DataError
from udever.storage import digest_file


@pytest.fixture
def out(corpus, fake_step, texts, tmp_path):
    corpus.run(fake_step(), corpus.jsonl(tmp_path / "a.jsonl", texts), tmp_path / "out")
    assert audit(tmp_path / "out").whole
    return tmp_path / "out"


def first_shard(out):
    return out / json.loads((out / "_manifest.json").read_text())["shards"][0]["file"]


def change(path, column, value, metadata=None):
    table = pq.read_table(path)
    place = table.column_names.index(column)
    field = table.schema.field(column)
    table = table.set_column(place, field, pa.array(value(table.column(column).to_pylist()), field.type))
    if metadata:
        table = table.replace_schema_metadata({**table.schema.metadata, **metadata})
    pq.write_table(table, path)


def scaled(values):
    return [values[0], (np.array(values[1]) * 1.5).tolist(), *values[2:]]


def poisoned(values):
    return [values[0], [float("nan"), *values[1][1:]], *values[2:]]


@pytest.mark.parametrize(
    ("column", "value", "finding"),
    [
        ("embedding", scaled, "1 vectors are not of length 1, first row 1"),
        ("embedding", poisoned, "embedding is not finite in 1 rows, first 1"),
        ("id", lambda ids: ids[::-1], "row 0 is not the input's: id 't9' there, id 't0' in the input"),
        ("text", lambda texts: ["other", *texts[1:]], "the text of row 0 is not the one that was embedded"),
        ("id", lambda ids: [ids[1], *ids[1:]], "1 ids have several rows"),
    ],
)
def test_each_wrong_value_is_found(out, column, value, finding):
    change(first_shard(out), column, value)
    assert any(finding in one for one in audit(out).findings)


def test_another_fingerprint_is_found(out):
    change(first_shard(out), "id", lambda ids: ids, {b"udever.fingerprint": b"def"})
    assert [one for one in audit(out).findings if "has fingerprint def, the job abc" in one]


def test_missing_and_extra_rows_and_shards(out, corpus, texts, tmp_path):
    table = pq.read_table(first_shard(out))
    pq.write_table(table.slice(0, 9), first_shard(out))
    found = audit(out).findings
    assert any("has 9 rows; the manifest says 10, the shard 10" in one for one in found)
    assert any("row 9 is not the input's: no row there, id 't9' in the input" in one for one in found)
    pq.write_table(table, out / "shards" / f"00000009-{'0' * 32}-{'0' * 32}.parquet")
    first_shard(out).unlink()
    found = audit(out).findings
    assert any("is gone with its 10 rows" in one for one in found)
    assert any("1 shards are not of this job's last run, such as 000" in one for one in found)


def test_an_input_that_grew_shrank_or_moved(out, corpus, texts, tmp_path):
    moved = corpus.jsonl(tmp_path / "b.jsonl", texts)
    assert audit(out, [str(moved)]).whole
    corpus.jsonl(moved, [*texts, "one more"])
    assert audit(out, [str(moved)]).findings == ["1 rows at the end of the input have no result; run the job again"]
    corpus.jsonl(moved, texts[:-1])
    assert "id 't69' there, no row in the input" in audit(out, [str(moved)]).findings[0]
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(DataError, match="does not exist"):
        audit(out)


def test_a_damaged_shard_is_a_finding_and_a_folder_that_is_none_an_error(out, tmp_path):
    shard = first_shard(out)
    shard.write_bytes(shard.read_bytes()[:-30])
    assert any("is no shard, or damaged" in one for one in audit(out).findings)
    (out / "_manifest.json").write_text("{}")
    with pytest.raises(DataError, match=r"_manifest\.json"):
        audit(out)
    (out / "_manifest.json").unlink()
    with pytest.raises(DataError, match="has not finished"):
        audit(out)
    with pytest.raises(DataError, match=r"_manifest\.json cannot be read"):
        audit(tmp_path)


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_flipped_bit_is_found_and_done_again(out, corpus, fake_step, tmp_path):
    expected = corpus.read(out)
    shards = sorted((out / "shards").iterdir())
    rng = np.random.default_rng(0)
    for _ in range(20):
        path = shards[rng.integers(len(shards))]
        before = path.read_bytes()
        flip(path, int(rng.integers(8 * len(before))))
        assert any(f"{path.name}: its bytes are not those" in one for one in audit(out).findings)
        if rng.random() < 0.7:
            path.write_bytes(before)
            continue
        assert corpus.run(fake_step(), tmp_path / "a.jsonl", out).num_shards_made == 1
        assert audit(out).whole and corpus.read(out) == expected


def test_a_changed_manifest_or_list_of_failed_rows_is_found(out, corpus, fake_step, tmp_path):
    path = out / "_manifest.json"
    path.write_text(path.read_text().replace('"num_truncated": ', '"num_truncated": 1'))
    with pytest.raises(DataError, match="its digest is not that of its content"):
        audit(out)
    step = fake_step(failing=["bad"])
    corpus.run(step, corpus.jsonl(tmp_path / "b.jsonl", ["good", "bad"]), tmp_path / "failing")
    flip(tmp_path / "failing" / "_failed.parquet", 77)
    assert any("_failed.parquet: its bytes" in one for one in audit(tmp_path / "failing").findings)


def test_any_bit_turned_over_is_a_finding_and_never_an_error(out):
    shard = first_shard(out)
    whole = shard.read_bytes()
    rng = np.random.default_rng(7)
    for bit in rng.choice(8 * len(whole), 100, replace=False):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << (bit % 8)
        shard.write_bytes(changed)
        assert any("its bytes are not those" in one for one in audit(out).findings)


def test_values_that_somebody_sealed_anew_are_found_by_a_sample(out, fake_step):
    again = Again(fake_step(), 70)
    found = audit(out, again=again)
    assert found.whole and found.num_sampled == 70
    with pytest.raises(ContractError, match="another model or with other options"):
        audit(out, again=Again(fake_step(fingerprint="def"), 70))

    def swapped(values):
        return [values[1], values[0], [-x for x in values[2]], *values[3:]]

    shard = first_shard(out)
    change(shard, "embedding", swapped)
    name = ShardName.parse(shard.name)._replace(digest=digest_file(shard))
    manifest = layout.read_manifest(out)
    shards = [{**manifest.shards[0], "file": f"shards/{name}", "digest": name.digest}, *manifest.shards[1:]]
    shard.rename(shard.with_name(str(name)))
    layout.write_manifest(out, replace(manifest, shards=shards))
    assert audit(out).whole
    found = audit(out, again=again).findings
    assert [one.split("'")[1] for one in found] == ["t0", "t1", "t2"]
    assert len(audit(out, again=Again(fake_step(), 5)).findings) <= 3


def test_failed_rows_that_are_not_listed(out, corpus, fake_step, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", ["good", "bad"])
    corpus.run(fake_step(failing=["bad"]), path, tmp_path / "failing")
    (tmp_path / "failing" / "_failed.parquet").unlink()
    assert any("lists 0 rows, 1 have no result" in one for one in audit(tmp_path / "failing").findings)
