"""What is not UTF-8 is told by every command in the same words, with what to do about it."""

import pyarrow.parquet as pq
import pytest

CONVERT = "convert the file (iconv -f WINDOWS-1252 -t UTF-8, or from what it was saved in)"


@pytest.fixture
def latin(tmp_path):
    """`latin(name, text)`: a file as programs of the West saved it before UTF-8."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
        return path

    return write


def told(error):
    assert error.count("\n") == 1 and CONVERT in error, error
    return error


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_embed(udever, decoders, latin, tmp_path, name):
    lines = {"a.csv": "text,id\ncafé,1\n", "a.tsv": "text\tid\ncafé\t1\n", "a.jsonl": '{"text": "café"}\n'}
    path = latin(name, lines.get(name, "café\n"))
    code, _, error = udever("embed", path, "-m", decoders("bloom"), "-o", tmp_path / "out")
    assert code == 2 and "none of 1 rows can be embedded" in told(error) and f"{name} row 0: " in error


@pytest.mark.parametrize("column", ["text", "id", "source"])
def test_a_row_that_is_not_embedded_keeps_its_name(udever, decoders, latin, tmp_path, column):
    rows = [{"text": "one", "id": "1", "source": "x"}, {"text": "two", "id": "2", "source": "y"}]
    rows[0][column] = "café"
    lines = [",".join(row.values()) for row in rows]
    path = latin("a.csv", "\n".join(["text,id,source,note", *(f"{line},café" for line in lines)]))
    code, _, error = udever("embed", path, "-m", decoders("bloom"), "-o", tmp_path / "out")
    assert code == 1, error
    (row,) = pq.read_table(tmp_path / "out" / "_failed.parquet").to_pylist()
    assert row["reason"] == f"{column!r} is not UTF-8; {CONVERT}"
    assert row["id"] == ("caf\\udce9" if column == "id" else "1")


def test_classify_by_a_header(udever, decoders, latin, tmp_path):
    path = latin("a.csv", "téxt,label\none,a\ntwo,b\n")
    code, _, error = udever("classify", "fit", path, "-m", decoders("bloom"), "-o", tmp_path / "out")
    assert code == 2 and "a.csv row 0: its header is not UTF-8" in told(error)


def test_embed_a_header(udever, decoders, latin, tmp_path):
    path = latin("a.csv", "téxt,id\none,1\n")
    code, _, error = udever("embed", path, "-m", decoders("bloom"), "-o", tmp_path / "out")
    assert code == 2 and f"{path}: its header is not UTF-8" in told(error)


@pytest.mark.parametrize("labels", ["ab", "aé"])
def test_classify(udever, decoders, latin, tmp_path, labels):
    text = "one" if labels == "aé" else "café"
    path = latin("a.csv", "text,label\n" + "".join(f"{text} {n},{labels[n % 2]}\n" for n in range(40)))
    code, _, error = udever("classify", "fit", path, "-m", decoders("bloom"), "-o", tmp_path / "out")
    assert code == 2 and ("'label'" if labels == "aé" else "'text'") in told(error)
    assert not (tmp_path / "out").exists()


def test_eval(udever, latin, tmp_path):
    task = latin("task/task.json", '{"name": "t", "type": "retrieval", "languages": ["eng-Latn"]}').parent
    latin("task/en.corpus.csv", "id,text\n" + "".join(f"{n},café {n}\n" for n in range(5)))
    latin("task/en.queries.csv", "id,text\n" + "".join(f"q{n},two {n}\n" for n in range(5)))
    latin("task/en.qrels.csv", "query_id,corpus_id\n" + "".join(f"q{n},{n}\n" for n in range(5)))
    code, out, error = udever("eval", "-m", "bm25", "--data", task, "-o", tmp_path / "out")
    assert code == 1, error
    assert f"en.corpus.csv, row 0: 'text' is not UTF-8; {CONVERT}" in out + error


def test_overlap(udever, latin, tmp_path):
    task = latin("task/task.json", '{"name": "t", "type": "classification", "languages": ["eng-Latn"]}').parent
    latin("task/en.csv", "text,label\nabc,a\n")
    code, _, error = udever("overlap", latin("pairs.csv", "anchor,positive\ncafé,one\n"), task)
    assert code == 2 and "pairs.csv, row 0: 'anchor' is not UTF-8" in told(error)


def test_queries_to_tune_by(latin):
    from udever.errors import DataError
    from udever.search.tune import read_queries

    with pytest.raises(DataError) as caught:
        read_queries(latin("queries.txt", "one\ncafé\n"))
    assert "queries.txt is not UTF-8: " in str(caught.value) and CONVERT in str(caught.value)


@pytest.mark.parametrize("name", ["labels.csv", "labels.toml"])
def test_labels_of_a_report(latin, name):
    from udever.errors import DataError
    from udever.report.labels import read_labels

    with pytest.raises(DataError) as caught:
        read_labels(latin(name, "model,family\na,Café\n" if name == "labels.csv" else '[a]\nfamily = "Café"\n'))
    assert f"{name} is not UTF-8: " in str(caught.value) and CONVERT in str(caught.value)


def test_shares_of_languages(latin):
    from udever.errors import DataError
    from udever.report.shares import read_shares

    with pytest.raises(DataError) as caught:
        read_shares(latin("shares.csv", "language,percent,name\nfra-Latn,30,Français\n"))
    assert "shares.csv is not UTF-8: " in str(caught.value) and CONVERT in str(caught.value)


def test_a_recipe(udever, latin):
    path = latin("recipe.toml", '[output]\nfolder = "Café"\n')
    code, _, error = udever("plan", path)
    assert code == 2 and "recipe.toml is not UTF-8: " in told(error)
