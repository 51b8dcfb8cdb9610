import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udever.corpus.inputs import BadRow, Columns, InputRow, check_columns, check_split, find_sources, read_rows
from udever.errors import DataError
from udever.files import text_format

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text.strip()
)


def pack(path, content):
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content)
    elif path.suffix == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path.write_bytes(content)
    return path


def jsonl(path, records):
    return pack(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())


def parquet(path, records):
    with path.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(records), file)
    return path


def quoted(path, records):
    import csv
    import io

    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), quoting=csv.QUOTE_ALL)
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
    ("a.JSONL", jsonl),
    ("a.parquet", parquet),
    ("a.csv", quoted),
    ("a.csv.gz", quoted),
    ("saved", dataset),
]
FILES = [pair for pair in WRITERS if pair[0] != "saved"]


def rows_of(path, **columns):
    return [row for source in find_sources([str(path)]) for row in read_rows(source, Columns(**columns))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
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
    assert [type(row) for row in rows] == [InputRow, BadRow, InputRow]
    assert rows[1].number == 1 and rows[1].place == "a.jsonl" and rows[1].id == "1"
    assert ("empty" in rows[1].reason) == isinstance(bad, str)
    assert rows[1].text == (bad if bad is None or isinstance(bad, str) else json.dumps(bad))


def test_parquet_columns_of_another_type(tmp_path):
    rows = rows_of(parquet(tmp_path / "a.parquet", [{"text": 3}, {"text": None}]))
    assert [row.reason for row in rows] == ["'text' is int; expected a text", "'text' is null; expected a text"]


def test_a_parquet_column_that_is_there_twice_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 4, ["text", "text", "extra", "extra"]), path)
    with pytest.raises(DataError, match=r"a\.parquet has the column 'text' twice; give each column a name of its own"):
        rows_of(path)
    pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 3, ["text", "extra", "extra"]), path)
    assert [row.text for row in rows_of(path)] == ["x"]


def test_ids_do_not_come_and_go(tmp_path):
    rows = rows_of(jsonl(tmp_path / "a.jsonl", [{"text": "x", "id": "a"}, {"text": "y"}, {"text": "z", "id": True}]))
    assert [row.id for row in rows] == ["a", None, None]
    assert all("'id' is" in row.reason for row in rows[1:])


def test_a_row_without_the_id_column_that_was_named_is_a_bad_row(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}, {"text": "y", "key": "a"}])
    first, second = rows_of(path, id="key")
    assert isinstance(first, BadRow) and first.reason == "'key' is None; expected a string or a whole number"
    assert second.id == "a"


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "id,libell\xe9\n1,x\n".encode("latin-1")), ("a.jsonl", b'{"\\ud83d": 1}\n')],
)
def test_the_reason_of_a_bad_row_is_utf8_whatever_the_columns_are_called(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (row,) = rows_of(tmp_path / name)
    assert row.reason.encode() and row.reason.startswith("no 'text'; the row has ")


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
    assert [type(row) for row in rows] == [InputRow, BadRow, InputRow]
    assert rows[1].number == 2 and rows[1].reason.startswith(reason)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "dataset"])
