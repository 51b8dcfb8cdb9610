"""Documents and what answers a row."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from udever.pairs.candidates import LOWEST, KnownAnswers, identities, identity, keys, number_documents

NUMBERS = st.lists(st.integers(0, 9), min_size=1, max_size=25)


def test_texts_that_differ_in_case_and_space_alone_are_one():
    assert identity("The  Cat\n") == identity("the cat") != identity("the cats")
    assert identities([pa.array(["a"]), pa.array(["A ", "b"])]).tolist() == [
        identity("a"),
        identity("a"),
        identity("b"),
    ]


@given(st.lists(st.integers(0, 9), max_size=12), NUMBERS)
def test_documents_are_numbered_in_order(corpus, positives):
    found = number_documents(np.array(corpus, np.int64), np.array(positives), np.array(positives) + 5)
    distinct = list(dict.fromkeys([*corpus, *positives]))
    whole = [*corpus, *positives]
    assert [whole[origin] for origin in found.origins] == distinct
    assert found.num_candidates == (len(set(corpus)) if corpus else len(distinct))
    assert [distinct[number] for number in found.of_row] == positives
    assert found.of_anchor.tolist() == [distinct.index(p + 5) if p + 5 in distinct else -1 for p in positives]


@given(NUMBERS, st.data())
def test_what_answers_a_row_is_hidden_in_every_block(positives, data):
    count = len(positives)
    names = [data.draw(st.lists(st.none() | st.sampled_from("xyz"), min_size=count, max_size=count)) for _ in range(2)]
    anchors = [data.draw(st.integers(0, 12)) for _ in positives]
    documents = number_documents(np.zeros(0, np.int64), np.array(positives), np.array(anchors))
    families = [keys([pa.array(column, pa.string())], np.ones(count, bool)) for column in names]
    known = KnownAnswers(documents, families, np.zeros(0, np.int64), np.zeros((0, 2), np.int64))
    distinct = list(dict.fromkeys(positives))
    expected = np.zeros((count, len(distinct)), bool)
    for row in range(count):
        for other in range(count):
            if any(column[row] is not None and column[row] == column[other] for column in names):
                expected[row, distinct.index(positives[other])] = True
        if anchors[row] in distinct:
            expected[row, distinct.index(anchors[row])] = True
    rows, columns = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, len(distinct) - 1))
    scores = np.zeros((count - rows, len(distinct) - columns), np.float32)
    known.hide(scores, rows, columns)
    assert (scores == LOWEST).tolist() == expected[rows:, columns:].tolist()
