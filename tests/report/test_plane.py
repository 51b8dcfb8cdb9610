import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError, OutputError
from udever.report import plane
from udever.report.parallel import Parallel, read_parallel
from udever.report.plane import make_plane, nearest_kinds, read_plane, write_plane

LANGUAGES = ("eng-Latn", "fra-Latn", "go-Code")
ROWS = 6


def embeddings(*, spread, seed=0):
    """Texts with a meaning each; `spread` moves the languages apart."""
    rng = np.random.default_rng(seed)
    meaning, language = rng.normal(size=(ROWS, 16)), rng.normal(size=(3, 16)) * spread
    noise = rng.normal(size=(3, ROWS, 16)) * 0.1
    return (meaning[None] + language[:, None] + noise).reshape(-1, 16).astype(np.float32)


@pytest.fixture(scope="module")
def example():
    texts = {language: [f"<b>{language} & {row}" for row in range(ROWS)] for language in LANGUAGES}
    sides = ("before/model", embeddings(spread=9.0)), ("after", embeddings(spread=0.0))
    return make_plane(Parallel(LANGUAGES, texts), *sides)


def test_the_number_tells_clusters_by_language_from_translations_side_by_side(example):
    assert example.before.shares() == {"translation": 0, "own language": 1, "another language": 0}
    assert example.after.shares()["translation"] == 1
    assert example.gain().difference == 1
    assert "0.0% of texts before and 100.0% after (+100.0 points" in example.sentence()


@given(st.integers(2, 4), st.integers(1, 8), st.integers(0, 1000))
def test_nearest_neighbours_are_those_of_a_plain_loop(num_languages, num_rows, seed):
    x = np.random.default_rng(seed).normal(size=(num_languages * num_rows, 3)).astype(np.float32)
    expected = []
    for i, a in enumerate(x):
        others = [j for j in range(len(x)) if j != i]
        best = max(others, key=lambda j: float(a @ x[j] / np.linalg.norm(a) / np.linalg.norm(x[j])))
        expected.append(0 if best % num_rows == i % num_rows else 1 if best // num_rows == i // num_rows else 2)
    assert nearest_kinds(x, num_rows).tolist() == expected


def test_blocks_do_not_change_the_neighbours(monkeypatch):
    x = embeddings(spread=1.0)
    whole = nearest_kinds(x, ROWS)
    monkeypatch.setattr(plane, "_BLOCK", 5)
    assert nearest_kinds(x, ROWS).tolist() == whole.tolist()


def test_an_embedding_without_length_is_refused():
    with pytest.raises(DataError, match="no length"):
        nearest_kinds(np.zeros((4, 3), np.float32), 2)


def test_every_text_is_in_the_picture_at_its_place(example, make_results):
    figure = plane.draw(example)
    rows = make_results.rows(figure)
    assert len(rows) == 2 * 3 * ROWS
    for when in ("before", "after"):
        marks = make_results.placed(figure, rf"point-{when}-(\d+)")
        own = [row for row in rows if row["when"] == when]
        assert len(marks) == len(own) == 3 * ROWS
        for axis, name in enumerate("xy"):
            drawn = [marks[str(index)][axis] for index in range(len(own))]
            assert make_results.is_affine([float(row[name]) for row in own], drawn)
        lines = [
            g for g in make_results.parse(figure).iter(f"{make_results.svg}g") if g.get("id") == f"plane-lines-{when}"
        ]
        assert len(list(lines[0].iter(f"{make_results.svg}path"))) == ROWS


def test_what_is_written_is_read_back(example, tmp_path):
    write_plane(example, tmp_path / "out", num_repeated=3)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".udever-output.json", "plane.svg", "plane.html", "plane.csv", "results.json"
    }  # fmt: skip
    told = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    assert told["gain"]["difference"] == 1 and told["num_repeated_rows_left_out"] == 3
    found = read_plane(tmp_path / "out")
    assert found.sentence() == example.sentence() and found.texts == example.texts
    assert plane.draw(found).svg == plane.draw(example).svg
    write_plane(example, tmp_path / "out")  # its own earlier output may be replaced


def test_another_folder_is_neither_read_nor_replaced(example, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="udever plane"):
        read_plane(tmp_path)
    with pytest.raises(OutputError):
        write_plane(example, tmp_path)