def test_a_mistyped_column_is_answered_with_the_nearest(tmp_path, kind):
    rows = [{"id": "a", "title": "x", "text": "y"}]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        path.write_text("id,title,text\na,x,y\n")
    elif kind == "jsonl":
        jsonl(path, rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        import datasets

        datasets.Dataset.from_list(rows).save_to_disk(path)
    (source,) = find_sources([str(path)])
    (row,) = read_rows(source, Columns("txt"))
    assert row.reason == "no 'txt'; did you mean 'text'?"
    (row,) = read_rows(source, Columns("body"))
    assert row.reason == "no 'body'; the row has id, title, text"
    for columns, says in (
        (Columns("txt"), "no column 'txt'; did you mean 'text'"),
        (Columns(id="titel"), "no column 'titel'; did you mean 'title'"),
        (Columns("body"), "no column 'body'; the row has id, title, text"),
    ):
        with pytest.raises(DataError, match=says):
            check_columns([source], columns)
    check_columns([source], Columns(id="title"))


@pytest.mark.parametrize(("name", "store"), [("a.parquet", parquet), ("saved", dataset)])
def test_rows_of_a_table_without_the_column_fail_and_are_not_lost(tmp_path, name, store):
    path = store(tmp_path / name, [{"sentence": "e f"}, {"sentence": "g h"}])
    (source,) = find_sources([str(path)])
    with pytest.raises(DataError, match=f"{name} has no column 'text'; the row has sentence"):
        check_columns([source], Columns())
    assert [row.reason for row in read_rows(source, Columns())] == ["no 'text'; the row has sentence"] * 2


def test_broken_rows_of_csv_are_only_themselves(tmp_path):
    content = b'id,text\n1,good\n2,too,many\n\n3,"a"b\n4,\xff\n5,fine\n'
    (tmp_path / "a.csv").write_bytes(content)
    rows = rows_of(tmp_path / "a.csv")
    assert [type(row) for row in rows] == [InputRow, BadRow, BadRow, BadRow, InputRow]
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert "3 fields; the header has 2" in rows[1].reason and "not CSV" in rows[2].reason
    assert rows[3].text == "\\udcff" and rows[3].reason.startswith("'text' is not UTF-8; convert the file")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('2,"never closed', "not CSV at line 3: a quote is opened and not closed"),
        ('2,"closed"badly', "not CSV at line 3: ',' expected after"),
        ("2,too,many", "3 fields; the header has 2"),
    ],
)
@pytest.mark.parametrize("after", ['3,c\n4,"d, e"\n5,f', "3,c\n4,d\n5,f", '3,"c"\n4,"d\ne"\n5,f'])
def test_a_bad_line_of_csv_fails_where_it_stands_and_takes_nothing_with_it(tmp_path, bad, reason, after):
    (tmp_path / "a.csv").write_text(f"id,text\n1,a\n{bad}\n{after}\n")
    first, failed, *rest = rows_of(tmp_path / "a.csv")
    assert first.text == "a" and failed.text == bad and failed.reason.startswith(reason)
    assert [row.id for row in rest] == ["3", "4", "5"] and rest[2].text == "f"


def test_tabs_alone_separate_in_tsv(tmp_path):
    lines = ["id\ttext", '1\t"never closed', '2\tsaid "so"', "3\ttoo\tmany", "4\t\t", "", '"5"\t"x"']
    (tmp_path / "a.tsv").write_text("\r\n".join(lines))
    rows = rows_of(tmp_path / "a.tsv")
    assert [(row.id, row.text) for row in rows if isinstance(row, InputRow)] == [
        ("1", '"never closed'),
        ("2", 'said "so"'),
        ('"5"', '"x"'),
    ]
    assert [(row.number, row.text) for row in rows if isinstance(row, BadRow)] == [(2, "3\ttoo\tmany"), (3, "4\t\t")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["1", "", "ab"]), st.text('a"\u20ac ', max_size=6)), max_size=8),
    ragged=st.lists(st.booleans(), min_size=8, max_size=8),
)
@pytest.mark.parametrize("name", ["a.tsv", "a.TSV.GZ", "a.jsonl", "a.ndjson.gz", "a.csv", "a.parquet", "a.pq"])
def test_what_goes_in_comes_out_or_is_told(tmp_path, name, rows, ragged):
    """Texts come back as they are; those that are empty, and rows with a field too many, as failed rows."""
    path = tmp_path / name
    kind = name.lower().split(".")[1]
    if kind in ("jsonl", "ndjson"):
        jsonl(path, [{"key": key, "text": text} for key, text in rows])
    elif kind in ("parquet", "pq"):
        pq.write_table(pa.table({"text": pa.array([text for _, text in rows], pa.string())}), path)
    elif kind == "csv":
        quoted(path, [{"key": "k", "text": "t"}] + [{"key": key, "text": text} for key, text in rows])
        rows = [("k", "t"), *rows]
    else:
        lines = [[*row, "more"] if extra else row for row, extra in zip(rows, ragged, strict=False)]
        pack(path, "\n".join("\t".join(line) for line in [("key", "text"), *lines]).encode())
        texts = [text for (_, text), extra in zip(rows, ragged, strict=False) if text.strip() and not extra]
        found = rows_of(path)
        assert len(found) == len(rows) and [row.text for row in found if isinstance(row, InputRow)] == texts
        return
    found = rows_of(path)
    assert len(found) == len(rows)
    assert [row.text for row in found] == [text for _, text in rows]
    assert [isinstance(row, InputRow) for row in found] == [bool(text.strip()) for _, text in rows]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(lines=st.lists(st.text('a",', max_size=7), max_size=8))
def test_no_character_of_a_csv_file_is_lost(tmp_path, lines):
    """Whatever the quotes: the letters of all rows, good and failed, are those of the file."""
    (tmp_path / "a.csv").write_text("text\n" + "".join(line + "\n" for line in lines))
    found = "".join(row.text for row in rows_of(tmp_path / "a.csv"))
    assert found.count("a") == sum(line.count("a") for line in lines)


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


