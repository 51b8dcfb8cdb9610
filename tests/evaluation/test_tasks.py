import json

import pytest

from udever.errors import DataError
from udever.evaluation.mteb_task import as_mteb_task
from udever.evaluation.subset_languages import languages_of
from udever.evaluation.tasks import FolderTask, binary_in, find_tasks, numbers_in, read_columns


def test_parquet_and_jsonl_are_the_same_task(tmp_path, tiny):
    lines = FolderTask(tiny.write(tmp_path / "a", "sts"))
    table = FolderTask(tiny.write(tmp_path / "b", "sts", suffix=".parquet"))
    assert lines.read("en") == table.read("en")
    assert as_mteb_task(lines).metadata.eval_splits == ["test"]


@pytest.mark.parametrize("suffix", [".JSONL", ".ndjson", ".JSONL.GZ", ".CSV", ".tsv", ".Parquet"])
def test_a_table_of_any_known_format_is_read_in_any_case(suffix, tmp_path, tiny):
    rows = [{"id": f"q{n}", "text": f'a "quoted" query, {n}'} for n in range(3)]
    tables = {**tiny.tables["retrieval"], "en.queries": rows, "en.qrels": tiny.tables["retrieval"]["en.qrels"][:3]}
    folder = tiny.write(tmp_path / "t", "retrieval", tables)
    for part in ("corpus", "queries", "qrels"):
        path = folder / f"en.{part}.jsonl"
        tiny.rewrite(path, suffix)
        path.unlink()
    task = as_mteb_task(FolderTask(folder))
    task.load_data()
    data = task.dataset["en"]["test"]
    assert list(data["queries"]["text"]) == [row["text"] for row in rows]
    assert (len(data["corpus"]), data["relevant_docs"]["q2"]) == (9, {"d2": 1})


def test_numbers_and_labels_of_a_csv_are_read(tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "sts")
    (folder / "en.jsonl").unlink()
    (folder / "en.csv").write_text("sentence1,sentence2,score\na,b,1.5\nc,d,2\n")
    task = FolderTask(folder)
    assert numbers_in(task.read("en"), "score", task.path("en")) == [1.5, 2.0]
    (folder / "en.csv").write_text("text,label\na,1\nb,0\n")
    assert binary_in(task.read("en"), "label", task.path("en")) == [1, 0]


def test_a_table_of_a_format_that_is_not_read_is_refused(tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "sts")
    (folder / "README.md").write_text("# about")
    assert FolderTask(folder).files == {"en": {"": folder / "en.jsonl"}}
    (folder / "de.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"de\.xlsx.*give \.parquet"):
        FolderTask(folder)
    with pytest.raises(DataError, match=r"de\.xlsx.*\.parquet"):
        read_columns(folder / "de.xlsx")


def test_a_line_separator_inside_a_text_is_part_of_it(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a\u2028b\u0085c"}\n\n{"text": "d", "label": 1}\n', encoding="utf-8")
    assert read_columns(path) == {"text": ["a\u2028b\u0085c", "d"], "label": [None, 1]}


def test_tasks_are_found_in_a_folder_and_below(tmp_path, tiny):
    tiny.write(tmp_path / "one", "sts")
    tiny.write(tmp_path / "two", "bitext")
    assert [task.name for task in find_tasks(tmp_path)] == ["one", "two"]
    assert [task.name for task in find_tasks(tmp_path / "two")] == ["two"]
    tiny.write(tmp_path / "three", "sts", name="one")
    with pytest.raises(DataError, match="both called 'one'"):
        find_tasks(tmp_path)


@pytest.mark.parametrize(
    ("splits", "eval_splits", "expected"),
    [
        (["train", "dev", "test"], (), ["test"]),
        (["train", "valid"], (), ["valid"]),
        (["test_lay", "test_expert"], (), ["test_lay", "test_expert"]),
        (["a", "b"], (), ["a", "b"]),
        (["dev", "test"], ["dev"], ["dev"]),
        (["dev", "test"], {"validation": ["dev"], "all": ["dev", "test"]}, ["validation", "all"]),
    ],
)
def test_which_splits_are_scored(splits, eval_splits, expected, tmp_path, tiny):
    rows = [{"sentence1": "a", "sentence2": "b", "score": n, "split": split} for n, split in enumerate(splits)]
    task = FolderTask(tiny.write(tmp_path / "t", "sts", {"en": rows}, eval_splits=eval_splits))
    mteb_task = as_mteb_task(task)
    assert mteb_task.metadata.eval_splits == expected
    mteb_task.load_data()
    data = mteb_task.dataset["en"]
    assert list(data) == expected
    if "all" in expected:
        assert data["all"]["score"] == [0.0, 1.0] and data["validation"]["score"] == [0.0]


def test_the_fingerprint_follows_data_description_and_overrides(tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "sts")
    first = FolderTask(folder).fingerprint()
    assert FolderTask(folder).fingerprint() == first
    seen = {first, FolderTask(folder, {"main_score": "cosine_pearson"}).fingerprint()}
    tiny.write(folder, "sts", prompt="Say it")
    seen.add(FolderTask(folder).fingerprint())
    tiny.write(folder, "sts", {"en": [*tiny.tables["sts"]["en"], tiny.tables["sts"]["en"][3]]})
    seen.add(FolderTask(folder).fingerprint())
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ("de", ("deu-Latn",)),
        ("deu-eng", ("deu-Latn", "eng-Latn")),
        ("en-ext", ("eng-Latn",)),
        ("en-python", ("eng-Latn", "python-Code")),
        ("zh", ("cmn-Hans",)),
        ("default", ("deu-Latn", "eng-Latn", "python-Code", "cmn-Hans")),
    ],
)
def test_languages_of_a_subset(subset, expected):
    assert languages_of(subset, ["deu-Latn", "eng-Latn", "python-Code", "cmn-Hans"]) == expected


