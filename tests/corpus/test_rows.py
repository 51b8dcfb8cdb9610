import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.corpus.rows import count_rows, read_rows
from udever.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def jsonl(path, records):
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8")
    return path


def parquet(path, records):
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


WRITERS = [("a.jsonl", jsonl), ("a.jsonl.gz", jsonl), ("a.parquet", parquet)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
@pytest.mark.parametrize(("name", "store"), WRITERS)
def test_any_text_comes_back(tmp_path, name, store, texts):
    path = store(tmp_path / name, [{"text": text} for text in texts])
    rows = list(read_rows(path))
    assert [row.text for row in rows] == texts
    assert [row.id for row in rows] == [str(number) for number in range(len(texts))]


@pytest.mark.parametrize(("name", "store"), WRITERS)
def test_ids_sources_and_other_columns(tmp_path, name, store):
    records = [{"id": 7, "body": "x", "source": "s"}, {"id": 8, "body": "y", "source": None}]
    rows = list(read_rows(store(tmp_path / name, records), "body"))
    assert [(row.id, row.text, row.source) for row in rows] == [("7", "x", "s"), ("8", "y", None)]


@pytest.mark.parametrize(("name", "store"), WRITERS)
@pytest.mark.parametrize("bad", [None, 3, ["x"]])
def test_a_row_that_is_no_text_is_named(tmp_path, name, store, bad):
    records = [{"text": "x"}] * (0 if name == "a.parquet" and bad is not None else 2)
    path = store(tmp_path / name, [*records, {"text": bad}])
    with pytest.raises(DataError, match=rf"{name} row {len(records)}: 'text' is (null|a int|a list)"):
        list(read_rows(path))


def test_ids_do_not_come_and_go(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x", "id": "a"}, {"text": "y"}])
    with pytest.raises(DataError, match="row 1: 'id' is None"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "x"}\n\n{"text": \n', "row 2 .line 3. is not JSON"),
        (b'{"text": "x"}\n"y"\n', "row 1 .line 2. is no JSON object"),
        (b'{"body": "x"}\n', "'text' is absent .it has body"),
        (b'{"text": "x"}\n{"text": "\xff"}\n', "not UTF-8"),
    ],
)
def test_broken_jsonl_is_named(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jsonl.*{message}"):
        list(read_rows(tmp_path / "a.jsonl"))


def test_lines_of_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\n  \nzwei é\nlast".encode())
    rows = [(row.number, row.id, row.text) for row in read_rows(tmp_path / "a.txt")]
    assert rows == [(0, "0", "one"), (3, "3", "zwei é"), (4, "4", "last")]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.txt.gz"])
def test_damaged_files_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b'{"text": "x"}\n' * 999)[:-9])
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        list(read_rows(tmp_path / name))
    assert count_rows(tmp_path / name) is None


def test_missing_file_and_column(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        list(read_rows(tmp_path / "none.txt"))
    path = parquet(tmp_path / "a.parquet", [{"body": "x"}])
    assert count_rows(path) == 1
    with pytest.raises(DataError, match=r"no column 'text' \(it has body\)"):
        list(read_rows(path))
