import math

import numpy as np
import pytest

from udever.classify import Fields, read_examples
from udever.errors import DataError, RecipeError


def read(records, separator=None, **fields):
    return read_examples(((f"a row {n}", r) for n, r in enumerate(records)), Fields(**fields), separator)


def test_one_label_each():
    examples = read([{"text": "x", "label": "b"}, {"text": "y", "label": 1}, {"text": "z", "label": " b "}])
    assert (examples.kind, examples.names) == ("one", ("1", "b"))
    np.testing.assert_array_equal(examples.truth, [[0, 1], [1, 0], [0, 1]])
    assert examples.languages is None and examples.groups is None


@pytest.mark.parametrize(
    ("labels", "separator"),
    [([["b", "a"], [], ["a", "a"]], None), (["b;a", "", " a ;"], ";"), (["b;a", None, "a"], ";")],
)
def test_several_labels(labels, separator):
    examples = read([{"text": "x", "label": label} for label in labels], separator)
    assert (examples.kind, examples.names) == ("several", ("a", "b"))
    np.testing.assert_array_equal(examples.truth, [[1, 1], [0, 0], [1, 0]])


def test_languages_and_groups():
    records = [{"body": "x", "y": "b", "lang": "eng-Latn", "g": 1}, {"body": "z", "y": "a", "lang": "deu-Latn", "g": 1}]
    examples = read(records, text="body", label="y", language="lang", group="g")
    assert (examples.languages, examples.groups) == (["eng-Latn", "deu-Latn"], ["1", "1"])


@pytest.mark.parametrize("empty", ["", " ", None, math.nan])
def test_a_text_whose_group_is_empty_is_in_none(empty):
    records = [
        {"text": f"text {n}", "label": "ab"[n % 2], "g": group} for n, group in enumerate(["x", empty, "x", empty])
    ]
    assert read(records, group="g").groups == ["x", None, "x", None]
    with pytest.raises(DataError, match="a row 1: 'g' is empty; expected the language of every text"):
        read(records, language="g")


def test_an_empty_separator_is_refused():
    with pytest.raises(RecipeError, match="separator is empty; give the characters between two labels, such as ;"):
        read([{"text": "x", "label": "a;b"}], "")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"text": "x"}], "a row 0 has no 'label'; it has text"),
        ([{"text": "x", "lable": "y"}], "a row 0 has no 'label'; did you mean 'lable'"),
        ([{"text": "x", "label": "a"}, {"text": " ", "label": "b"}], "a row 1: 'text' is ' '; expected a text"),
        ([{"text": "x", "label": None}], "a row 0: the label is None; expected a name"),
        ([{"text": "x", "label": 0.5}], "a row 0: the label is 0.5"),
        ([{"text": "x", "label": ["a", None]}], "a row 0: the label is None"),
        (
            [{"text": "x", "label": "a"}, {"text": "y", "label": "a"}],
            r"2 examples have 1 labels \(a\); expected at least",
        ),
        ([{"text": "\ud800", "label": "a"}], "a row 0: 'text' has a lone surrogate, which is no character"),
        ([{"text": "x", "label": "\ud800"}], "a row 0: 'label' has a lone surrogate"),
        ([{"text": "x", "label": ["a", "\ud800"]}], "a row 0: 'label' has a lone surrogate"),
        ([], r"0 examples have 0 labels \(none\)"),
        ([{"text": "x", "label": ["a"]}, {"text": "y", "label": ["a", "b"]}], "every example has the label 'a'"),
    ],
)
def test_examples_that_cannot_be_used(records, message):
    with pytest.raises(DataError, match=message):
        read(records)