def test_languages_can_be_said(tmp_path, tiny):
    task = FolderTask(tiny.write(tmp_path / "t", "sts", subset_languages={"en": ["fra-Latn", "python"]}))
    assert task.subsets == {"en": ("fra-Latn", "python-Code")}


ROW = {"sentence1": "a", "sentence2": "b", "score": 1.0}


@pytest.mark.parametrize(
    ("kind", "tables", "complaint"),
    [
        ("sts", {"en": [ROW, {"sentence1": "a", "sentence2": "b"}]}, r"en\.jsonl, row 1: score is missing"),
        ("sts", {"en": [{**ROW, "score": "high"}]}, r"row 0: score is 'high'; expected a number"),
        ("sts", {"en": [{**ROW, "score": float("nan")}]}, r"row 0: score is nan"),
        ("sts", {"en": [ROW, {**ROW, "sentence2": None}]}, r"row 1: sentence2 is missing; expected a text"),
        ("sts", {"en": [{"sentence1": "a"}]}, r"no column 'sentence2'; it has sentence1"),
        ("sts", {"en": []}, r"no rows"),
        ("sts", {"en": [ROW], "de": [{**ROW, "split": "test"}, {**ROW, "split": "test_b"}]}, r"has the splits"),
        ("sts", {"en": [{**ROW, "split": None}]}, r"row 0: split is None"),
        ("classification", {"en": [{"text": "a", "label": None, "split": "train"}]}, r"row 0: label is missing"),
        ("classification", {"en": [{"text": "a", "label": "x", "split": "test"}]}, r"no rows of split 'train'"),
        ("pair_classification", {"en": [{"sentence1": "a", "sentence2": "b", "label": 2}]}, r"row 0: label is 2"),
        ("reranking", {"en": [{"query": "a", "positives": [], "negatives": ["b"]}]}, r"row 0: positives is \[\]"),
        ("crosslingual_retrieval", {"en.corpus": [{"id": "a", "text": "b"}]}, r"one language"),
    ],
)
def test_a_broken_row_is_named(kind, tables, complaint, tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", kind, tables)
    with pytest.raises(DataError, match=complaint):
        as_mteb_task(FolderTask(folder)).load_data()


@pytest.mark.parametrize(
    ("part", "rows", "complaint"),
    [
        ("corpus", [{"id": "d0", "text": "a"}, {"id": "d0", "text": "b"}], r"row 1: id 'd0' is that of row 0 too"),
        ("queries", [{"id": "q0", "text": None}], r"queries\.jsonl, row 0: text is missing"),
        ("qrels", [{"query_id": "q0", "corpus_id": "d99"}], r"qrels\.jsonl, row 0: there is no document 'd99'"),
        ("qrels", [{"query_id": "q77", "corpus_id": "d0"}], r"there is no query 'q77'"),
    ],
)
def test_a_broken_retrieval_table_is_named(part, rows, complaint, tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "retrieval", {**tiny.tables["retrieval"], f"en.{part}": rows})
    with pytest.raises(DataError, match=complaint):
        as_mteb_task(FolderTask(folder)).load_data()


def test_a_missing_table_is_named(tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "retrieval")
    (folder / "en.qrels.jsonl").unlink()
    with pytest.raises(DataError, match=r"no en\.qrels\.parquet"):
        as_mteb_task(FolderTask(folder)).load_data()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "not a JSON object"),
        ('{"name": "t"}', "'type' is missing"),
        ('{"name": "t", "type": "sts", "languages": ["eng-Latn"], "main_scor": "x"}', "did you mean 'main_score'"),
        ('{"name": "t", "type": "stss", "languages": ["eng-Latn"]}', "type is 'stss'"),
        ('{"name": "../t", "type": "sts", "languages": ["eng-Latn"]}', "name is '../t'"),
        ('{"name": "t", "type": "sts", "languages": []}', "languages"),
    ],
)
def test_a_broken_description_is_explained(content, complaint, tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "sts")
    (folder / "task.json").write_text(content)
    with pytest.raises(DataError, match=complaint):
        FolderTask(folder)


def test_a_language_mteb_does_not_know_is_an_error(tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "sts", languages=["xxx-Yyyy"])
    with pytest.raises(DataError, match=r"task\.json"):
        as_mteb_task(FolderTask(folder))


def test_folders_that_are_none(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        find_tasks(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no task\.json"):
        find_tasks(tmp_path)
    (tmp_path / "task.json").write_text(json.dumps({"name": "t", "type": "sts", "languages": ["eng-Latn"]}))
    with pytest.raises(DataError, match="no table"):
        find_tasks(tmp_path)


def test_a_broken_line_and_a_broken_table_are_named(tmp_path, tiny):
    folder = tiny.write(tmp_path / "t", "sts")
    (folder / "en.jsonl").write_text('{"sentence1": "a"}\n{oops\n')
    with pytest.raises(DataError, match=r"en\.jsonl, row 1: not JSON"):
        FolderTask(folder).read("en")
    (folder / "en.jsonl").unlink()
    (folder / "en.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"en\.parquet cannot be read"):
        FolderTask(folder).read("en")
