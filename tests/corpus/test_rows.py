import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.corpus.inputs import find_sources
from udever.corpus.rows import BadRow, Columns, Row, read_rows
from udever.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip())


def pack(path, content):
    if path.suffix == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    return path


def jsonl(path, records):
    return pack(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def parquet(path, records):
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def separated(path, records):
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(records[0]), delimiter="\t" if ".tsv" in path.name else ",", quoting=csv.QUOTE_ALL
    )
    writer.writeheader()
    writer.writerows(records)
    return pack(path, out.getvalue().encode())


def dataset(path, records):
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(records).save_to_disk(path)
    return path


WRITERS = [
    ("a.jsonl", jsonl),
    ("a.jsonl.gz", jsonl),
    ("a.jsonl.zst", jsonl),
    ("a.parquet", parquet),
    ("a.csv", separated),
    ("a.tsv", separated),
    ("a.csv.gz", separated),
    ("saved", dataset),
]
FILES = [pair for pair in WRITERS if pair[0] != "saved"]


def rows_of(path, **columns):
    return [row for source in find_sources([str(path)]) for row in read_rows(source, Columns(**columns))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
@pytest.mark.parametrize(("name", "store"), FILES)
def test_any_text_comes_back(tmp_path, name, store, texts):
    rows = rows_of(store(tmp_path / name, [{"text": text} for text in texts]))
    assert [row.text for row in rows] == texts
    assert [row.id for row in rows] == [str(number) for number in range(len(texts))]


@pytest.mark.parametrize(("name", "store"), WRITERS)
def test_ids_sources_and_other_columns(tmp_path, name, store):
    records = [{"key": 7, "body": "x\ny", "source": "s"}, {"key": 8, "body": 'z, "quoted"', "source": "r"}]
    rows = rows_of(store(tmp_path / name, records), text="body", id="key")
    assert [(row.id, row.text, row.source) for row in rows] == [("7", "x\ny", "s"), ("8", 'z, "quoted"', "r")]


def test_a_row_without_source_is_from_its_file(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x", "source": None}, {"text": "y"}])
    assert [row.source for row in rows_of(path)] == ["a.jsonl", "a.jsonl"]


@pytest.mark.parametrize("bad", [None, 3, ["x"], "", " \n"])
def test_a_row_that_is_no_text_is_only_itself(tmp_path, bad):
    rows = rows_of(jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"text": bad}, {"text": "y"}]))
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    assert rows[1].number == 1 and rows[1].place == "a.jsonl" and rows[1].id == "1"
    assert ("empty" in rows[1].reason) == isinstance(bad, str)
    assert rows[1].text == (bad if bad is None or isinstance(bad, str) else json.dumps(bad))


def test_parquet_columns_of_another_type(tmp_path):
    rows = rows_of(parquet(tmp_path / "a.parquet", [{"text": 3}, {"text": None}]))
    assert [row.reason for row in rows] == ["'text' is int; expected a text", "'text' is null; expected a text"]


def test_ids_do_not_come_and_go(tmp_path):
    rows = rows_of(jsonl(tmp_path / "a.jsonl", [{"text": "x", "id": "a"}, {"text": "y"}, {"text": "z", "id": True}]))
    assert [row.id for row in rows] == ["a", None, None]
    assert all("'id' is" in row.reason for row in rows[1:])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": ', "not JSON"),
        (b'"y"', "no JSON object"),
        (b'{"body": "x"}', "no 'text'; the row has body"),
        (b'{"text": "\xff"}', "not UTF-8: invalid start byte at byte 10"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_line_of_json_is_only_itself(tmp_path, line, reason):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n\n' + line + b'\n{"text": "y"}\n')
    rows = rows_of(tmp_path / "a.jsonl")
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    assert rows[1].number == 2 and rows[1].reason.startswith(reason)


def test_broken_rows_of_csv_are_only_themselves(tmp_path):
    content = b'id,text\n1,good\n2,too,many\n\n3,"a"b\n4,\xff\n5,fine\n'
    (tmp_path / "a.csv").write_bytes(content)
    rows = rows_of(tmp_path / "a.csv")
    assert [type(row) for row in rows] == [Row, BadRow, BadRow, Row, Row]
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert "3 fields; the header has 2" in rows[1].reason and "not CSV" in rows[2].reason
    assert rows[3].text == "\udcff"  # no UTF-8: the survey refuses it


def test_a_csv_without_header(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"")
    with pytest.raises(DataError, match="has no header line"):
        rows_of(tmp_path / "a.csv")


def test_lines_of_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\n  \nzwei é\n".encode() + b"\xff\nlast")
    rows = rows_of(tmp_path / "a.txt")
    assert [(row.number, row.text) for row in rows] == [(0, "one"), (3, "zwei é"), (4, "\\xff"), (5, "last")]
    assert isinstance(rows[2], BadRow)


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.txt.gz", "a.jsonl.zst", "a.csv.zst"])
def test_damaged_files_are_named(tmp_path, name):
    content = b'{"text": "x"}\n' * 999
    packed = pa.compress(content, codec="zstd", asbytes=True) if name.endswith("zst") else gzip.compress(content)
    (tmp_path / name).write_bytes(packed[:-9])
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        rows_of(tmp_path / name)


def test_a_file_that_vanishes_is_named(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    source = find_sources([str(path)])[0]
    path.unlink()
    with pytest.raises(DataError, match=r"a\.jsonl is gone"):
        list(read_rows(source, Columns()))


def test_folders_and_globs_in_the_order_of_names(tmp_path):
    for name in ("b/2.jsonl", "a/1.jsonl", "a/3.txt", ".hidden/4.jsonl", "a/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        jsonl(tmp_path / name, [{"text": name}])
    named = [source.name for source in find_sources([str(tmp_path)])]
    assert named == ["a/1.jsonl", "a/3.txt", "b/2.jsonl"]
    assert [source.name for source in find_sources([str(tmp_path / "**/*.jsonl")])] == ["a/1.jsonl", "b/2.jsonl"]
    assert [row.id for row in rows_of(tmp_path / "b")] == ["2.jsonl:0"]  # stays when another file joins


def test_a_saved_dataset_with_splits(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    one = datasets.Dataset.from_list([{"text": "x"}])
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="has the splits train, test; choose one with --split"):
        rows_of(tmp_path / "saved")
    (source,) = find_sources([str(tmp_path / "saved")], "test")
    assert [row.text for row in read_rows(source, Columns())] == ["x"]


def test_a_hub_dataset_is_streamed(monkeypatch):
    import datasets

    def load(name, *, split, streaming):
        assert (name, split, streaming) == ("org/texts", "train", True)
        return datasets.Dataset.from_list([{"text": "x", "id": "a"}]).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    (source,) = find_sources(["org/texts"], "train")
    assert [(row.id, row.text) for row in read_rows(source, Columns())] == [("a", "x")]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(DataError, match="org/texts cannot be opened"):
        list(read_rows(source, Columns()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no input was given"),
        (["none.txt"], "none.txt does not exist"),
        (["*.nothing"], "no file matches"),
        (["."], "holds no .parquet"),
        (["a.jsonl", "a.jsonl"], "two inputs are called a.jsonl"),
    ],
)
def test_inputs_that_are_not_there(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    if len(given) == 2:
        jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match=message):
        find_sources(given)
