"""`udever embed`, `udever audit` and `udever classify` as a person types them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from udever.cli.corpus import settled


def test_embed_audit_and_go_on(udever, decoders, corpus, texts, tmp_path):
    path = corpus.jsonl(tmp_path / "a.jsonl", texts)
    out = tmp_path / "out"
    arguments = ("embed", path, "-m", decoders("bloom"), "-o", out, "--vector-type", "float16", "--window-rows", 20)
    code, told, error = udever(*arguments)
    assert code == 0, error
    assert "70 rows" in told and "50 texts embedded" in told and "4 shards written" in told
    assert udever("audit", out)[0] == 0
    code, told, error = udever("audit", out, "--sample", 30, "-m", decoders("bloom"))
    assert code == 0 and "30 embedded again" in told, error
    assert udever("audit", out, "--sample", 30)[0] == 2
    assert "0 texts embedded" in udever(*arguments)[1]
    code, _, error = udever("embed", path, "-m", decoders("bloom"), "-o", out)
    assert code == 2 and "udever: error:" in error and "holds results with vector_type float16" in error
    path.write_text(path.read_text() + '{"id": "bad", "text": ""}\n')
    code, _, error = udever(*arguments)
    assert code == 1 and "1 rows failed" in error and "_failed.parquet" in error
    code, _, error = udever("audit", out)
    assert code == 1 and "1 rows have no result" in error and "not whole: 71 rows, 70 results, 1 failed" in error
    assert udever("embed", tmp_path / "none.txt", "-m", decoders("bloom"), "-o", tmp_path / "x")[0] == 2
    assert not (tmp_path / "x").exists()


def test_fit_and_apply(udever, decoders, tmp_path):
    examples = tmp_path / "examples.csv"
    words = {"sum": ["add numbers", "sum of numbers", "the sum", "a + b"], "greeting": ["hello", "hello world"]}
    rows = [f"{word} {n},{label}" for label, some in words.items() for word in some for n in range(8)]
    examples.write_text("text,label\n" + "\n".join(rows) + "\n")
    code, told, error = udever("classify", "fit", examples, "-m", decoders("bloom"), "-o", tmp_path / "filter")
    assert code == 0, error
    assert "| greeting |" in told and "2 labels from 48 examples" in told
    files = {path.name for path in (tmp_path / "filter").iterdir()}
    assert files == {".udever-output.json", "filter.json", "head.safetensors", "report.json", "report.md"}
    assert json.loads((tmp_path / "filter" / "report.json").read_text())["overall"]["num_examples"] == 48
    code, told, error = udever("classify", "apply", tmp_path / "filter", examples, "-o", tmp_path / "labels")
    assert code == 0, error
    assert "48 texts labelled" in told
    code, told, error = udever("audit", tmp_path / "labels", "--sample", 9, "-m", tmp_path / "filter")
    assert code == 0 and "9 embedded again" in told, error
    (shard,) = (tmp_path / "labels" / "shards").iterdir()
    table = pq.read_table(shard)
    probabilities = table.column("probabilities").to_pylist()
    names = json.loads(table.schema.metadata[b"udever.labels"])
    for labels, p in zip(table.column("labels").to_pylist(), probabilities, strict=True):
        assert labels == [names[p.index(max(p))]] and abs(sum(p) - 1) < 1e-6
    command = ("classify", "apply", tmp_path / "filter", examples, "-o", tmp_path / "labels2")
    code, _, error = udever(*command, "-m", decoders("llama"))
    assert code == 2 and "the filter was fitted on embeddings with fingerprint" in error
    examples.write_text("text,label\na\nb,x\n")
    code, _, error = udever("classify", "fit", examples, "-m", decoders("bloom"), "-o", tmp_path / "filter")
    assert code == 2 and "examples.csv row 0: 1 fields; the header has 2; fix the row or remove it" in error


def test_a_models_name_means_the_same_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    assert [settled(name) for name in ("own", "m.gguf")] == [str(tmp_path / "own"), str(tmp_path / "m.gguf")]
    assert [settled(name) for name in ("seedling", "org/own")] == ["seedling", "org/own"]


def test_of_labelled_tables_the_columns_asked_for_are_read(udever, decoders, tmp_path):
    labels, when = ["a", "b"] * 8, pa.array([2**62] * 16, pa.timestamp("us"))
    texts = [f"{label} {number} {hex(number**9)}" for number, label in enumerate(labels)]
    pq.write_table(pa.table({"text": texts, "label": labels, "when": when}), tmp_path / "a.parquet")
    command = ("classify", "fit", tmp_path / "a.parquet", "-m", decoders("bloom"), "-o", tmp_path / "filter")
    code, told, error = udever(*command)
    assert code == 0 and "2 labels from 16 examples" in told, error
    code, _, error = udever(*command, "--label-column", "lable")
    assert code == 2 and "has no column 'lable'; did you mean 'label'?" in error
    code, _, error = udever(*command, "--separator", "")
    assert code == 2 and "separator is empty" in error
