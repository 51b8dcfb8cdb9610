from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError
from udever.pairs.schema import Pair
from udever.pairs.split import (
    HELD_OUT,
    LEFT_OUT,
    TRAIN,
    choose,
    choose_sized,
    divide,
    position,
    split_pairs,
    split_table,
)

NAMES = st.sampled_from([f"folder/file_{number}.py" for number in range(12)])
ROWS = st.lists(
    st.builds(
        Pair,
        anchor=st.integers(0, 40).map("anchor {}".format),
        positive=st.integers(0, 40).map("positive {}".format),
        group=st.none() | st.integers(0, 8).map(str),
        source=NAMES,
    ),
    max_size=40,
)


def sides(pairs, key):
    return {split: {key(pair) for pair in pairs if pair.split == split} for split in ("train", "held_out")}


@given(ROWS, st.floats(0, 0.9), st.integers(0, 5))
def test_no_file_group_or_text_is_on_both_sides(pairs, held_out, seed):
    skipped: Counter[str] = Counter()
    found = split_pairs(pairs, held_out, seed, skipped)
    assert len(found) + sum(skipped.values()) == len(pairs)
    for key in (lambda p: p.source, lambda p: p.group, lambda p: p.anchor, lambda p: p.positive):
        both = sides(found, key)
        assert not (both["train"] & both["held_out"]) - {None}


@given(ROWS, st.integers(0, 5), st.randoms())
def test_the_order_of_rows_does_not_matter(pairs, seed, choice):
    shuffled = list(pairs)
    choice.shuffle(shuffled)
    first, second = (split_pairs(rows, 0.3, seed, Counter()) for rows in (pairs, shuffled))
    assert Counter(first) == Counter(second)


@given(
    st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=30),
    st.floats(0.001, 0.999),
    st.integers(0, 9),
)
def test_each_side_has_a_name_where_there_are_two(names, share, seed):
    assert 1 <= len(choose(names, share, seed)) < len(names)


def test_each_side_has_a_file_where_there_are_two():
    pairs = [Pair(f"anchor {name}", f"positive {name}", source=name) for name in "ab"]
    for seed in range(20):
        assert {pair.split for pair in split_pairs(pairs, 0.01, seed, Counter())} == {"train", "held_out"}


def test_a_new_file_moves_no_other():
    names = {f"file_{number}" for number in range(200)}
    assert choose(names | {"new"}, 0.2, 3) - {"new"} == choose(names, 0.2, 3)
    assert 20 < len(choose(names, 0.2, 3)) < 60
    assert choose(names, 0.2, 3) != choose(names, 0.2, 4)


def test_positions_are_fixed_for_good():
    assert position("a.py", 0) == 0.8897677804065304


def test_one_file_or_no_share_is_all_train():
    pairs = [Pair(f"anchor {number}", f"positive {number}", source="a") for number in range(9)]
    assert {pair.split for pair in split_pairs(pairs, 0.9, 0, Counter())} == {"train"}
    many = [Pair(f"anchor {number}", f"positive {number}", source=str(number)) for number in range(9)]
    assert {pair.split for pair in split_pairs(many, 0, 0, Counter())} == {"train"}


def test_catalogues_of_one_program_leave_rows_on_both_sides():
    pairs = [
        Pair(
            f"message {number}",
            f"{language} {number}",
            kind="symmetric",
            group=str(number),
            source=f"{language}.po",
        )
        for language in ("de", "fr", "nl")
        for number in range(100)
    ]
    skipped: Counter[str] = Counter()
    found = split_pairs(pairs, 0.2, 0, skipped)
    counts = Counter(pair.split for pair in found)
    assert counts["held_out"] >= 10
    assert counts["train"] >= 70
    assert set(skipped) == {"row: same group on the other side of the split"}


FORMS = st.sampled_from(["{}", "## {}", "{}:", "**{}**", "{} again"])


def long_text(number):
    """Twenty words that stand in the text of no other number."""
    return " ".join(f"w{number}x{place}" for place in range(20))


SPELLED = st.builds(
    lambda source, anchor, positive, forms: Pair(
        forms[0].format(long_text(anchor)), forms[1].format(long_text(100 + positive)), source=source
    ),
    NAMES,
    st.integers(0, 15),
    st.integers(0, 15),
    st.tuples(FORMS, FORMS),
)


SPLIT = st.sampled_from(["train", "train", "development", "held_out"])


@given(st.lists(SPELLED, max_size=30), st.integers(0, 5))
def test_no_spelling_or_near_copy_of_a_text_is_on_both_sides(pairs, seed):
    skipped: Counter[str] = Counter()
    found = split_pairs(pairs, 0.3, seed, skipped)
    assert len(found) + sum(skipped.values()) == len(pairs)
    for side in ("anchor", "positive"):
        # Words carry their text's number, so that the first word tells whose spelling this is.
        both = sides(found, lambda p, side=side: "".join(c for c in getattr(p, side).split()[-2] if c.isdigit()))
        assert not both["train"] & both["held_out"]


def test_a_heading_spelled_otherwise_in_another_file_is_held_out_too():
    pairs = [Pair(heading, f"section {i} of {i * 17}", source=f"{i}.md") for i, heading in enumerate(
        ["Installation", "## INSTALLATION", "Installation:", "*Installation*", "Usage"]
    )]  # fmt: skip
    skipped: Counter[str] = Counter()
    found = split_pairs(pairs, 0.3, 1, skipped)
    spellings = sides(found, lambda pair: pair.anchor.strip("#*: ").lower())
    assert not spellings["train"] & spellings["held_out"]
    assert skipped == {"row: text that is held out, exactly or nearly": len(pairs) - len(found)}


