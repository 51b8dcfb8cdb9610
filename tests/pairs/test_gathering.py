"""`gather`: tables of a person's own beside what is mined, and what their columns mean."""

import csv
import json

import pytest

from udever.errors import DataError, RecipeError
from udever.pairs.columns import guess_columns
from udever.pairs.files import write_pairs
from udever.pairs.gathering import Gathering, gather, told_columns
from udever.pairs.schema import SPLITS, Pair


def texts(number):
    return f"how q{number} r{number} s{number}", f"so a{number} b{number} c{number}"


WORDS = ["red", "tall", "open", "lost", "warm", "late", "flat", "dark"]


@pytest.fixture
def table(tmp_path):
    """Sixty questions with their answers, as a spreadsheet writes them."""
    path = tmp_path / "qa.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("Question", "Answer"), *map(texts, range(60)), texts(0)])
    return path


def test_a_table_is_read_and_divided(table):
    found = gather([table], Gathering(held_out=0.2), show_progress=False)
    assert (len(found.pairs), found.num_files, found.skipped) == (60, 1, {"row: duplicate": 1})
    assert {pair.source for pair in found.pairs} == {"qa.csv"}
    held = [pair for pair in found.pairs if pair.split == "held_out"]
    assert 4 <= len(held) <= 18
    assert gather([table], Gathering(held_out=0.2), show_progress=False) == found
    assert told_columns(table, {}) == f"{table}: Question -> Answer"


def test_of_a_large_table_some_rows_are_kept_to_choose_by(table, monkeypatch):
    settings = Gathering(held_out=0.2, development=0.25)
    assert {pair.split for pair in gather([table], settings, show_progress=False).pairs} == {"train", "held_out"}
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 20)
    found = gather([table], settings, show_progress=False)
    sides = {split: {pair.anchor for pair in found.pairs if pair.split == split} for split in SPLITS}
    assert all(sides.values()) and sum(map(len, sides.values())) == len(found.pairs) == len(found.kinds) == 60
    without = gather([table], Gathering(held_out=0.2), show_progress=False)
    assert sides["held_out"] == {pair.anchor for pair in without.pairs if pair.split == "held_out"}


def test_what_is_chosen_by_may_be_of_the_held_out_rows(table, monkeypatch):
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 4)
    without = gather([table], Gathering(held_out=0.4), show_progress=False)
    found = gather([table], Gathering(held_out=0.4, development=0.5, choose_from="held_out"), show_progress=False)
    sides = [{p.anchor: p.split for p in pairs.pairs} for pairs in (without, found)]
    assert {anchor for anchor, side in sides[0].items() if side == "train"} == {
        anchor for anchor, side in sides[1].items() if side == "train"
    }
    assert set(sides[1].values()) == {"train", "development", "held_out"}


def test_tables_and_files_to_mine_go_together(table, tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(100, 104):
        question, answer = texts(number)
        (folder / f"{number}.md").write_text(f"# {question}\n\n{answer}, and some more words to make a section.\n")
    found = gather([table, folder], Gathering(held_out=0.2), show_progress=False)
    assert found.num_files == 5
    assert {"qa.csv", "100.md"} <= {str(pair.source).rpartition("/")[2] for pair in found.pairs}
    assert {pair.split for pair in found.pairs} == {"train", "held_out"}


def test_rows_to_choose_by_of_tables_and_of_files_go_together(table, tmp_path, monkeypatch):
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 4)
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(100, 160):
        question, answer = texts(number)
        (folder / f"{number}.md").write_text(f"# {question}\n\n{answer}, and some more words to make a section.\n")
    settings = Gathering(held_out=0.2, development=0.25)
    alone = gather([folder], settings, show_progress=False)
    wanted = {pair.anchor for pair in alone.pairs if pair.split == "development"}
    found = gather([table, folder], settings, show_progress=False)
    chosen_by = {pair.anchor for pair in found.pairs if pair.split == "development"}
    asked = {texts(number)[0] for number in range(100)} & chosen_by
    assert asked and set() < chosen_by - asked <= wanted  # files are taken in one order, however many


@pytest.fixture
def beside_code(tmp_path):
    """A table whose questions are comments of the code beside it, and whose answers are its functions."""
    folder, rows = tmp_path / "code", []
    folder.mkdir()
    for number in range(60):
        question = f"count the {WORDS[number % 8]} {WORDS[number // 8]} that nobody has opened yet"
        body = f"    found = walk(root, {number})\n    # {question}\n    left = found - {number}\n    return left\n"
        code = f"def work_{WORDS[number % 8]}_{WORDS[number // 8]}(root):\n{body}"
        (folder / f"m{number}.py").write_text(code)
        rows.append({"question": question, "answer": f"{code}\n"})
    path = tmp_path / "mix.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return gather([path, folder], Gathering(held_out=0.2), show_progress=False)


