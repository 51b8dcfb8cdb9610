import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from udever.corpus import EmbedStep, Reading, audit, check_place, run_job
from udever.corpus.side_columns import columns_beside
from udever.corpus.vectors import read_vectors
from udever.errors import ContractError, DataError, OutputError, RecipeError, TextError
from udever.search.embeddings_file import read, shard_files


def test_every_row_in_order_and_each_distinct_text_once(corpus, fake_step, texts, tmp_path):
    step = fake_step()
    summary = corpus.run(step, corpus.jsonl(tmp_path / "a.jsonl", texts), tmp_path / "out")
    rows = corpus.read(tmp_path / "out")
    assert [row["id"] for row in rows] == [f"t{row}" for row in range(70)]
    assert [row["text"] for row in rows] == texts
    assert sorted(step.seen) == sorted(set(texts)) and len(set(texts)) == 50
    alone = fake_step().run(texts, lambda *_: None).rows
    np.testing.assert_array_equal([row["embedding"] for row in rows], alone["embedding"])
    np.testing.assert_array_equal([row["num_tokens"] for row in rows], alone["num_tokens"])
    np.testing.assert_array_equal([row["truncated"] for row in rows], alone["truncated"])
    assert (summary.num_rows, summary.num_texts, summary.num_shards_made) == (70, 50, 7)
    assert summary.num_truncated == alone["truncated"].sum() > 0
    assert summary.whole and audit(tmp_path / "out").whole
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"_job.json", "_manifest.json", "shards", ".lock"}


def test_a_second_run_does_nothing(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    corpus.run(fake_step(), path, tmp_path / "out")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "shards").iterdir()}
    step = fake_step()
    summary = corpus.run(step, path, tmp_path / "out")
    assert not step.seen and summary.num_shards_made == 0 and summary.num_rows == 70
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "shards").iterdir()} == before


@pytest.mark.parametrize("change", ["one text", "a row in front", "rows removed", "all in another order", "appended"])
def test_only_changed_texts_are_embedded_again(corpus, fake_step, texts, tmp_path, change):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    corpus.run(fake_step(), path, tmp_path / "out")
    changed, new = {
        "one text": ([*texts[:33], "changed", *texts[34:]], ["changed"]),
        "a row in front": (["in front", *texts], ["in front"]),
        "rows removed": (texts[:20] + texts[35:], []),
        "all in another order": (texts[::-1], []),
        "appended": ([*texts, "at the end"], ["at the end"]),
    }[change]
    corpus.jsonl(path, changed)
    step = fake_step()
    summary = corpus.run(step, path, tmp_path / "out")
    assert step.seen == new and summary.num_texts == len(new)
    fresh = fake_step()
    corpus.run(fresh, path, tmp_path / "fresh")
    assert corpus.read(tmp_path / "out") == corpus.read(tmp_path / "fresh")
    left = [{file.name for file in (tmp_path / name / "shards").iterdir()} for name in ("out", "fresh")]
    assert left[0] == left[1] and audit(tmp_path / "out").whole


