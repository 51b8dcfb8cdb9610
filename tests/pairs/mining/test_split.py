from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from udever.pairs.mining.split import choose, position, split_pairs
from udever.pairs.schema import Pair

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
