import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError
from udever.pairs.columns import are_blank
from udever.pairs.files import Rows, column_names, read_batches, read_pairs, size_in_memory, write_pairs
from udever.pairs.negatives import Options, mine_negatives
from udever.pairs.schema import SCHEMA, Pair

TEXT = st.text(min_size=1).filter(str.strip)


def with_scores(pair, scores):
    return replace(pair, scores=None if scores is None else tuple(scores[: 1 + len(pair.negatives)]))


PAIRS = st.builds(
    with_scores,
    st.builds(
        Pair,
        anchor=TEXT,
        positive=TEXT,
        negatives=st.lists(TEXT, max_size=3).map(tuple),
        anchor_language=st.none() | st.just("eng-Latn"),
        positive_language=st.none() | st.just("python-Code"),
        kind=st.sampled_from(["symmetric", "asymmetric", "classification"]),
        group=st.none() | st.text(),
        label=st.text(),
        source=st.none() | st.text(),
        licence=st.none() | st.just("MIT"),
        split=st.sampled_from(["train", "held_out"]),
    ),
    st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@given(st.lists(PAIRS, min_size=1, max_size=8))
def test_pairs_come_back_as_they_were(folder, pairs):
    write_pairs(pairs, folder / "pairs.parquet")
    assert read_pairs(folder / "pairs.parquet") == pairs
    for split in ("train", "held_out"):
        expected = [pair for pair in pairs if pair.split == split]
        if expected:
            assert read_pairs(folder / "pairs.parquet", split) == expected
        else:
            with pytest.raises(DataError, match=split):
                read_pairs(folder / "pairs.parquet", split)


def write_jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["run:1", "s3:x", os.fsdecode(b"caf\xe9")])
def test_a_folder_may_be_called_anything(name, tmp_path, monkeypatch):
    """pyarrow takes a path with a colon for a URI, and none that is not UTF-8."""
    monkeypatch.chdir(tmp_path)
    path = Path(name) / "pairs.parquet"
    path.parent.mkdir()
    write_pairs([Pair("a", "b")], path)
    assert read_pairs(path) == [Pair("a", "b")]
    assert "anchor" in column_names(path) and size_in_memory(path) > 0
    mine_negatives(None, path, path.with_name("hard.parquet"), Options(mode="words"))
    assert [pair.anchor for pair in read_pairs(path.with_name("hard.parquet"))] == ["a"]


def test_jsonl_with_the_two_texts_alone(tmp_path):
    path = write_jsonl(
        tmp_path / "p.jsonl", {"anchor": "a", "positive": "b", "extra": 1}, {"anchor": "é", "positive": "d"}
    )
    assert read_pairs(path) == [Pair("a", "b"), Pair("é", "d")]


def test_a_null_where_a_default_is_meant(tmp_path):
    path = write_jsonl(
        tmp_path / "p.jsonl",
        {"anchor": "a", "positive": "b", "kind": "symmetric"},
        {"anchor": "c", "positive": "d"},
    )
    assert [pair.kind for pair in read_pairs(path)] == ["symmetric", "asymmetric"]