def test_what_a_table_holds_out_is_learned_from_nowhere(beside_code):
    held = {pair.anchor for pair in beside_code.pairs if pair.split == "held_out"}
    assert len(held) >= 8 and "comments" in beside_code.kinds
    learned = [text for pair in beside_code.pairs if pair.split == "train" for text in (pair.anchor, pair.positive)]
    assert not [text for text in learned for question in held if question in text]


def test_a_copy_of_what_a_table_asks_for_is_no_wrong_answer(beside_code):
    answers = {pair.positive.strip() for pair in beside_code.pairs if pair.split == "held_out"}
    assert answers and not [piece for piece in beside_code.corpus if piece.text.strip() in answers]


def test_a_table_does_not_hide_that_files_hold_nothing(table, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no pairs found in .*empty"):
        gather([table, tmp_path / "empty"], show_progress=False)


def test_of_rows_of_a_single_unit_none_are_kept_to_choose_by(tmp_path):
    pairs = [Pair(*texts(n), group="one" if n < 150 else "two") for n in range(300)]
    write_pairs(pairs, tmp_path / "pairs.parquet")
    settings = Gathering(held_out=0.4, development=0.1, held_out_by="group")
    found = gather([tmp_path / "pairs.parquet"], settings, show_progress=False)
    assert {pair.split for pair in found.pairs} == {"train", "held_out"}


def test_a_table_that_says_which_rows_are_to_choose_by_keeps_them(tmp_path, monkeypatch):
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 4)
    pairs = [Pair(*texts(n), split=("train", "development", "held_out", "train")[n % 4]) for n in range(40)]
    write_pairs(pairs, tmp_path / "all.parquet")
    write_pairs([pair for pair in pairs if pair.split != "held_out"], tmp_path / "some.parquet")
    for name in ("all", "some"):
        found = gather([tmp_path / f"{name}.parquet"], Gathering(development=0.2), show_progress=False)
        to_choose = [pair.anchor for pair in found.pairs if pair.split == "development"]
        assert to_choose == [pair.anchor for pair in pairs if pair.split == "development"]
        assert {pair.split for pair in found.pairs} == set(SPLITS)


def test_of_equal_rows_one_that_is_not_to_be_trained_on_is_kept(tmp_path):
    pairs = [Pair(*texts(n)) for n in range(30)]
    again = [Pair(*texts(0), split="development"), Pair(*texts(1), split="held_out"), Pair(*texts(2), source="other")]
    write_pairs([*pairs, *again], tmp_path / "pairs.parquet")
    found = gather([tmp_path / "pairs.parquet"], show_progress=False)
    assert [pair.split for pair in found.pairs] == ["development", "held_out", *["train"] * 28]
    assert found.skipped == {"row: duplicate": 3} and found.pairs[2].source == "pairs.parquet"


def test_rows_without_a_side_are_refused_or_left_out_and_counted(tmp_path):
    path = tmp_path / "gaps.jsonl"
    rows = [dict(zip(("question", "answer"), texts(n), strict=True)) for n in range(8)] + [
        {"question": "x", "answer": ""}
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"'positive' is empty in 1 of 9 rows \(row 8\).*--skip-empty"):
        gather([path], show_progress=False)
    found = gather([path], Gathering(skip_empty=True), show_progress=False)
    assert len(found.pairs) == 8 and found.skipped == {"row: no anchor or positive": 1}


def test_rows_that_say_their_split_keep_it(tmp_path):
    pairs = [Pair(*texts(n), split="held_out" if n < 5 else "train") for n in range(20)]
    write_pairs(pairs, tmp_path / "pairs.parquet")
    found = gather([tmp_path / "pairs.parquet"], show_progress=False)
    assert [pair.split for pair in found.pairs] == [pair.split for pair in pairs]


