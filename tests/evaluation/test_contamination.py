import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from udever.cli import app
from udever.errors import DataError, RecipeError
from udever.evaluation.contamination import normalise, overlap, train_files
from udever.text.minhash import Shingled, jaccard

LONG = "The committee will meet again on the second of March to vote on the new budget for schools"


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def task(folder, name, rows, kind="sts", split="test", table="eng"):
    lines(folder / name / f"{table}.jsonl", rows)
    spec = {"name": name, "type": kind, "languages": ["eng-Latn"], "splits": {split: 1}}
    (folder / name / "task.json").write_text(json.dumps(spec))


@pytest.fixture
def tasks(tmp_path):
    folder = tmp_path / "eval"
    sts = [
        {"sentence1": LONG, "sentence2": "A man is slicing an onion in the kitchen", "score": 1.0, "split": "test"},
        {"sentence1": "Too short", "sentence2": "Somebody plays the flute by the river", "score": 1.0, "split": "test"},
        {"sentence1": "Only seen while a classifier is fitted", "sentence2": LONG, "score": 0.0, "split": "train"},
    ]
    task(folder, "sts", sts)
    task(
        folder,
        "search",
        [{"id": "a", "title": "", "text": "今天下午三点开会讨论新的预算"}],
        "retrieval",
        "dev",
        "cmn.corpus",
    )
    lines(folder / "search" / "cmn.queries.jsonl", [{"id": "q", "text": "什么时候开会讨论新的预算方案"}])
    lines(folder / "search" / "cmn.qrels.jsonl", [{"query_id": "q", "corpus_id": "a", "score": 1}])
    task(
        folder,
        "rerank",
        [{"query": "Which day is the vote?", "positives": [LONG + "."], "negatives": ["x y z" * 9]}],
        "reranking",
    )
    return folder


def found(outcome):
    return {
        (row.task, row.split, row.part): (row.num_texts, row.num_short, row.num_exact, row.num_near)
        for row in outcome.rows
    }


def test_exact_and_near_are_counted_by_task_and_split(tasks, tmp_path):
    train = lines(
        tmp_path / "train.jsonl",
        [
            {"anchor": "a  MAN is slicing\tan onion in the KITCHEN", "positive": LONG + " and hospitals"},
            {"anchor": "今天下午三点开会讨论新的预算。", "positive": "什么时候开会讨论新的预算方案", "negative": None},
            {
                "anchor": "Too short",
                "positive": "nothing of the kind",
                "source": "Somebody plays the flute by the river",
            },
            {"anchor": "Only seen while a classifier is fitted", "positive": "held out", "split": "held_out"},
        ],
    )
    outcome = overlap([train], tasks)
    assert found(outcome) == {
        ("rerank", "test", ""): (2, 1, 0, 1),
        ("search", "dev", "corpus"): (1, 0, 0, 1),
        ("search", "dev", "queries"): (1, 0, 1, 0),
        ("sts", "test", ""): (3, 1, 1, 1),
        ("sts", "train", ""): (2, 0, 0, 1),
    }
    assert (outcome.num_train_rows, outcome.num_held_out_rows, outcome.num_train_texts) == (3, 1, 6)
    assert {(row.task, row.subset) for row in outcome.subsets} == {("rerank", "eng"), ("search", "cmn"), ("sts", "eng")}
    assert outcome.worst_share == 1.0


def test_an_exact_match_outweighs_a_near_one_whatever_comes_first(tasks, tmp_path):
    for rows in ([LONG, LONG + " today"], [LONG + " today", LONG]):
        train = lines(tmp_path / "train.jsonl", [{"text": text} for text in rows])
        outcome = overlap([train], tasks, num_examples=1)
        (row,) = [row for row in outcome.rows if (row.task, row.split) == ("sts", "test")]
        assert (row.num_exact, row.num_near) == (1, 0)
        assert row.examples[0].exact and row.examples[0].train_text == normalise(LONG)


def test_parquet_and_jsonl_folders_and_lists_give_the_same(tasks, tmp_path):
    rows = [{"anchor": "who", "negatives": [LONG, "something else"]}]
    lines(tmp_path / "one" / "deep" / "pairs.jsonl", rows)
    (tmp_path / "two").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "two" / "pairs.parquet")
    left, right = (overlap([tmp_path / name], tasks) for name in ("one", "two"))
    assert left == right
    assert found(left)["sts", "test", ""] == (3, 1, 1, 0)