@pytest.mark.parametrize("having", [range(3), range(3, 9), range(6, 9)])
def test_rows_of_json_lines_may_leave_out_an_optional_column_for_whole_batches(tmp_path, monkeypatch, having):
    monkeypatch.setattr("udever.pairs.files.BATCH_ROWS", 3)
    rows = [{"q": f"a{i}", "positive": f"b{i}"} | ({"hard": f"n{i}"} if i in having else {}) for i in range(9)]
    path = write_jsonl(tmp_path / "p.jsonl", *rows)
    mapping = {"anchor": "q", "negative": "hard"}
    pairs = list(Rows(read_batches(path, mapping)))
    assert [pair.negatives for pair in pairs] == [(f"n{i}",) if i in having else () for i in range(9)]
    with pytest.raises(DataError, match=r"has no column 'herd' \(it has q, positive, hard\).*did you mean negative"):
        list(read_batches(path, {**mapping, "negative": "herd"}))
    with pytest.raises(DataError, match="has no column 'qq'"):
        next(read_batches(path, {"anchor": "qq"}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"anchor": "", "positive": "b"}, r"'anchor' is empty in 1 of 2 rows \(row 1\)"),
        ({"anchor": "a", "positive": " \n"}, r"'positive' is empty in 1 of 2 rows \(row 1\)"),
        ({"anchor": " " * 40, "positive": "b"}, r"'anchor' is empty in 1 of 2 rows \(row 1\)"),
        ({"anchor": "a", "positive": None}, r"'positive' is empty in 1 of 2 rows \(row 1\)"),
        ({"anchor": "a", "positive": 7}, "row 1: 'positive' is int"),
        ({"anchor": "a \ud800", "positive": "b"}, "row 1: 'anchor' has a lone surrogate"),
        ({"anchor": "a", "positive": "b", "kind": "both", "split": "train"}, "row 1: kind is 'both'"),
        ({"anchor": "a", "positive": "b", "kind": "symmetric", "split": "test"}, "row 1: split is 'test'"),
        ({"anchor": "a", "positive": "b", "kind": "classification"}, "row 1: kind is 'classification' and 'label'"),
        ({"anchor": "a", "positive": "b", "negative": " "}, "row 1: 'negative' is empty"),
        ({"anchor": "a", "positive": "b", "negative_2": ""}, "row 1: 'negative_2' is empty"),
        ({"anchor": "a", "positive": "b", "negatives": ["x", ""]}, "row 1: 'negatives' holds an empty text"),
        ({"anchor": "a", "positive": "b", "negatives": ["x", 3]}, "row 1: 'negatives' holds int"),
        ({"anchor": "a", "positive": "b", "negatives": "x"}, "row 1: 'negatives' is str"),
        (
            {"anchor": "a", "positive": "b", "negatives": ["x"], "scores": [1.0]},
            "row 1: 'scores' has 1 numbers; expected 2",
        ),
        ({"anchor": "a", "positive": "b", "scores": [float("nan")]}, "row 1: 'scores' holds nan"),
        ({"anchor": "a", "positive": "b", "scores": ["1"]}, "row 1: 'scores' holds str"),
    ],
)
def test_a_bad_row_is_named(row, message, tmp_path):
    good = {"anchor": "a", "positive": "b", "kind": "symmetric", "split": "train"}
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(write_jsonl(tmp_path / "p.jsonl", good, row))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_numbers_name_groups_sources_and_classes_too(suffix, tmp_path):
    path = tmp_path / f"p.{suffix}"
    row = {"anchor": "a", "positive": "b", "group": 3, "source": 4, "label": 5}
    if suffix == "jsonl":
        write_jsonl(path, row)
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    (pair,) = read_pairs(path)
    assert (pair.group, pair.source, pair.label) == ("3", "4", "5")


@pytest.mark.parametrize("column", ["negative", "licence", "anchor_language"])
def test_a_column_of_another_type_is_refused(column, tmp_path):
    path = write_jsonl(tmp_path / "p.jsonl", {"anchor": "a", "positive": "b", column: 3})
    with pytest.raises(DataError, match=column):
        read_pairs(path)


@pytest.mark.parametrize(("name", "content"), [("p.jsonl", "no json"), ("p.parquet", "no parquet"), ("p.parquet", "")])
def test_a_file_that_is_none_of_ours_is_refused(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_pairs(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(DataError, match="is not a file"):
        read_pairs(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="is a folder; give a table of pairs, such as udever pairs"):
        read_pairs(tmp_path)
    pq.write_table(pa.table({"anchor": ["a"], "query": ["b"]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"'positive'.*it has anchor, query"):
        read_pairs(tmp_path / "p.parquet")


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.tsv"])
def test_a_column_that_is_there_twice_is_named(tmp_path, name):
    names, path = ["question", "answer", "answer"], tmp_path / name
    if name == "p.parquet":
        pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names), path)
    else:
        path.write_text("".join((",", "\t")[name == "p.tsv"].join(row) + "\n" for row in (names, "abc")))
    with pytest.raises(DataError, match=r"has the column 'answer' twice; give each column a name of its own"):
        list(read_batches(path, {"anchor": "question", "positive": "answer"}))


def test_a_column_that_is_there_twice_and_not_read_does_no_harm(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 4, ["anchor", "positive", "x", "x"]), path)
    assert read_pairs(path) == [Pair("a", "a")]


def test_a_file_without_rows_is_refused(tmp_path):
    write_pairs([], tmp_path / "p.parquet")
    with pytest.raises(DataError, match="no pairs"):
        read_pairs(tmp_path / "p.parquet")
    assert pq.read_schema(tmp_path / "p.parquet").equals(SCHEMA)


def test_negatives_in_every_form(tmp_path):
    rows = [
        {"anchor": "a", "positive": "b", "negative": "n", "negative_10": "n10", "negative_2": "n2"},
        {"anchor": "a", "positive": "b", "negatives": ["x", "y"], "negative_2": "n2"},
        {"anchor": "a", "positive": "b", "negative": None, "negatives": None},
    ]
    expected = [("n", "n2", "n10"), ("x", "y", "n2"), ()]
    assert [pair.negatives for pair in read_pairs(write_jsonl(tmp_path / "p.jsonl", *rows))] == expected
    columns = ("anchor", "positive", "negative", "negative_2", "negative_10", "negatives")
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in columns})
    pq.write_table(table, tmp_path / "p.parquet")
    assert [pair.negatives for pair in read_pairs(tmp_path / "p.parquet")] == expected


