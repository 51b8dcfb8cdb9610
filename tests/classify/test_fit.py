import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.classify import Examples, Filter, FitSettings, fit
from udever.classify.fitting import calibrate, choose_thresholds, fold_of, log_loss, lowest_precision
from udever.classify.head import probabilities
from udever.errors import DataError, RecipeError
from udever.report.filter import filter_markdown

GIVEN = {"fingerprint": "abc", "model": "org/model"}


def test_the_report_says_what_new_examples_show(cloud, labelled):
    x, label = cloud(300)
    made, report = fit(x, labelled(label), **GIVEN)
    new_x, new_label = cloud(3000, seed=7)
    predicted = made.predict(new_x)
    accuracy = (predicted.argmax(axis=1) == new_label).mean()
    assert 0.6 < accuracy < 0.99
    assert abs(report.overall.accuracy - accuracy) < 0.05
    assert abs(report.overall.macro_f1 - accuracy) < 0.06
    assert [one.label for one in report.labels] == ["c0", "c1", "c2"]
    assert sum(one.num_examples for one in report.labels) == 300 == report.overall.num_examples


@pytest.mark.parametrize("noise", [0.7, 1.3, 2.5])
def test_probabilities_are_frequencies(cloud, labelled, noise):
    x, label = cloud(1000, noise=noise)
    made, report = fit(x, labelled(label), **GIVEN)
    new_x, new_label = cloud(4000, noise=noise, seed=7)
    predicted = made.predict(new_x)
    confidence, hit = predicted.max(axis=1), predicted.argmax(axis=1) == new_label
    assert abs(confidence.mean() - hit.mean()) < 0.04
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 1.0)):
        here = (confidence > low) & (confidence <= high)
        if here.sum() > 200:
            assert abs(confidence[here].mean() - hit[here].mean()) < 0.1
    assert report.overall.calibration_error < 0.1


@pytest.mark.parametrize(("precision", "noise"), [(0.8, 2.5), (0.95, 1.5)])
def test_the_threshold_reaches_its_precision_on_new_examples(cloud, labelled, precision, noise):
    x, label = cloud(1900, noise=noise)
    made, report = fit(x, labelled(label), **GIVEN, settings=FitSettings(precision))
    new_x, new_label = cloud(6000, noise=noise, seed=7)
    decided = made.decide(made.predict(new_x))
    plain = made.predict(new_x).argmax(axis=1) == new_label
    assert plain.mean() < precision  # else there is nothing to reach
    for column, one in enumerate(report.labels):
        assert one.counted
        kept = decided[:, column]
        assert (new_label[kept] == column).mean() >= precision - 0.015
        assert kept.sum() > 0.1 * (new_label == column).sum()
    assert report.overall.kept_precision >= precision - 0.02


def test_several_labels_each_with_a_probability_of_its_own():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3, 16))

    def sample(num, seed):
        r = np.random.default_rng(seed)
        truth = r.random((num, 3)) < [0.5, 0.3, 0.05]
        x = truth @ directions + 0.9 * r.normal(size=(num, 16))
        return x.astype(np.float32), truth

    x, truth = sample(600, 1)
    names = np.array(["often", "rare", "some"])  # sorted, as Examples.names
    order = [0, 2, 1]
    labels = [tuple(sorted(names[order][row])) for row in truth]
    made, report = fit(
        x, Examples([f"text {row}" for row in range(600)], labels, None, "several"), **GIVEN, settings=FitSettings(0.9)
    )
    new_x, new_truth = sample(5000, 2)
    predicted = made.predict(new_x)[:, order]
    assert made.labels == ("often", "rare", "some")
    assert np.abs(predicted.mean(axis=0) - new_truth.mean(axis=0)).max() < 0.04
    decided = made.decide(made.predict(new_x))[:, order]
    assert (decided.sum(axis=1) > 1).any() and (decided.sum(axis=1) == 0).any()
    precision = (decided & new_truth).sum(axis=0) / decided.sum(axis=0)
    assert precision[[0, 1]].min() > 0.87
    assert report.kind == "several" and 0.3 < report.overall.accuracy < 1