@given(st.lists(SPELLED, min_size=2, max_size=30), st.integers(0, 5), st.sampled_from(["text", "source", "positive"]))
def test_a_table_is_divided_so_that_no_text_and_no_unit_is_on_both_sides(pairs, seed, by):
    try:
        division = divide(pairs, 0.3, seed, by)
    except DataError:
        return
    kept = [(pair, side) for pair, side in zip(pairs, division.sides, strict=True) if side != LEFT_OUT]
    assert {HELD_OUT} <= {side for _, side in kept}
    assert len(pairs) - len(kept) == sum(division.skipped.values())
    for key in ("anchor", "positive"):
        # Words carry their text's number, so that the last word but one tells whose spelling this is.
        both = [
            {"".join(filter(str.isdigit, getattr(pair, key).split()[-2])) for pair, side in kept if side == wanted}
            for wanted in (TRAIN, HELD_OUT)
        ]
        assert not both[0] & both[1]
    if by == "text":
        assert not division.skipped
    if by == "source":
        assert not {p.source for p, side in kept if side == TRAIN} & {p.source for p, s in kept if s == HELD_OUT}


@given(st.lists(SPELLED, min_size=2, max_size=20), st.randoms())
def test_the_order_of_a_tables_rows_does_not_matter(pairs, choice):
    def held(rows):
        try:
            return {
                pair for pair, side in zip(rows, divide(rows, 0.3, 0, "text").sides, strict=True) if side == HELD_OUT
            }
        except DataError:
            return None

    shuffled = list(pairs)
    choice.shuffle(shuffled)
    assert held(pairs) == held(shuffled)


def numbered(count, **changes):
    return [Pair(f"what is {long_text(i)}", f"it is {long_text(1000 + i)}", **changes) for i in range(count)]


def test_about_the_share_asked_for_is_held_out_and_new_rows_move_no_other():
    pairs = numbered(400)
    division = divide(pairs, 0.1, 0, "text")
    assert 20 < division.num_held_out < 60
    more = divide(pairs + numbered(420)[400:], 0.1, 0, "text")
    assert more.sides[:400].tolist() == division.sides.tolist()
    assert divide(pairs, 0.1, 1, "text").sides.tolist() != division.sides.tolist()


def test_a_unit_that_is_most_of_the_rows_is_not_held_out():
    sizes = {"large": 900} | {f"small {i}": 2 for i in range(50)}
    for seed in range(20):
        chosen = choose_sized(sizes, 0.1, seed)
        assert chosen and "large" not in chosen
    assert choose_sized({"a": 5, "b": 9}, 0.1, 0) == {"a"}


def test_classes_do_not_join_the_rows_that_share_them():
    pairs = [Pair(long_text(i), f"class {i % 2}", kind="classification", label=str(i % 2)) for i in range(60)]
    assert 1 <= divide(pairs, 0.2, 0, "text").num_held_out < 30


@pytest.mark.parametrize(("by", "says"), [("text", "near-equal texts join all"), ("source", "have the same source")])
def test_a_table_of_one_unit_is_refused(by, says):
    pairs = [Pair(long_text(i), "one answer to everything", source="a") for i in range(5)]
    with pytest.raises(DataError, match=says):
        divide(pairs, 0.2, 0, by)


@given(
    st.lists(st.builds(lambda pair, split: replace(pair, split=split), SPELLED, SPLIT), max_size=30),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 5),
    st.sampled_from(["text", "source"]),
)
def test_rows_to_choose_by_stay_such_rows_and_share_nothing_with_others(pairs, share, seed, by):
    skipped: Counter[str] = Counter()
    try:
        found = split_table(pairs, share, seed, skipped, by)
    except DataError:
        return
    assert len(found) + sum(skipped.values()) == len(pairs)
    to_choose = {(pair.anchor, pair.positive, pair.source) for pair in pairs if pair.split == "development"}
    for pair in found:
        if pair.split == "development":
            assert (pair.anchor, pair.positive, pair.source) in to_choose
    for key in ("anchor", "positive"):
        # Words carry their text's number, so that the last word but one tells whose spelling this is.
        numbers = [("".join(filter(str.isdigit, getattr(pair, key).split()[-2])), pair.split) for pair in found]
        assert len({number for number, _ in numbers}) == len(set(numbers))


def test_rows_to_choose_by_are_kept_beside_a_share_that_is_held_out():
    to_choose = numbered(120, split="development")[100:]
    found = split_table([*numbered(100), *to_choose], 0.1, 0, Counter(), "text")
    assert [pair for pair in found if pair.split == "development"] == to_choose
    assert {pair.split for pair in found} == {"train", "development", "held_out"}
    again = split_table(found, 0.1, 0, Counter(), "text")
    assert again == found


def test_a_group_with_rows_to_choose_by_is_not_trained_on():
    pairs = [*numbered(5, group="g"), *numbered(9)[5:], *numbered(10, group="g", split="development")[9:]]
    skipped: Counter[str] = Counter()
    found = split_table(pairs, 0.0, 0, skipped, "text")
    assert Counter(pair.split for pair in found) == {"train": 4, "development": 1}
    assert skipped == {"row: text or group of a development row, exactly or nearly": 5}


def test_rows_that_say_their_split_keep_it_and_leaks_leave_training():
    held = [Pair(long_text(1007), long_text(50), split="held_out")]
    held.append(Pair(f"WHAT is {long_text(3)}", "b", split="held_out"))
    pairs = [*numbered(6), *held]
    skipped: Counter[str] = Counter()
    found = split_table(pairs, 0.3, 0, skipped, "text")
    assert [pair.split for pair in found].count("held_out") == 2
    assert skipped == {"row: text that is held out, exactly or nearly": 1}
