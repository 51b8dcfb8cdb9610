import pytest

from udever.report import variants
from udever.report.runs import make_runs


def model(make_results, name, base, *more, **label):
    scores = (
        make_results.score("Find", "en", base, "eng-Latn", interval=0.02),
        make_results.score("Alike", "en", base + 0.2, "eng-Latn", kind="STS", interval=0.02),
    )
    return make_results.model(name, *scores, *more, size=10, **label)


def runs_of(make_results):
    extra = make_results.score("Extra", "en", 1.0, "eng-Latn")
    return make_runs(
        [
            model(make_results, "s", 0.3, kind="symmetric", tuning="lora"),
            model(make_results, "a", 0.4, extra, kind="asymmetric", tuning="lora"),
            model(make_results, "b1", 0.5, kind="both", tuning="lora"),
            model(make_results, "b2", 0.6, kind="both", tuning="lora"),
            model(make_results, "other", 0.1, kind="both", tuning="full"),
        ]
    )


def test_the_numbers_are_those_computed_by_hand(make_results):
    section = variants.section(runs_of(make_results), variants.KIND)
    (figure,) = section.figures
    rows = {(row["kind"], row["task_type"]): row for row in make_results.rows(figure)}
    assert {key[0] for key in rows} == {"symmetric", "asymmetric", "both"}
    assert float(rows["asymmetric", "Retrieval"]["score"]) == pytest.approx(0.4)  # Extra is not common
    assert float(rows["asymmetric", "all tasks"]["score"]) == pytest.approx(0.5)
    assert float(rows["both", "STS"]["score"]) == pytest.approx(0.75)  # the full run differs in more than the kind
    assert rows["both", "STS"]["num_runs"] == "2" and rows["both", "STS"]["low"] == ""
    assert float(rows["symmetric", "STS"]["low"]) == pytest.approx(0.48)
    assert "both is highest over all tasks" in section.text[1]


@pytest.mark.parametrize(("other", "doubted"), [(0.305, True), (0.4, False)])
def test_a_lead_within_the_interval_is_called_one(make_results, other, doubted):
    two = [model(make_results, "f", 0.3, tuning="full"), model(make_results, "l", other, tuning="lora")]
    said = variants.section(make_runs(two), variants.TUNING).text[1]
    assert "lora is highest over all tasks" in said and ("within its interval" in said) == doubted


def test_adapters_are_compared_likewise(make_results):
    (figure,) = variants.section(runs_of(make_results), variants.TUNING).figures
    rows = {(row["tuning"], row["task_type"]): row for row in make_results.rows(figure)}
    assert float(rows["full", "Retrieval"]["score"]) == pytest.approx(0.1)
    assert float(rows["lora", "Retrieval"]["score"]) == pytest.approx(0.55)
    assert {row["runs"] for row in rows.values()} == {"10, both"}


def test_every_value_is_in_the_picture_at_its_place(make_results):
    (figure,) = variants.section(runs_of(make_results), variants.KIND).figures
    rows = make_results.rows(figure)
    marks = make_results.placed(figure, r"point-(\d+)")
    assert len(marks) == len(rows) == 9
    assert make_results.is_affine([float(row["score"]) for row in rows], [marks[str(n)][0] for n in range(9)])


def test_several_comparisons_have_a_panel_each(make_results):
    models = [
        model(make_results, f"{kind}-{tuning}", 0.5, kind=kind, tuning=tuning)
        for kind in ("symmetric", "both")
        for tuning in ("lora", "full")
    ]
    (figure,) = variants.section(make_runs(models), variants.KIND).figures
    assert len(make_results.placed(figure, r"point-(\d+)")) == 12
    assert [figure.svg.count(f"{title}<") for title in ("lora", "full")] == [1, 1]


def test_a_missing_label_is_asked_for(make_results):
    section = variants.section(make_runs([model(make_results, "m", 0.5)]), variants.TUNING)
    assert not section.figures and "--labels (tuning)" in section.missing