def test_a_table_that_lost_rows_is_refused(example, tmp_path):
    write_plane(example, tmp_path / "out")
    table = tmp_path / "out" / "plane.csv"
    table.write_text("".join(table.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    with pytest.raises(DataError, match="17 rows for 'after'"):
        read_plane(tmp_path / "out")


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_named_as_languages_are_taken(tmp_path):
    columns = {"id": ["1", "2"], "eng-Latn": ["a", "b"], "go-Code": ["c", "d"], "note": ["x", "x"]}
    found = read_parallel(parquet(tmp_path / "t.parquet", **columns))
    assert found == Parallel(("eng-Latn", "go-Code"), {"eng-Latn": ["a", "b"], "go-Code": ["c", "d"]})
    (tmp_path / "t.jsonl").write_text('{"eng-Latn": "a", "go-Code": "c"}\n\n{"eng-Latn": "b", "go-Code": "d"}\n')
    assert read_parallel(tmp_path / "t.jsonl") == found
    (tmp_path / "t.NDJSON").write_bytes((tmp_path / "t.jsonl").read_bytes())
    (tmp_path / "t.CSV").write_text("eng-Latn,go-Code\na,c\nb,d\n")
    assert read_parallel(tmp_path / "t.NDJSON") == read_parallel(tmp_path / "t.CSV") == found
    assert read_parallel(tmp_path / "t.parquet", ["id", "go-Code"]).languages == ("id", "go-Code")


def test_a_bitext_task_names_its_languages(tmp_path):
    path = parquet(tmp_path / "fra-eng.parquet", sentence1=["un", "deux"], sentence2=["one", "two"])
    with pytest.raises(DataError, match="--language"):
        read_parallel(path)
    (tmp_path / "task.json").write_text('{"languages": ["eng-Latn", "fra-Latn"]}')
    assert read_parallel(path).texts == {"fra-Latn": ["un", "deux"], "eng-Latn": ["one", "two"]}
    assert read_parallel(path, ["x", "y"]).languages == ("x", "y")


def test_repeated_texts_are_left_out_and_counted(tmp_path):
    columns = {"eng-Latn": ["a", "b", "a", "d"], "fra-Latn": ["e", "f", "g", "f"]}
    found = read_parallel(parquet(tmp_path / "t.parquet", **columns))
    assert found.texts["eng-Latn"] == ["a", "b"] and found.num_repeated == 2


def test_a_limit_draws_the_same_rows_every_time(tmp_path):
    columns = {language: [f"{language}{row}" for row in range(50)] for language in ("eng-Latn", "fra-Latn")}
    path = parquet(tmp_path / "t.parquet", **columns)
    found = read_parallel(path, limit=10, seed=1)
    assert found == read_parallel(path, limit=10, seed=1) != read_parallel(path, limit=10, seed=2)
    assert [t[8:] for t in found.texts["eng-Latn"]] == [t[8:] for t in found.texts["fra-Latn"]]
    assert found.num_rows == 10 and found.num_repeated == 0


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"eng-Latn": ["a", "b"], "fr": ["c", "d"]}, "columns eng-Latn, fr"),
        ({"eng-Latn": ["a", ""], "fra-Latn": ["c", "d"]}, "row 1: eng-Latn"),
        ({"eng-Latn": ["a", "b"], "fra-Latn": [None, "d"]}, "row 0: fra-Latn"),
        ({"eng-Latn": [1, 2], "fra-Latn": ["c", "d"]}, "row 0: eng-Latn"),
        ({"eng-Latn": ["a", "a"], "fra-Latn": ["c", "d"]}, "1 distinct"),
    ],
)
def test_texts_that_are_not_parallel_are_named(tmp_path, columns, told):
    with pytest.raises(DataError, match=told):
        read_parallel(parquet(tmp_path / "t.parquet", **columns))


@pytest.mark.parametrize(
    ("name", "content"), [("t.parquet", "x"), ("t.jsonl", "{"), ("t.jsonl", "[1]"), ("t.xlsx", "PK"), ("no", None)]
)
def test_a_file_that_is_none_is_named(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        read_parallel(tmp_path / name)