def test_few_examples_of_each_label(cloud, labelled):
    x, _ = cloud(12, noise=0.3)
    label = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3])
    centres, _ = cloud(400, num_labels=4, noise=0.0)
    _, which = cloud(400, num_labels=4, noise=0.0)
    x = np.stack([centres[which == one][0] for one in label]) + 0.02 * x
    made, report = fit(x, labelled(label), **GIVEN, settings=FitSettings(0.95))
    assert made.predict(x).argmax(axis=1).tolist() == label.tolist()
    assert not any(one.counted for one in report.labels)
    assert np.allclose(made.thresholds, 0.95)
    assert any("too few examples to show a precision of 0.95" in note for note in report.notes)
    assert any("fewer than 5 examples, so hardly tested: c1, c2, c3" in note for note in report.notes)


def test_many_labels(cloud, labelled):
    x, label = cloud(300, num_labels=20, dimensions=32, noise=0.5)
    made, report = fit(x, labelled(label), **GIVEN)
    assert made.weight.shape == (20, 32) and report.overall.accuracy > 0.8
    assert filter_markdown(report).count("\n| c") == 20


def test_learned_in_one_language_applied_to_others(cloud, labelled):
    """Two languages of one space, and a third whose labels lie elsewhere: the report must say which holds."""
    near, near_label = cloud(120, noise=0.8, seed=1)
    same, same_label = cloud(120, noise=0.8, seed=2)
    far, far_label = cloud(120, noise=0.8, seed=3, centres_seed=9)
    languages = ["eng-Latn"] * 120 + ["deu-Latn"] * 120 + ["xho-Latn"] * 120
    x, label = np.concatenate([near, same, far]), np.concatenate([near_label, same_label, far_label])
    _, report = fit(x, labelled(label, languages), **GIVEN, settings=FitSettings(0.9))
    accuracy = {(one.trained_on, one.language): one.score.accuracy for one in report.transfer}
    assert len(accuracy) == 9
    assert accuracy["eng-Latn", "deu-Latn"] > 0.8 and accuracy["deu-Latn", "eng-Latn"] > 0.8
    assert accuracy["eng-Latn", "xho-Latn"] < 0.6 < accuracy["xho-Latn", "xho-Latn"]
    assert set(report.languages) == {"eng-Latn", "deu-Latn", "xho-Latn"}
    assert all(score.num_examples == 120 for score in report.languages.values())
    told = json.loads(report.json())
    assert told["transfer"][0]["score"]["accuracy"] == accuracy["deu-Latn", "deu-Latn"]
    assert "## Accuracy when fitted on one language (row) and applied to others" in filter_markdown(report)
    assert f"| eng-Latn | {accuracy['eng-Latn', 'deu-Latn']:.3f} | {accuracy['eng-Latn', 'eng-Latn']:.3f} |" in (
        filter_markdown(report)
    )