@pytest.mark.parametrize("pattern", [None, "**/*", "*/*"])
def test_outputs_of_jobs_below_a_folder_or_glob_are_passed_over_and_counted(tmp_path, pattern):
    root = tmp_path / "in"
    for name in ("raw/a.txt", "old/_job.json", "old/shards/b.parquet", "old/_failed.parquet"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        jsonl(root / name, [{"text": name}])
    skipped = Counter()
    given = str(root if pattern is None else root / pattern)
    assert [source.name for source in find_sources([given], skipped=skipped)] == ["raw/a.txt"]
    (reason,) = skipped
    assert reason.endswith(": output of a corpus job")
    with pytest.raises(DataError, match=r"no file matches .*; passed over: 1 file: output of a corpus job; check"):
        find_sources([str(root / "old" / "*.parquet")])


def test_datasets_among_several_inputs_have_ids_of_their_own(tmp_path):
    paths = [str(dataset(tmp_path / name, [{"text": "x"}, {"text": "y"}])) for name in ("one", "two")]
    rows = [row.id for source in find_sources(paths) for row in read_rows(source, Columns())]
    assert rows == ["one:0", "one:1", "two:0", "two:1"]
    assert [row.id for row in rows_of(tmp_path / "one")] == ["0", "1"]
    assert [source.alone for source in find_sources([*paths, "org/texts"])] == [False] * 3


def test_a_split_that_is_not_there_is_refused(tmp_path):
    import datasets

    datasets.disable_progress_bars()
    named = datasets.Dataset.from_list([{"text": "x"}], split="validation")
    named.save_to_disk(tmp_path / "named")
    unnamed = dataset(tmp_path / "unnamed", [{"text": "x"}])
    for path, split in ((tmp_path / "named", "validation"), (unnamed, "train")):
        (source,) = find_sources([str(path)], split)
        assert [row.text for row in read_rows(source, Columns())] == ["x"]
        (source,) = find_sources([str(path)], "nonsense")
        with pytest.raises(DataError, match=f"has the splits {split}; choose one with --split"):
            check_columns([source], Columns())
    path = jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match="split 'train' is given and no input is a dataset; leave out --split"):
        check_split(find_sources([str(path)]), "train")
    check_split(find_sources([str(path), str(unnamed)], "train"), "train")
    assert len(find_sources([str(path), str(unnamed)], "train")) == 2


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

    def load(name, config, *, split, revision, streaming):
        assert (name, config, split, revision, streaming) == ("org/texts", None, "train", None, True)
        return datasets.Dataset.from_list([{"text": "x", "id": "a"}]).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    (source,) = find_sources(["org/texts"], "train")
    assert [(row.id, row.text) for row in read_rows(source, Columns())] == [("a", "x")]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(DataError, match="org/texts cannot be loaded from the hub"):
        list(read_rows(source, Columns()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no input was given"),
        (["none.txt"], "none.txt does not exist"),
        (["*.nothing"], "no file matches"),
        (["."], r"holds no files that are read \(.parquet"),
        (["a.jsonl", "a.jsonl"], "two inputs are called a.jsonl"),
    ],
)
def test_inputs_that_are_not_there(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    if len(given) == 2:
        jsonl(tmp_path / "a.jsonl", [{"text": "x"}])
    with pytest.raises(DataError, match=message):
        find_sources(given)


@pytest.mark.parametrize(
    ("name", "kind", "packing"),
    [
        ("a.CSV", "csv", ""),
        ("a.JSONL.GZ", "jsonl", "gz"),
        ("a.ndjson", "jsonl", ""),
        ("a.v2.Tsv.zst", "tsv", "zst"),
        ("a.TXT", "txt", ""),
        ("a.Parquet", "parquet", ""),
        ("README", "txt", ""),
        ("notes.md.gz", "txt", "gz"),
    ],
)
def test_names_tell_formats_without_case(name, kind, packing):
    form = text_format(Path(name))
    assert (form.kind, form.packing) == (kind, packing)


@pytest.mark.parametrize("name", ["a.xlsx", "a.ARROW", "a.parquet.gz", "a.tar.gz", "a.xml", "a.csv.bz2"])
def test_a_structure_that_is_not_read_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"text\nx\n")
    with pytest.raises(DataError, match=f"{name} is a .* file, not read"):
        find_sources([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("content", "message"),
    [("text\n".encode("utf-16"), "is UTF-16"), (b"\0\1" * 50, "binary"), (b'[\n{"text": 1}\n]', "JSON array")],
)
def test_a_file_of_another_content_is_refused(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        rows_of(tmp_path / "a.jsonl")


def test_what_a_folder_holds_besides_is_counted(tmp_path):
    root = tmp_path / "in"
    (root / ".hidden").mkdir(parents=True)
    jsonl(root / "a.NDJSON", [{"text": "x"}])
    jsonl(tmp_path / "secret.jsonl", [{"text": "y"}])
    for name in ("b.md", "c.MD", "config.json", ".d.jsonl", "README"):
        (root / name).write_text("{}")
    (root / "out.jsonl").symlink_to("../secret.jsonl")
    (root / "in.jsonl").symlink_to("a.NDJSON")
    (root / "up").symlink_to("..")
    os.mkfifo(root / "e.csv")
    skipped = Counter()
    assert [source.name for source in find_sources([str(root)], skipped=skipped)] == ["a.NDJSON", "in.jsonl"]
    assert skipped == {
        "file: .md, not read in folders": 2,
        "file: .json, not read in folders": 1,
        "file: without a suffix, not read in folders": 1,
        "file: hidden": 1,
        "folder: hidden": 1,
        "folder: symbolic link": 1,
        "file: is a link out of its folder": 1,
        "file: is not a regular file": 1,
    }
    skipped = Counter()
    assert [source.name for source in find_sources([str(root / "*.jsonl")], skipped=skipped)] == ["in.jsonl"]
    assert skipped == {"file: hidden": 1, "file: is a link out of its folder": 1}
    with pytest.raises(DataError, match="is not a regular file"):
        find_sources([str(root / "e.csv")])


def test_a_name_that_is_no_utf8_is_escaped(tmp_path):
    for name in (b"caf\xe9.jsonl", b"caf\xe9.parquet"):
        path = tmp_path / os.fsdecode(name)
        (jsonl if path.suffix == ".jsonl" else parquet)(path, [{"text": "x"}])
    assert [(row.source, row.text) for row in rows_of(tmp_path)] == [
        ("caf\\xe9.jsonl", "x"),
        ("caf\\xe9.parquet", "x"),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt", "a.csv", "a.tsv"])
def test_a_line_that_is_too_large_is_only_itself(tmp_path, monkeypatch, name):
    monkeypatch.setattr("udever.records.MAX_ROW_BYTES", 1000)
    lines = {"jsonl": '{{"text": "{}"}}', "csv": "{}", "tsv": "{}", "txt": "{}"}
    line = lines[name.split(".")[1]]
    content = [line.format(text) for text in ("x", "long" * 1000, "y")]
    pack(tmp_path / name, "\n".join(["text"] * (line == "{}" and "txt" not in name) + content).encode())
    rows = rows_of(tmp_path / name)
    assert [type(row) for row in rows] == [InputRow, BadRow, InputRow]
    assert rows[2].text == "y" and rows[1].reason.startswith("larger than 1,000 bytes")
    assert "longlong" in rows[1].text


def test_a_text_of_parquet_that_is_too_large_is_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("udever.records.MAX_ROW_BYTES", 1000)
    rows = rows_of(parquet(tmp_path / "a.parquet", [{"text": "x"}, {"text": "long" * 1000}, {"text": "y"}]))
    assert [type(row) for row in rows] == [InputRow, BadRow, InputRow]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.zst", "a.jsonl.gz"])
def test_a_file_that_expands_too_far_gives_what_came_before(tmp_path, monkeypatch, name):
    monkeypatch.setattr("udever.files.FREE_BYTES", 1 << 20)
    record = '{"text": "x"}\n' if "jsonl" in name else "text\n"
    pack(tmp_path / name, (record + record * 2_000_000).encode())
    *good, last = rows_of(tmp_path / name)
    assert good and all(isinstance(row, InputRow) for row in good) and len(good) < 2_000_000
    assert isinstance(last, BadRow) and "unpacks to more than 200 times its size" in last.reason


def test_a_date_that_python_has_not_is_an_error_only_where_it_is_asked_for(tmp_path):
    when = pa.array([2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"when": when, "text": ["x"]}), tmp_path / "a.parquet")
    assert [row.text for row in rows_of(tmp_path / "a.parquet")] == ["x"]
    assert [row.reason for row in rows_of(tmp_path / "a.parquet", text="body")] == ["no 'body'; the row has when, text"]
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet: date value out of range; check"):
        rows_of(tmp_path / "a.parquet", text="when")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
def test_binary_columns_that_hold_text_are_read(tmp_path, kind):
    values = pa.array([b"x", "é".encode(), b"\xff"], pa.binary()).cast(kind)
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    assert [row.text for row in rows_of(tmp_path / "a.parquet")] == ["x", "é", "\udcff"]