def test_columns_of_other_arrow_types_are_read_the_same(tmp_path):
    table = pa.table(
        {
            "anchor": pa.array(["a", "b"]).dictionary_encode(),
            "positive": pa.array(["c", "d"], pa.large_string()),
            "negatives": pa.array([["x", "y"], ["z", "w"]], pa.list_(pa.string(), 2)),
            "label": pa.array([3, None], pa.int32()),
            "scores": pa.array([[3, 2, 1], None], pa.list_(pa.int64())),
            "group": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    assert read_pairs(tmp_path / "p.parquet") == [
        Pair("a", "c", ("x", "y"), label="3", scores=(3.0, 2.0, 1.0)),
        Pair("b", "d", ("z", "w")),
    ]


def test_bytes_that_are_no_text_are_named(tmp_path):
    broken = pa.array([b"fine", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"anchor": broken, "positive": ["a", "b"]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"p.parquet row 1: 'anchor' is no valid UTF-8"):
        read_pairs(tmp_path / "p.parquet")


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.jsonl", "header.csv"])
def test_a_file_in_another_encoding_is_named_with_what_to_do(tmp_path, name):
    path = tmp_path / name
    rows = [["anchor", "positive"], ["a", "b"], ["caf\xe9", "d"]]
    if name == "header.csv":
        rows = [["anchor", "positive", "Gr\xf6\xdfe"], ["a", "b", "c"]]
    separator = "\t" if name == "p.tsv" else ","
    lines = [separator.join(row) for row in rows]
    if name == "p.jsonl":
        lines = [json.dumps(dict(zip(rows[0], row, strict=True)), ensure_ascii=False) for row in rows[1:]]
    path.write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    place = {"p.jsonl": "line 2: ", "header.csv": "header"}.get(name, "row 1: 'anchor' is ")
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert place in str(caught.value) and "not UTF-8" in str(caught.value)
    assert "(iconv -f WINDOWS-1252 -t UTF-8, or from what it was saved in)" in str(caught.value)


def test_a_text_of_a_million_characters_and_many_batches(tmp_path):
    long = "word " * 200_000
    rows = [{"anchor": f"a{i}", "positive": long if i == 9000 else f"p{i}"} for i in range(9001)]
    pairs = read_pairs(write_jsonl(tmp_path / "p.jsonl", *rows))
    assert len(pairs) == 9001 and pairs[9000].positive == long
    write_pairs(pairs, tmp_path / "p.parquet")
    assert read_pairs(tmp_path / "p.parquet") == pairs


def test_a_row_is_counted_across_batches(tmp_path):
    rows = [{"anchor": "a", "positive": "" if i == 8200 else "p"} for i in range(8300)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    for path in (write_jsonl(tmp_path / "p.jsonl", *rows), tmp_path / "p.parquet"):
        with pytest.raises(DataError, match=r"'positive' is empty in 1 of 8,300 rows \(row 8200\)"):
            read_pairs(path)


def test_a_parquet_file_broken_in_the_middle(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(
        pa.table({"anchor": [f"a{i}" for i in range(20_000)], "positive": [f"p{i * i}" for i in range(20_000)]}),
        path,
        row_group_size=10_000,
        compression="none",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    content[middle - 30_000 : middle + 30_000] = b"\xff" * 60_000
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"p\.parquet") as caught:
        read_pairs(path)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_object_is_named(tmp_path):
    path = tmp_path / "p.jsonl"
    for line, says in (('{"anchor": "a"', "line 3"), ("[1]", "line 3: no JSON object"), ("[" * 200_000, "line 3")):
        path.write_text('{"anchor": "a", "positive": "b"}\n\n' + line + "\n")
        with pytest.raises(DataError, match=f"cannot be read as JSON lines: {says}") as caught:
            read_pairs(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b'{"anchor": "a", "positive": "b"}\n{"anchor": "\xff", "positive": "b"}\n')
    with pytest.raises(DataError, match="line 2: not UTF-8"):
        read_pairs(path)


def test_all_missing_answers_are_told_at_once(tmp_path):
    rows = [{"anchor": "a", "positive": None if i % 3000 == 7 else "p"} for i in range(10_000)]
    rows[5]["anchor"] = " "
    path = write_jsonl(tmp_path / "p.jsonl", *rows)
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    assert str(caught.value) == (
        f"{path}: 'anchor' is empty in 1 of 10,000 rows (row 5), 'positive' is empty in 4 of 10,000 rows (rows 7, "
        "3007, 6007, 9007); fill them in, or leave them out with skip_empty = true in the recipe's dataset or "
        "--skip-empty on the command line"
    )


CELL = st.text("ab\"' \u20ac", min_size=1, max_size=6).filter(str.strip)


@pytest.mark.parametrize("name", ["p.csv", "p.TSV", "p.tsv.gz", "p.ndjson", "p.JSONL.gz", "p.parquet", "bin.parquet"])
@given(rows=st.lists(st.tuples(CELL, CELL, st.none() | CELL), min_size=1, max_size=6))
def test_pairs_of_every_format_come_back(folder, name, rows):
    import csv
    import gzip
    import io

    path, kind = folder / name, name.lower().split(".")[1]
    names = ("anchor", "positive", "label")
    if kind == "parquet":
        of = pa.binary() if "bin" in name else pa.string()
        columns = [pa.array(column, pa.string()).cast(of) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    else:
        out = io.StringIO()
        if kind == "csv":
            csv.writer(out).writerows([names, *rows])
        elif kind == "tsv":
            out.writelines("\t".join(cell or "" for cell in row) + "\n" for row in [names, *rows])
        else:
            out.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
        content = out.getvalue().encode()
        path.write_bytes(gzip.compress(content) if name.lower().endswith("gz") else content)
    assert read_pairs(path) == [Pair(anchor, positive, label=label) for anchor, positive, label in rows]


@pytest.mark.parametrize("name", ["p.txt", "p.xlsx", "p.md", "p", "p.parquet.gz"])
def test_a_type_that_holds_no_pairs_is_refused(tmp_path, name):
    (tmp_path / name).write_text("anchor,positive\na,b\n")
    with pytest.raises(DataError, match="is of a type that holds no pairs"):
        read_pairs(tmp_path / name)


def test_a_bad_row_of_csv_is_named(tmp_path):
    (tmp_path / "p.csv").write_text('anchor,positive\na,b\na,"b\nc,d\n')
    with pytest.raises(DataError, match="cannot be read as CSV: row 1: not CSV at line 3: a quote is opened"):
        read_pairs(tmp_path / "p.csv")


def test_a_text_is_empty_in_pairs_where_it_is_for_encode():
    """Both leave out the characters that `str.strip` takes off, whatever stands beside them."""
    characters = [chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000]
    blank = are_blank(pa.array(characters), pa.array(["x"] * len(characters))).to_pylist()
    differing = [char for char, is_blank in zip(characters, blank, strict=True) if is_blank != (not char.strip())]
    assert [hex(ord(char)) for char in differing] == []
    long = [" \t\n" * 40, " " * 40 + "a" + " " * 40]
    assert are_blank(pa.array(long), pa.array(["x", "x"])).to_pylist() == [True, False]


def test_a_file_that_is_gone_before_its_digest_is_taken_is_named(tmp_path, monkeypatch):
    """As one that may not be read; the search for negatives had let the system's error through."""
    monkeypatch.setattr("udever.pairs.negatives.files_under", lambda *_, **__: [tmp_path / "gone.jsonl"])
    write_pairs([Pair("a", "b")], tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match=r"gone\.jsonl cannot be read: No such file"):
        mine_negatives(None, tmp_path / "pairs.parquet", tmp_path / "out.parquet", Options(mode="words"))