def test_translations_of_one_text_are_left_out_together(labelled):
    """Every text twice and labels at random: a test that let the twin through would look perfect."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 64)), 2, axis=0) + 0.01 * rng.normal(size=(120, 64))
    label = np.repeat(rng.integers(0, 2, 60), 2)
    groups = [str(row // 2) for row in range(120)]
    languages = ["eng-Latn", "deu-Latn"] * 60
    _, leaking = fit(x, labelled(label, languages), **GIVEN)
    _, honest = fit(x, labelled(label, languages, groups), **GIVEN)
    assert leaking.overall.accuracy > 0.8
    assert honest.overall.accuracy < 0.7
    assert max(one.score.accuracy for one in honest.transfer) < 0.7


def test_folds_share_out_every_label_and_keep_groups():
    rng = np.random.default_rng(0)
    truth = np.eye(3, dtype=bool)[rng.integers(0, 3, 200)]
    fold = fold_of(truth, np.arange(len(truth)), 0)
    counts = np.array([[truth[fold == f, c].sum() for c in range(3)] for f in range(5)])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    groups = np.arange(200) % 7
    fold = fold_of(truth, groups, 0)
    assert all(len({f for f, g in zip(fold, groups, strict=True) if g == name}) == 1 for name in set(groups))
    with pytest.raises(DataError, match="all examples are one group"):
        fold_of(truth, np.zeros(200, np.int64), 0)


@pytest.mark.parametrize("kind", ["one", "several"])
@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_calibration_undoes_a_wrong_scale(kind, factor):
    rng = np.random.default_rng(0)
    right = rng.normal(size=(3000, 3)) * 2
    p = probabilities(right, kind)
    if kind == "one":
        truth = np.eye(3, dtype=bool)[[rng.choice(3, p=row) for row in p]]
    else:
        truth = rng.random(p.shape) < p
    calibration = calibrate(right * factor, truth, kind)
    assert np.abs(calibration.scale * factor - 1).max() < 0.12
    assert log_loss(calibration(right * factor), truth, kind) <= log_loss(right, truth, kind) + 0.01


def test_thresholds_are_the_lowest_that_hold():
    p = np.linspace(1, 0, 200)[:, None]
    truth = np.zeros((200, 1), bool)
    truth[:80] = True
    truth[80::4] = True
    thresholds = choose_thresholds(p, truth, "several", 0.9)
    kept = p[:, 0] >= thresholds.values[0]
    assert thresholds.counted[0] and 80 <= kept.sum() < 100
    assert lowest_precision(truth[kept].sum(), kept.sum()) >= 0.9
    more = p[:, 0] >= p[kept.sum(), 0]
    assert lowest_precision(truth[more].sum(), more.sum()) < 0.9
    tied = choose_thresholds(np.full((200, 1), 0.7), truth, "several", 0.9)
    assert not tied.counted[0] and tied.values[0] == 0.9


def test_settings_and_too_few_examples(cloud, labelled):
    for precision in (0, 1, 95):
        with pytest.raises(RecipeError, match="expected a number between 0 and 1"):
            FitSettings(precision)
    x, _ = cloud(3)
    with pytest.raises(DataError, match="3 examples are too few"):
        fit(x, labelled([0, 1, 0]), **GIVEN)


def test_fitting_twice_gives_the_same_and_it_survives_the_disk(cloud, labelled, tmp_path):
    x, label = cloud(60)
    first, report = fit(x, labelled(label), **GIVEN)
    second, _ = fit(x, labelled(label), **GIVEN)
    assert first.digest == second.digest
    first.save(tmp_path / "filter", {"report.json": report.json()})
    np.testing.assert_array_equal(Filter.load(tmp_path / "filter").predict(x), first.predict(x))


WORDS = [f"word{number}" for number in range(200)]


def random_texts(number, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 20)) for _ in range(number)]


def test_repeated_texts_do_not_make_noise_look_learned():
    """Labels at random: whoever tests on a text that was fitted on reports nearly all of them right."""
    rng = np.random.default_rng(0)
    texts, label = random_texts(34), rng.integers(0, 2, 34)
    near = [f"{text} more" for text in texts]
    spelled = [f"## {text.upper()}:" for text in texts]
    x = np.tile(rng.normal(size=(34, 64)), (3, 1))
    examples = Examples([*texts, *near, *spelled], [(f"c{one}",) for one in np.tile(label, 3)], None, "one")
    _, report = fit(x, examples, **GIVEN)
    assert report.overall.accuracy < 0.7
    assert any("68 of 102 examples repeat the text of another" in note for note in report.notes)
    assert not any("conflicting" in note for note in report.notes)


def test_conflicting_labels_are_told():
    texts = random_texts(20)
    examples = Examples([*texts, texts[3].upper()], [(f"c{i % 2}",) for i in range(20)] + [("c0",)], None, "one")
    _, report = fit(np.random.default_rng(0).normal(size=(21, 8)), examples, **GIVEN)
    (note,) = [note for note in report.notes if "conflicting" in note]
    assert "1 texts have conflicting labels, in 2 examples" in note and "c1 and c0" in note


@given(
    st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["{}", "# {}", "{}:", "{} more"])), min_size=4, max_size=30)
)
def test_no_text_is_in_two_folds(rows):
    from udever.text.grouping import groups_of

    plain = random_texts(9)
    texts = [form.format(plain[number]) for number, form in rows]
    if len({number for number, _ in rows}) < 2:
        return
    truth = np.eye(2, dtype=bool)[np.arange(len(texts)) % 2]
    fold = fold_of(truth, groups_of(texts), 0)
    for number in range(9):
        assert len({int(f) for f, (n, _) in zip(fold, rows, strict=True) if n == number}) <= 1
