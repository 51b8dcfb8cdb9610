import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError
from udever.report.runs import (
    common_keys,
    cross_lingual,
    language_score,
    make_runs,
    mean_by_task,
    mean_by_type,
    monolingual,
)


def test_means_are_nested(make_results):
    scores = [
        make_results.score("A", "en", 0.2, "eng-Latn"),
        make_results.score("A", "fr", 0.4, "fra-Latn"),
        make_results.score("B", "en", 0.9, "eng-Latn"),
        make_results.score("C", "en", 0.1, "eng-Latn", kind="STS"),
    ]
    assert mean_by_task(scores).value == pytest.approx((0.3 + 0.9 + 0.1) / 3)
    assert mean_by_type(scores).value == pytest.approx(((0.3 + 0.9) / 2 + 0.1) / 2)
    assert mean_by_type(scores).tasks == ("A", "B", "C") and mean_by_type(scores).num_scores == 4
    assert mean_by_type([]) is None


def test_intervals_add_in_squares_and_one_without_leaves_none(make_results):
    scores = [
        make_results.score("A", "en", 0.2, "eng-Latn", interval=0.03),
        make_results.score("B", "en", 0.4, "eng-Latn", interval=0.04),
    ]
    mean = mean_by_task(scores)
    assert mean.interval == (pytest.approx(0.3 - 0.025), pytest.approx(0.3 + 0.025))
    more = [*scores, make_results.score("C", "en", 0.6, "eng-Latn")]
    assert mean_by_task(more).interval is None


def test_subsets_of_one_task_err_together(make_results):
    """Ten translations of the same questions say little more than one of them: the interval stays as wide."""
    scores = [make_results.score("A", str(n), 0.2, "eng-Latn", interval=0.03) for n in range(10)]
    assert mean_by_task(scores).interval == (pytest.approx(0.17), pytest.approx(0.23))
    other = make_results.score("B", "en", 0.4, "eng-Latn", interval=0.04)
    assert mean_by_task([*scores, other]).interval == (pytest.approx(0.3 - 0.025), pytest.approx(0.3 + 0.025))


def test_a_mean_over_a_task_trained_on_says_so(make_results):
    scores = [make_results.score("A", "en", 0.2, "eng-Latn"), make_results.score("B", "en", 0.4, "eng-Latn")]
    assert not mean_by_task(scores).trained_on
    assert mean_by_task([*scores, make_results.score("C", "en", 0.4, "eng-Latn", trained_on=True)]).trained_on


@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("xy"), st.floats(0, 1)), min_size=1, max_size=12))
def test_equal_scores_have_that_mean_and_every_mean_lies_between(make_results, drawn):
    scores = [
        make_results.score(f"{kind}{task}", str(number), value, "eng-Latn", kind=kind)
        for number, (kind, task, value) in enumerate(drawn)
    ]
    values = [score.value for score in scores]
    for mean in (mean_by_task(scores), mean_by_type(scores)):
        assert min(values) - 1e-9 <= mean.value <= max(values) + 1e-9


def test_only_what_every_run_has_is_common(make_results):
    a = make_results.model("a", *(make_results.score(task, "en", 0.5, "eng-Latn") for task in "XYZ"))
    b = make_results.model("b", *(make_results.score(task, "en", 0.5, "eng-Latn") for task in "YZW"))
    assert [task for task, _, _ in common_keys(make_runs([a, b]))] == ["Y", "Z"]


def test_runs_get_names_of_their_own(make_results):
    score = make_results.score("A", "en", 0.2, "eng-Latn")
    models = [
        make_results.model("x/one", score),
        make_results.model("x/two", score),
        make_results.model("y/two", score),
        make_results.model("z/three", score, revision="a" * 32),
        make_results.model("z/three", score, revision="b" * 32),
        make_results.model("w", score, name="Mine"),
    ]
    names = [run.name for run in make_runs(models)]
    assert names == ["one", "x/two", "y/two", "three@aaaaaaaa", "three@bbbbbbbb", "Mine"]
    with pytest.raises(DataError, match="w@c"):
        make_runs([make_results.model(name, score, name="Mine", revision="c") for name in ("w", "w")])


def test_results_that_cannot_be_are_refused(make_results):
    score = make_results.score("A", "en", 0.2, "eng-Latn")
    with pytest.raises(DataError, match="no results"):
        make_runs([])
    with pytest.raises(DataError, match="m has no scores"):
        make_runs([make_results.model("m")])
    with pytest.raises(DataError, match="two scores for A / test / en"):
        make_runs([make_results.model("m", score, score)])
    with pytest.raises(DataError, match="nan"):
        make_runs([make_results.model("m", make_results.score("A", "en", math.nan, "eng-Latn"))])


def test_scores_by_language(make_results):
    (run,) = make_runs(
        [
            make_results.model(
                "m",
                make_results.score("Mono", "en", 0.8, "eng-Latn"),
                make_results.score("Mono", "fr", 0.6, "fra-Latn", "fra-Latn"),
                make_results.score("Cross", "en-fr", 0.4, "eng-Latn", "fra-Latn"),
                make_results.score("Code", "python", 0.3, "eng-Latn", "python-Code"),
                make_results.score("Pool", "all", 0.1, "eng-Latn", "fra-Latn", "deu-Latn"),
            )
        ]
    )
    keys = common_keys([run])
    assert [score.value for score in monolingual(run, "fra-Latn", keys)] == [0.6]
    assert [score.value for score in cross_lingual(run, "eng-Latn", keys)] == [0.4]
    assert [score.value for score in cross_lingual(run, "python-Code", keys)] == [0.3]
    assert language_score(run, "python-Code", keys).value == 0.3
    assert language_score(run, "deu-Latn", keys) is None