@given(st.lists(st.sampled_from(["red", "green", "blue", "old", "new", "big"]), min_size=8, max_size=14), st.data())
def test_counts_are_those_of_comparing_all_with_all(tmp_path_factory, words, data):
    folder = tmp_path_factory.mktemp("overlap")
    others = data.draw(st.lists(st.permutations(words).map(" ".join), min_size=1, max_size=4))
    texts = [" ".join(words), " ".join(words[:-1])]
    task(folder / "eval", "t", [{"text": text} for text in texts], "clustering")
    train = lines(folder / "train.jsonl", [{"text": text} for text in others])
    exact = {text for text in texts if text in others}
    near = {
        t for t in texts if any(jaccard(Shingled([t]).of(0), Shingled([other]).of(0)) >= 0.9 for other in others)
    } - exact
    (row,) = overlap([train], folder / "eval", threshold=0.9, min_chars=0).rows
    assert (row.num_exact, row.num_near) == (len(exact), len(near))


def test_what_cannot_be_read_is_named(tasks, tmp_path):
    good = lines(tmp_path / "good.jsonl", [{"anchor": "a", "positive": "b"}])
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"anchor": "a"}\n{"anchor": \n')
    with pytest.raises(DataError, match=r"bad\.jsonl, row 1"):
        overlap([bad], tasks)
    with pytest.raises(DataError, match="holds no training text"):
        overlap([lines(tmp_path / "numbers.jsonl", [{"id": "a", "score": 1}])], tasks)
    with pytest.raises(DataError, match="is not a folder"):
        overlap([good], tmp_path / "empty")
    with pytest.raises(DataError, match="missing does not exist"):
        overlap([tmp_path / "missing"], tasks)
    with pytest.raises(RecipeError, match="threshold"):
        overlap([good], tasks, threshold=0.5)
    (tasks / "sts" / "eng.jsonl").write_text("")
    with pytest.raises(DataError, match="sts holds no text"):
        overlap([good], tasks)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"broken\.parquet cannot be read"):
        overlap([broken], tasks / "rerank")


def test_the_command_prints_a_table_or_json_and_can_fail(tasks, tmp_path):
    train = str(lines(tmp_path / "train.jsonl", [{"anchor": LONG, "positive": "other"}]))
    run = CliRunner().invoke
    shown = run(app, ["overlap", train, train, str(tasks), "--num-examples", "1"])
    assert shown.exit_code == 0
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("sts") and line.endswith(" 50.0%")]
    assert line.split() == ["sts", "train", "2", "0", "1", "0", "50.0%"]
    assert f"    {normalise(LONG)}" in shown.stdout
    shown = run(app, ["overlap", train, str(tasks), "--json"])
    rows = {(row["task"], row["split"]): row for row in json.loads(shown.stdout)["rows"]}
    assert rows["sts", "test"]["share"] == pytest.approx(1 / 3)
    assert run(app, ["overlap", train, str(tasks), "--fail-above", "0.6"]).exit_code == 0
    assert run(app, ["overlap", train, str(tasks), "--fail-above", "0.4"]).exit_code == 1


@pytest.mark.parametrize("suffix", [".JSONL", ".ndjson", ".jsonl.gz", ".CSV"])
def test_pairs_of_any_known_format_are_compared(suffix, tasks, tmp_path, tiny):
    path = lines(tmp_path / "train" / "pairs.jsonl", [{"anchor": "who votes", "positive": LONG}])
    tiny.rewrite(path, suffix)
    path.unlink()
    assert found(overlap([tmp_path / "train"], tasks))["sts", "test", ""] == (3, 1, 1, 0)
    (tmp_path / "pairs.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="holds no pairs"):
        overlap([tmp_path / "pairs.xlsx"], tasks)


def test_a_terminal_obeys_nothing_of_names_and_texts(tasks, tmp_path):
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    task(tasks, "evil", [{"text": evil + LONG}], "clustering", split=f"test_{evil}")
    train = str(lines(tmp_path / "train.jsonl", [{"anchor": evil + LONG, "positive": "other"}]))
    for more in (["--num-examples", "1"], ["--json"]):
        shown = CliRunner().invoke(app, ["overlap", train, str(tasks), *more])
        assert shown.exit_code == 0, shown.output
        assert "\\u001b]0;ow" in shown.stdout
        assert not set("\x1b\x07\u202e") & set(shown.stdout)


def test_a_folder_stands_for_the_tables_and_the_saved_data_sets_in_it(tmp_path):
    for name in ("a.jsonl", "both/dataset_dict.json", "both/train/state.json", "one/state.json", "one/rows.jsonl"):
        lines(tmp_path / name, [{"anchor": "x"}])
    found = [path.relative_to(tmp_path).as_posix() for path in train_files([tmp_path])]
    assert found == ["a.jsonl", "both", "one"]
