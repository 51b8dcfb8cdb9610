"""An output folder as others read it."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import udever
from udever.corpus import audit, vectors
from udever.errors import DataError

DOCS = Path(__file__).parents[2] / "docs" / "corpus.md"


@pytest.fixture
def out(corpus, fake_step, tmp_path):
    """Vectors of 130 texts in 13 windows, changed in front after a first run."""
    texts = [f"text {row}" for row in range(128)]
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    corpus.run(fake_step(), path, tmp_path / "vectors")
    corpus.jsonl(path, ["in front", "twice", *texts])
    corpus.run(fake_step(), path, tmp_path / "vectors")
    return tmp_path / "vectors"


def test_rows_read_in_name_order_are_in_input_order(out):
    import pandas

    ids = [f"t{row}" for row in range(130)]
    assert list(pandas.read_parquet(out)["id"]) == ids
    assert [i for file in sorted((out / "shards").iterdir()) for i in pandas.read_parquet(file)["id"]] == ids


def test_windows_that_are_alike_have_a_shard_each(corpus, fake_step, tmp_path):
    import pandas

    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), "text": f"text {n}"}) + "\n" for n in range(10)) * 3)
    corpus.run(fake_step(), path, tmp_path / "out")
    assert list(pandas.read_parquet(tmp_path / "out")["id"]) == [str(n) for n in range(10)] * 3
    path.write_text("".join(json.dumps({"id": str(n), "text": f"text {n}"}) + "\n" for n in range(10)) * 2)
    step = fake_step()
    corpus.run(step, path, tmp_path / "out")
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 2 and not step.seen


def test_read_vectors(out, corpus, fake_step, texts, tmp_path):
    rows = corpus.read(out)
    for _ in range(2):
        ids, found = udever.read_vectors(out)
        assert isinstance(found, np.memmap) and not found.flags.writeable
        assert ids == [row["id"] for row in rows]
        np.testing.assert_array_equal(found, [row["embedding"] for row in rows])
    assert audit(out).whole
    (copy,) = out.glob(".vectors-*.npy")
    np.save(copy, np.array(found[::-1]))
    assert f"{copy.name} has other vectors" in audit(out).findings[0]
    corpus.run(fake_step(), corpus.jsonl(tmp_path / "a.jsonl", texts), out)
    assert len(udever.read_vectors(out)[1]) == 70 and audit(out).whole
    with pytest.raises(DataError, match=r"_manifest\.json cannot be read"):
        udever.read_vectors(tmp_path)


def test_vectors_are_copied_of_one_version_where_a_job_replaces_it_meanwhile(out, corpus, fake_step, monkeypatch):
    read, path = vectors.read_columns, out.parent / "a.jsonl"
    new = [f"text {row}" for row in reversed(range(128))]

    def overtaken(shard, names):
        found = read(shard, names)
        if names == ["embedding"] and shard.name.startswith("00000012"):  # the last one
            monkeypatch.setattr(vectors, "read_columns", read)
            corpus.run(fake_step(), corpus.jsonl(path, new), out)
        return found

    monkeypatch.setattr(vectors, "read_columns", overtaken)
    for _ in range(2):
        ids, found = udever.read_vectors(out)
        rows = corpus.read(out)
        assert ids == [row["id"] for row in rows] and [row["text"] for row in rows] == new
        np.testing.assert_array_equal(found, [row["embedding"] for row in rows])
        assert len(list(out.glob(".vectors-*.npy"))) == 1


def test_a_copy_that_a_job_removes_before_it_is_read_is_made_again(out, corpus, fake_step, monkeypatch):
    copy, path = vectors._copy, out.parent / "a.jsonl"
    new = [f"text {row}" for row in reversed(range(128))]

    def overtaken(shards, num_rows, target):
        copy(shards, num_rows, target)
        monkeypatch.setattr(vectors, "_copy", copy)
        corpus.run(fake_step(), corpus.jsonl(path, new), out)
        assert not target.exists()

    monkeypatch.setattr(vectors, "_copy", overtaken)
    ids, found = udever.read_vectors(out)
    assert ids == [row["id"] for row in corpus.read(out)] and len(found) == 128


@pytest.mark.parametrize("package", ["pandas", "duckdb", "numpy"])
def test_the_lines_of_the_documentation(out, package):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    blocks = re.findall(r"(?:^    .*\n)+", DOCS.read_text(), re.MULTILINE)
    (lines,) = [block for block in blocks if f"# {package}\n" in block]
    code = "\n".join(line[4:] for line in lines.splitlines()) + "\nprint(len(ids), ids[0], ids[-1], len(vectors))"
    done = subprocess.run([sys.executable, "-c", code], cwd=out.parent, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["130", "t0", "t129", "130"], done.stderr
