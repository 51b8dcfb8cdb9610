import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError
from udever.search.searchable import DEPTH, fuse
from udever.search.words_weight import WORDS_WEIGHT, read_words_weight, write_words_weight

MEANING = [("a", 0.9), ("b", 0.8), ("c", 0.5)]


def test_bm25_counts_in_its_deviations_beside_cosines():
    # over four texts 6, 2, 0, 0: mean 2, deviation sqrt(6); what the words lack has 0, what the meaning lacks its last
    fused = fuse(MEANING, [("c", 6.0), ("d", 2.0)], 4, 0.1)
    deviation = 6**0.5
    most = 1 + 0.1 * 6 / deviation
    assert fused == {
        "a": pytest.approx(0.9 / most),
        "b": pytest.approx(0.8 / most),
        "c": pytest.approx((0.5 + 0.1 * 6 / deviation) / most),
        "d": pytest.approx((0.5 + 0.1 * 2 / deviation) / most),
    }
    assert list(fused) == ["a", "b", "c", "d"]
    assert fuse([], [], 4, 0.1) == {}


def test_rare_words_weigh_more_than_common_ones():
    rare = fuse(MEANING, [("c", 5.0)], 1000, 0.05)
    common = fuse(MEANING, [("c", 5.0), *((str(n), 4.9) for n in range(500))], 1000, 0.05)
    assert next(iter(rare)) == "c" and next(iter(common)) == "a"


def test_without_words_or_weight_scores_are_cosines():
    assert fuse(MEANING, [], 9, 0.05) == pytest.approx(dict(MEANING))
    assert fuse(MEANING, [("d", 3.0)], 9, 0.0) == pytest.approx({**dict(MEANING), "d": 0.5})
    assert fuse(MEANING, [("a", 3.0), ("b", 3.0), ("c", 3.0)], 3, 0.5) == pytest.approx(dict(MEANING))


def test_more_of_the_ranking_changes_none_of_the_first_scores():
    ranking = [(str(number), 1 - number / 200) for number in range(2 * DEPTH)]
    words = [(str(number), 9 - number / 50) for number in range(2 * DEPTH)]
    short, long = fuse(ranking[:DEPTH], words, 999, 0.05), fuse(ranking, words, 999, 0.05)
    assert {name: long[name] for name in short} == pytest.approx(short) and len(long) == 2 * DEPTH


MEANINGS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(-1, 1)), unique_by=lambda item: item[0])
WORDS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0.01, 30)), unique_by=lambda item: item[0])


@given(MEANINGS, WORDS, st.floats(0, 3))
def test_every_score_lies_between_0_and_1_and_best_comes_first(meaning, words, weight):
    rankings = [sorted(found, key=lambda item: -item[1]) for found in (meaning, words)]
    fused = fuse(*rankings, 8, weight)
    assert fused.keys() == {name for name, _ in [*meaning, *words]}
    assert all(0 <= score <= 1 + 1e-9 for score in fused.values())
    assert list(fused.values()) == sorted(fused.values(), reverse=True)


def test_what_words_weigh_is_noted_beside_the_model(tmp_path):
    assert read_words_weight(str(tmp_path)) == read_words_weight("org/model") == WORDS_WEIGHT
    write_words_weight(tmp_path, 0.25)
    assert read_words_weight(str(tmp_path)) == 0.25


@pytest.mark.parametrize("content", ["{", "{}", '{"words_weight": "much"}', '{"words_weight": -1}', "[]"])
def test_a_note_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "search.json").write_text(content)
    with pytest.raises(DataError, match=r"search\.json"):
        read_words_weight(str(tmp_path))
