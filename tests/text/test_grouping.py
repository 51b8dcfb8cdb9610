"""Texts that must not stand on two sides of a split, whatever their spelling."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.text.grouping import Held, Quoted, groups_of, spelling

LONG = "The quick brown fox jumps over the lazy dog while twenty ducks look on from the far bank of the river today"
NEAR = LONG.replace("today", "tonight")


@pytest.mark.parametrize(
    "other",
    ["## Getting started", "GETTING STARTED", "Getting started:", "*Getting  started*",
     "Getting\nstarted", "getting started.",
     "## Getting started ##", "\uff27etting started", '"Getting started"', "> Getting started"],
)  # fmt: skip
def test_spellings_of_one_heading(other):
    assert spelling(other) == spelling("Getting started")


@pytest.mark.parametrize(
    ("one", "other"),
    [("C", "C++"), ("C", "C#"), ("so?", "so!"), ("-1", "1"), ("a - b", "a + b"), ("कि", "क"), ("+", "-"), ("", "x")],
)
def test_signs_that_mean_something_stay(one, other):
    assert spelling(one) != spelling(other)


@given(st.text(max_size=30))
def test_a_spelling_is_its_own(text):
    assert spelling(text).strip() == spelling(text)
    assert spelling(text.upper().lower()) == spelling(text.upper())
    assert bool(spelling(text)) == bool(text.strip())


def test_near_texts_and_chains_are_one_group():
    assert groups_of(["a one", LONG, "b two", NEAR, "A one."]).tolist() == [0, 1, 2, 1, 0]
    assert groups_of(["a", "b", "c", "d"], ["x", None, "x", None]).tolist() == [0, 1, 0, 2]
    # "b" joins the group x with what spells like it and has no name
    assert groups_of(["a", "b", "B:", LONG, NEAR], ["x", "x", None, None, "x"]).tolist() == [0] * 5
    assert groups_of([]).tolist() == []


@given(st.lists(st.sampled_from([*"abcdefgh", LONG, NEAR, "# a", "A:"]), max_size=20), st.randoms())
def test_groups_do_not_depend_on_order(texts, choice):
    order = list(range(len(texts)))
    choice.shuffle(order)
    before, after = groups_of(texts), groups_of([texts[i] for i in order])
    for i in range(len(order)):
        for j in range(i):
            assert (after[i] == after[j]) == (before[order[i]] == before[order[j]])


def test_held_texts_are_recognised():
    held = Held([LONG, "Installation", "C"])
    assert held.repeated([NEAR, "## INSTALLATION", "C++", "other", "c."]).tolist() == [True, True, False, False, True]
    assert list(held.matches([NEAR, "C"])) == [{held.number(LONG)}, {held.number("c")}]
    assert Held([]).repeated(["a"]).tolist() == [False]


def test_many_equal_texts_take_no_quadratic_time():
    started = time.perf_counter()
    assert groups_of([LONG] * 20_000).max() == 0
    assert time.perf_counter() - started < 5


def test_a_text_is_quoted_by_eight_words_in_a_row_or_all_of_five():
    long = "count how many of the blue things there are in the list of things"
    quoted = Quoted([long, "return the first blue thing", "open a file"])
    assert quoted.quoted_in("x = 1  # Count how many of the BLUE things there!")
    assert quoted.quoted_in("they say: return the first (blue) thing, or so")
    assert not quoted.quoted_in("count how many of the blue things are there")
    assert not quoted.quoted_in("return the first thing that is blue") and not quoted.quoted_in("open a file")
    assert not Quoted([]).quoted_in(long) and not quoted.quoted_in("")


def test_a_line_to_write_on_takes_no_time():
    """A run of underscores is both signs and part of a word; 25 of them took 4 seconds, each more twice as long."""
    started = time.process_time()
    assert spelling(f"Signed{'_' * 25} on the day") == f"signed{'_' * 25} on the day"
    assert spelling(f"Signed{'_' * 25}.") == "signed"
    assert time.process_time() - started < 1