def test_a_text_in_many_windows_is_embedded_once_and_fails_everywhere(corpus, fake_step, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", [f"text {row % 13}" for row in range(60)])
    step = fake_step(failing=["text 5"])
    summary = corpus.run(step, path, tmp_path / "out")
    assert sorted(step.seen) == sorted({f"text {row}" for row in range(13)})
    failed = pq.read_table(tmp_path / "out" / "_failed.parquet").to_pylist()
    assert [row["row"] for row in failed] == [5, 18, 31, 44, 57]
    assert {(row["place"], row["text"], row["reason"]) for row in failed} == {("a.jsonl", "text 5", "no vector")}
    assert len(corpus.read(tmp_path / "out")) == 55 and summary.num_failed == 5 and not summary.whole
    found = audit(tmp_path / "out")
    assert (found.num_rows, found.num_results, found.num_failed) == (60, 55, 5)
    assert found.findings == [f"5 rows have no result; {tmp_path / 'out' / '_failed.parquet'} says which and why"]
    again = fake_step(failing=["text 5"])
    assert corpus.run(again, path, tmp_path / "out").num_failed == 5 and not again.seen


def test_corrupt_rows_go_to_the_failed_and_the_others_go_on(corpus, fake_step, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n{"text": 3}\nrubbish\n{"text": ""}\n{"text": "\\ud800"}\n{"text": "two"}\n')
    summary = corpus.run(fake_step(), path, tmp_path / "out")
    assert [row["text"] for row in corpus.read(tmp_path / "out")] == ["one", "two"]
    failed = pq.read_table(tmp_path / "out" / "_failed.parquet").to_pylist()
    assert [row["row"] for row in failed] == [1, 2, 3, 4]
    assert [row["text"] for row in failed] == ["3", "rubbish", "", "\\ud800"]
    assert [row["reason"].split(":")[0].split(";")[0] for row in failed] == [
        "'text' is int",
        "not JSON",
        "'text' is empty",
        "text, id or source is not UTF-8",
    ]
    assert (summary.num_rows, summary.num_failed) == (6, 4)
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert corpus.run(fake_step(), path, tmp_path / "out").whole
    assert not (tmp_path / "out" / "_failed.parquet").exists()


def test_duplicate_ids_are_reported(corpus, fake_step, tmp_path):
    path = tmp_path / "a.jsonl"
    records = [{"id": f"i{row % 27}", "text": f"text {row}"} for row in range(30)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    summary = corpus.run(fake_step(), path, tmp_path / "out")
    assert summary.duplicate_ids == 3 and sorted(summary.examples) == ["i0", "i1", "i2"] and not summary.whole
    assert len(corpus.read(tmp_path / "out")) == 30
    assert audit(tmp_path / "out").findings == ["3 ids have several rows; give every row an id of its own"]


def test_all_formats_give_the_same(corpus, fake_step, texts, tmp_path):
    import csv

    import datasets

    datasets.disable_progress_bars()
    texts = [text.strip() for text in texts]
    records = [{"id": str(row), "text": text} for row, text in enumerate(texts)]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.zst").write_bytes(pa.compress(lines.encode(), codec="zstd", asbytes=True))
    (tmp_path / "a.txt").write_text("\n".join(texts))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet", row_group_size=7)
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([r["id"], r["text"]] for r in records)])
    datasets.Dataset.from_list(records).save_to_disk(tmp_path / "saved")
    outputs = []
    for name in ("a.jsonl", "a.jsonl.zst", "a.txt", "a.parquet", "a.csv", "saved"):
        corpus.run(fake_step(), tmp_path / name, tmp_path / f"out-{name}")
        rows = corpus.read(tmp_path / f"out-{name}")
        assert {row.pop("source") for row in rows} == {name}
        outputs.append(rows)
    assert len(outputs[0]) == 70 and all(rows == outputs[0] for rows in outputs)


def test_windows_end_at_their_bytes(corpus, fake_step, tmp_path, monkeypatch):
    monkeypatch.setattr("udever.corpus.scan.WINDOW_BYTES", 40)
    corpus.run(fake_step(), corpus.jsonl(tmp_path / "a.jsonl", [f"{n}" * 15 for n in range(9)]), tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert [shard["rows"] for shard in manifest["shards"]] == [3, 3, 3]


def test_another_model_or_option_is_refused(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    corpus.run(fake_step(), path, tmp_path / "out")
    for step, word in ((fake_step(fingerprint="def"), "fingerprint abc"), (fake_step(dimensions=4), "dimensions 8")):
        with pytest.raises(ContractError, match=f"holds results with {word}, this job has"):
            corpus.run(step, path, tmp_path / "out")
    assert audit(tmp_path / "out").whole


def test_another_column_or_split_is_refused(corpus, fake_step, tmp_path):
    path = tmp_path / "a.jsonl"
    records = [{"id": str(row), "question": f"q {row}", "answer": f"a {row}", "n": f"n{row}"} for row in range(20)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus.run(fake_step(), path, tmp_path / "out", columns={"text": "answer"})
    before = corpus.read(tmp_path / "out")
    for columns, told in (
        ({"text": "question"}, "column answer, this job has question"),
        ({"text": "answer", "id": "n"}, "id_column id, this job has n"),
    ):
        with pytest.raises(ContractError, match=told):
            corpus.run(fake_step(), path, tmp_path / "out", columns=columns)
    assert corpus.read(tmp_path / "out") == before


def test_only_shards_are_removed(corpus, fake_step, texts, tmp_path):
    path, out = corpus.jsonl(tmp_path / "a.jsonl", texts), tmp_path / "out"
    corpus.run(fake_step(), path, out)
    (out / "notes.txt").write_text("mine")
    (out / "shards" / "mine.parquet").write_text("mine")
    with pytest.raises(OutputError, match=r"holds mine\.parquet, which udever did not write"):
        corpus.run(fake_step(), path, out)
    (out / "shards" / "mine.parquet").rename(out / "mine.parquet")
    corpus.run(fake_step(), corpus.jsonl(path, texts[:20]), out)
    assert (out / "notes.txt").read_text() == (out / "mine.parquet").read_text() == "mine"


def test_outputs_that_are_something_else(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    with pytest.raises(OutputError, match="it is a file"):
        corpus.run(fake_step(), path, path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="no corpus job's, such as thesis"):
        corpus.run(fake_step(), path, tmp_path / "theirs")
    corpus.run(fake_step(), path, tmp_path / "out")
    with pytest.raises(DataError, match="is the output of a corpus job"):
        corpus.run(fake_step(), tmp_path / "out", tmp_path / "new")
    with pytest.raises(RecipeError, match="window_rows is 0"):
        corpus.run(fake_step(), path, tmp_path / "out", rows=0)
    assert not (tmp_path / "new").exists()


def test_two_runs_at_once_are_refused(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)

    class Nested(fake_step):
        def run(self, prepared, tick):
            with pytest.raises(OutputError, match="another run is writing to"):
                corpus.run(fake_step(), path, tmp_path / "out")
            return super().run(prepared, tick)

    assert corpus.run(Nested(), path, tmp_path / "out").whole


def test_no_texts_and_vanished_files_leave_what_is_done(corpus, fake_step, texts, tmp_path):
    (tmp_path / "in").mkdir()
    corpus.jsonl(tmp_path / "in" / "a.jsonl", texts[:30])
    other = corpus.jsonl(tmp_path / "in" / "b.jsonl", texts[30:50], first=30)
    corpus.run(fake_step(), tmp_path / "in", tmp_path / "out")

    reading = Reading([str(tmp_path / "in")], window_rows=10)
    listed = reading.sources()
    other.unlink()
    vanished = type("Listed", (Reading,), {"sources": lambda self, skipped=None: listed})([str(tmp_path / "in")])
    with pytest.raises(DataError, match=r"b\.jsonl is gone"):
        run_job(fake_step(), vanished, tmp_path / "out", show_progress=False)
    assert len(corpus.read(tmp_path / "out")) == 50
    step = fake_step()
    assert corpus.run(step, tmp_path / "in", tmp_path / "out").num_rows == 30 and not step.seen
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match="none of 0 rows can be embedded"):
        corpus.run(fake_step(), tmp_path / "empty.txt", tmp_path / "none")
    (tmp_path / "bad.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl has no column 'text'; the row has body"):
        corpus.run(fake_step(), tmp_path / "bad.jsonl", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (tmp_path / "bad.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(DataError, match=r"none of 1 rows.*bad\.jsonl row 0: 'text' is empty"):
        corpus.run(fake_step(), tmp_path / "bad.jsonl", tmp_path / "none")


def test_a_damaged_or_foreign_shard_is_made_again(corpus, fake_step, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    corpus.run(fake_step(), path, tmp_path / "out")
    expected = corpus.read(tmp_path / "out")
    first, second, *_ = sorted((tmp_path / "out" / "shards").iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    second.unlink()
    with pytest.raises(DataError, match="is gone"):
        shard_files(tmp_path / "out")
    step = fake_step()
    assert corpus.run(step, path, tmp_path / "out").num_shards_made == 2
    assert len(step.seen) <= 20 and corpus.read(tmp_path / "out") == expected


@pytest.mark.parametrize("vector_type", ["float32", "float16"])
@pytest.mark.parametrize("role", ["query", "document", "symmetric"])
def test_a_real_model_gives_its_own_vectors(embedders, corpus, texts, tmp_path, vector_type, role):
    embedder = embedders("bloom", max_length=16)
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    summary = corpus.run(EmbedStep(embedder, role, 12, vector_type), path, tmp_path / "out", rows=30)
    encode = {"query": embedder.encode_query, "document": embedder.encode_document, "symmetric": embedder.encode}[role]
    with pytest.warns(UserWarning, match="were cut"):
        expected = encode(texts, truncate_dim=12)
    tables = [read(file) for file in shard_files(tmp_path / "out")]
    header = tables[0][0]
    assert (header.fingerprint, header.dimensions, header.role) == (embedder.fingerprint, 12, role)
    found = np.concatenate([table.embeddings for _, table in tables])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 if vector_type == "float32" else 1e-3)
    if vector_type == "float16":
        np.testing.assert_array_equal(found.astype(np.float16).astype(np.float32), found)
        assert np.abs(found - expected).max() > 0
    truncation = embedder.last_truncation
    rows = corpus.read(tmp_path / "out")
    assert [row["truncated"] for row in rows] == truncation.truncated.tolist()
    assert [row["num_tokens"] for row in rows] == np.minimum(truncation.num_tokens, 16).tolist()
    assert summary.num_truncated == truncation.truncated.sum() > 0
    assert audit(tmp_path / "out").whole


def test_a_vector_that_is_not_finite_fails_alone(make, tmp_path, corpus):
    import torch

    from udever import Embedder

    embedder = Embedder.load(make.decoder("bloom", tmp_path / "model"), dtype="float32", device="cpu")
    poisoned = embedder.tokenize(["poison"], "document").ids[0]
    clean = set(embedder.tokenize(["two", "one"], "document").ids[0]) | set(
        embedder.tokenize(["two"], "document").ids[0]
    )
    token = next(token for token in poisoned if token not in clean)
    with torch.no_grad():
        embedder.backbone.word_embeddings.weight[token] = float("nan")
    path = corpus.jsonl(tmp_path / "a.jsonl", ["one", "poison", "two"])
    summary = corpus.run(EmbedStep(embedder), path, tmp_path / "out")
    assert [row["text"] for row in corpus.read(tmp_path / "out")] == ["one", "two"]
    (failed,) = pq.read_table(tmp_path / "out" / "_failed.parquet").to_pylist()
    assert (failed["row"], failed["text"]) == (1, "poison") and "not finite" in failed["reason"]
    assert summary.num_failed == 1


def test_options_that_do_not_exist(embedders):
    embedder = embedders("bloom")
    with pytest.raises(RecipeError, match="role is 'passage'"):
        EmbedStep(embedder, "passage")
    with pytest.raises(RecipeError, match="vector_type is 'int8'"):
        EmbedStep(embedder, vector_type="int8")
    with pytest.raises(TextError, match="dimensions is 65; expected 1 to 32"):
        EmbedStep(embedder, dimensions=65)
    with pytest.raises(TextError, match="batch_tokens is 0"):
        EmbedStep(embedder, batch_tokens=0)


def test_an_error_of_the_model_stops_the_job_and_what_is_done_stays(corpus, fake_step, texts, tmp_path):
    class Breaking(fake_step):
        def run(self, prepared, tick):
            if len(self.seen) >= 30:
                raise MemoryError("no more")
            return super().run(prepared, tick)

    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    with pytest.raises(MemoryError, match="no more"):
        corpus.run(Breaking(), path, tmp_path / "out")
    with pytest.raises(DataError, match="has not finished"):
        shard_files(tmp_path / "out")
    step = fake_step()
    corpus.run(step, path, tmp_path / "out")
    assert len(step.seen) == 20 and audit(tmp_path / "out").whole


def test_a_full_disk_is_an_output_error_and_the_next_run_goes_on(corpus, fake_step, tmp_path):
    """A limit on the size of files stands in for the full disk: writing fails in the middle of a shard."""
    script = textwrap.dedent("""
        import resource, runpy, signal, sys
        from udever.corpus import Reading, run_job
        from udever.errors import OutputError

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
        step = runpy.run_path(sys.argv[1])["FakeStep"](dimensions=256)
        try:
            run_job(step, Reading([sys.argv[2]], window_rows=50), sys.argv[3], show_progress=False)
        except OutputError as error:
            print(error)
    """)
    path = corpus.jsonl(
        tmp_path / "a.jsonl", [f"text {row}" for row in range(75)] + [f"more {row}" for row in range(200)]
    )
    fake = str(Path(__file__).with_name("conftest.py"))
    command = [sys.executable, "-c", script, fake, str(path), str(tmp_path / "out"), "40000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot write" in done.stdout and "free some space" in done.stdout
    assert not [name for name in (tmp_path / "out" / "shards").iterdir() if name.suffix == ".tmp"]
    assert not list((tmp_path / "out").glob(".work-*"))
    corpus.run(fake_step(dimensions=256), path, tmp_path / "out", rows=50)
    assert audit(tmp_path / "out").whole


def test_search_reads_the_shards(embedders, corpus, texts, tmp_path):
    from udever.search.in_memory import EmbeddingsFiles

    embedder = embedders("bloom")
    corpus.run(EmbedStep(embedder), corpus.jsonl(tmp_path / "a.jsonl", texts), tmp_path / "out")
    hits = EmbeddingsFiles(tmp_path / "out").search(embedder, texts[17], 70, mode="meaning")
    assert len(hits) == 50 and {hit.text for hit in hits} == set(texts)  # one hit for rows that are alike


def test_what_a_folder_holds_besides_is_told(tmp_path, fake_step):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x\n")
    (tmp_path / "in" / "b.md").write_text("y\n")
    done = run_job(fake_step(), Reading([str(tmp_path / "in")]), tmp_path / "out", show_progress=False)
    assert done.skipped == {"file: .md, not read in folders": 1}


def test_an_input_whose_name_is_no_utf8(tmp_path, fake_step):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("x\n")
    done = run_job(fake_step(), Reading([str(folder)]), tmp_path / "out", show_progress=False)
    assert done.num_rows == 1 and not done.num_failed
    assert audit(tmp_path / "out").whole


@pytest.mark.parametrize("name", [b"run:1", b"s3:x", b"caf\xe9"])
def test_an_output_is_a_folder_whatever_it_is_called(name, corpus, fake_step, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, step = Path(os.fsdecode(name)), fake_step(failing=[texts[3]])
    first = corpus.run(step, corpus.jsonl(tmp_path / "a.jsonl", [*texts, ""]), out)
    assert (first.num_rows, first.num_failed) == (71, 3) and not corpus.run(step, "a.jsonl", out).num_shards_made
    assert [finding.split(";")[0] for finding in audit(out).findings] == ["3 rows have no result"]
    assert len(read_vectors(out)[0]) == 68


def test_an_output_says_where_its_input_is_also_where_that_is_a_glob(corpus, fake_step, texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus.jsonl(tmp_path / "a.jsonl", texts)
    corpus.run(fake_step(), "*.jsonl", tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert audit(tmp_path / "out").whole


def test_a_glob_that_reaches_into_the_output_is_refused(corpus, fake_step, texts, tmp_path):
    (tmp_path / "more").mkdir()
    for place in (tmp_path, tmp_path / "more"):
        corpus.jsonl(place / "a.jsonl", texts)
    for pattern in ("**/*.parquet", "*/*.json", "[!a]*/*", "**"):
        with pytest.raises(OutputError, match=r"it lies in the input .*; give a folder outside of it"):
            check_place(tmp_path / "out", {}, [tmp_path / pattern])
    with pytest.raises(OutputError, match=r"the input .* lies in it; give another folder"):
        corpus.run(fake_step(), tmp_path / "more" / "*.jsonl", tmp_path)
    assert corpus.run(fake_step(), tmp_path / "*.jsonl", tmp_path / "out").num_rows == len(texts)
    for folder in ("every", "again"):  # an output has no such files
        assert corpus.run(fake_step(), tmp_path / "**/*.jsonl", tmp_path / folder).num_rows == 2 * len(texts)


def test_an_output_of_a_split_is_audited_and_coloured_by_files(corpus, fake_step, tmp_path):
    import datasets

    datasets.disable_progress_bars()
    rows = [{"id": f"{n}", "text": f"text {n}", "kind": f"{n % 2}"} for n in range(4)]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "set")
    corpus.run(fake_step(), tmp_path / "set", tmp_path / "out", split="train")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [str(tmp_path / "rows.jsonl")]
    found = columns_beside(tmp_path / "out", ["kind"], ["1", "2"], given)
    assert found == {"kind": ["1", "0"]}
    assert audit(tmp_path / "out", given).whole
    with pytest.raises(DataError, match="no input is a dataset; leave out --split"):
        corpus.run(fake_step(), given[0], tmp_path / "other", split="train")


def test_a_bad_row_in_a_column_that_is_no_utf8_does_not_end_the_run(corpus, fake_step, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("text\nhello\n")
    (tmp_path / "in" / "b.csv").write_bytes("id,libell\xe9\n1,x\n".encode("latin-1"))
    assert corpus.run(fake_step(), tmp_path / "in", tmp_path / "out").num_failed == 1
    (row,) = pq.read_table(tmp_path / "out" / "_failed.parquet").to_pylist()
    assert row["reason"] == "no 'text'; the row has id, libell\\udce9"