def test_what_cannot_be_gathered_is_said(table, tmp_path):
    with pytest.raises(DataError, match=r"no column 'Qestion' .*did you mean anchor = \"Question\""):
        gather([table], Gathering(columns={"anchor": "Qestion", "positive": "Answer"}), show_progress=False)
    with pytest.raises(RecipeError, match="held_out_by is 'txt'; did you mean 'text'"):
        gather([table], Gathering(held_out_by="txt"), show_progress=False)
    with pytest.raises(RecipeError, match=r"held_out is 1\.5; expected a share"):
        gather([table], Gathering(held_out=1.5), show_progress=False)
    many = tmp_path / "many.csv"
    many.write_text("frage,antwort,datum\na,b,c\n")
    with pytest.raises(
        DataError, match=r"name them: columns = \{ anchor = \.\.\., positive = \.\.\. \} in a recipe, --anchor"
    ):
        gather([many], show_progress=False)
    with pytest.raises(DataError, match=r"columns = \{ anchor = \"frage\", positive = \.\.\. \}"):
        gather([many], Gathering(columns={"anchor": "frage"}), show_progress=False)
    other = tmp_path / "other.csv"
    other.write_text("a;b\n1;2\n")
    with pytest.raises(DataError, match="separated by semicolons"):
        gather([other], show_progress=False)


def test_of_json_lines_columns_are_guessed_from_more_than_the_first_row(tmp_path):
    path = tmp_path / "qa.jsonl"
    rows = [dict(zip(("question", "answer"), texts(n), strict=True)) for n in range(20)]
    del rows[0]["answer"]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert told_columns(path, {}) == f"{path}: question -> answer"
    assert len(gather([path], Gathering(skip_empty=True), show_progress=False).pairs) == 19
    with pytest.raises(DataError, match=r"'positive' is empty in 1 of 20 rows \(row 0\)"):
        gather([path], show_progress=False)
    path.write_text("\n".join(json.dumps({"question": r["question"], "anser": r.get("answer")}) for r in rows))
    with pytest.raises(DataError, match=r"no column 'answer'"):
        gather([path], Gathering(columns={"anchor": "question", "positive": "answer"}), show_progress=False)


@pytest.mark.parametrize(
    ("columns", "meant"),
    [
        (["anchor", "positive", "x"], {}),
        (["id", "Question", "answer"], {"anchor": "Question", "positive": "answer"}),
        (["text", "title"], {"anchor": "title", "positive": "text"}),
        (["left", "right"], {"anchor": "left", "positive": "right"}),
        (["left", "middle", "right"], None),
        (["anchor", "label"], None),
        (["ID", "text"], None),
        ([], None),
    ],
)
def test_what_columns_mean_is_guessed_where_it_is_plain(columns, meant):
    assert guess_columns(columns) == meant


def test_what_is_chosen_by_may_be_held_out_of_tables_and_files_together(table, tmp_path, monkeypatch):
    monkeypatch.setattr("udever.pairs.split.MIN_TO_CHOOSE", 4)
    (tmp_path / "docs").mkdir()
    for number in range(100, 160):
        question, answer = texts(number)
        (tmp_path / "docs" / f"{number}.md").write_text(
            f"# {question}\n\n{answer}, and some more words to make a section.\n"
        )
    both = [table, tmp_path / "docs"]
    before = gather(both, Gathering(held_out=0.4), show_progress=False)
    found = gather(both, Gathering(held_out=0.4, development=0.5, choose_from="held_out"), show_progress=False)
    held, chosen_by, still = (
        {pair.anchor for pair in given.pairs if pair.split == split}
        for given, split in ((before, "held_out"), (found, "development"), (found, "held_out"))
    )
    assert chosen_by and still and chosen_by | still == held and not chosen_by & still


def test_a_tables_own_groups_stay_beside_files(tmp_path):
    pairs = [Pair(texts(n)[0], texts(n // 2)[1], group=f"own {n}") for n in range(40)]
    write_pairs(pairs, tmp_path / "pairs.parquet")
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "a.py").write_text(
        "def work_tall_red(root):\n    found = walk(root)\n    left = found\n    return left\n"
    )
    found = gather([tmp_path / "pairs.parquet", folder], Gathering(held_out_by="group"), show_progress=False)
    own = {pair.anchor: pair.group for pair in found.pairs if pair.source == "pairs.parquet"}
    assert len(own) > 10 and own.items() <= {pair.anchor: pair.group for pair in pairs}.items()


def test_bytes_of_a_column_that_is_not_read_are_nobodys_matter(tmp_path):
    rows = "".join(f"how q{n} r{n} s{n},so a{n} b{n} c{n},caf\xe9\n" for n in range(20))
    (tmp_path / "qa.csv").write_bytes(f"anchor,positive,note\n{rows}".encode("latin-1"))
    assert len(gather([tmp_path / "qa.csv"], show_progress=False).pairs) == 20
    (tmp_path / "bad.csv").write_bytes(f"anchor,note,positive\n{rows}".encode("latin-1"))
    with pytest.raises(DataError, match=r"bad\.csv row 0: 'positive' is not UTF-8; convert"):
        gather([tmp_path / "bad.csv"], show_progress=False)
