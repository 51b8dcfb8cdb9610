"""SIGKILL at many places of a job, each time followed by a run to the end that must leave no trace of it."""

import sys

import pyarrow.parquet as pq
import pytest

from udever.corpus import audit

PLACES = 22


@pytest.fixture
def whole(corpus, fake_step, texts, tmp_path):
    """The input, and the shards of an uninterrupted run by name."""
    path = corpus.jsonl(tmp_path / "a.jsonl", [*texts, "broken by the model"])
    corpus.run(fake_step(failing=["broken by the model"]), path, tmp_path / "whole")
    return path, content(tmp_path / "whole")


def content(folder):
    shards = {file.name: pq.read_table(file) for file in (folder / "shards").iterdir()}
    return shards | {"failed": pq.read_table(folder / "_failed.parquet")}


def test_killed_anywhere_the_next_run_makes_it_whole(corpus, fake_step, whole, killed, tmp_path):
    path, expected = whole

    class Stepping(fake_step):
        def run(self, prepared, tick):
            sys.audit("test.step")
            return super().run(prepared, tick)

    def work(folder):
        return lambda: corpus.run(Stepping(failing=["broken by the model"]), path, folder)

    count = killed(work(tmp_path / "counting"), 10**9)
    assert count > 2 * PLACES
    redone = []
    for number in range(PLACES):
        folder = tmp_path / f"out{number}"
        assert killed(work(folder), number * (count - 1) // PLACES) is None
        done = len(list((folder / "shards").glob("[!.]*.parquet"))) if (folder / "shards").exists() else 0
        step = fake_step(failing=["broken by the model"])
        summary = corpus.run(step, path, folder)
        assert summary.num_shards_made == 8 - done
        redone.append(len(step.seen))
        found = content(folder)
        assert found.keys() == expected.keys()
        assert all(found[name].equals(expected[name], check_metadata=True) for name in found)
        assert [finding.split(";")[0] for finding in audit(folder).findings] == ["1 rows have no result"]
        assert {p.name for p in folder.iterdir()} == {
            "_job.json",
            "_manifest.json",
            "shards",
            "_failed.parquet",
            ".lock",
        }
    assert redone[0] == 51 and min(redone) < 20  # early kills lose all, late ones little


def test_killed_twice_in_a_changed_corpus(corpus, fake_step, texts, killed, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    folder = tmp_path / "out"
    corpus.run(fake_step(), path, folder)
    before = corpus.read(folder)
    corpus.jsonl(path, ["new in front", *texts[:40], "changed", *texts[41:]])

    def work():
        corpus.run(fake_step(), path, folder)

    for event in (12, 30):
        assert killed(work, event) is None
        assert corpus.read(folder) == before  # readers by the manifest see the old whole
    step = fake_step()
    corpus.run(step, path, folder)
    assert set(step.seen) <= {"new in front", "changed"}
    corpus.run(fake_step(), path, tmp_path / "fresh")
    assert corpus.read(folder) == corpus.read(tmp_path / "fresh") and audit(folder).whole
