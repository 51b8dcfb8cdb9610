import math

import pytest

from udever.report import universal
from udever.report.runs import make_runs


def runs_of(make_results):
    def model(name, retrieval, sts, *more, **about):
        scores = (
            make_results.score("Find", "en", retrieval, "eng-Latn", interval=0.02),
            make_results.score("Find", "fr", retrieval - 0.2, "fra-Latn", interval=0.02),
            make_results.score("Alike", "en", sts, "eng-Latn", kind="STS", interval=0.01),
        )
        return make_results.model(name, *scores, *more, **about)

    extra = make_results.score("Extra", "en", 0.99, "eng-Latn", kind="Other", trained_on=True)
    return make_runs(
        [
            model("small", 0.5, 0.6, size=10**8, family="F"),
            model("large", 0.7, 0.8, extra, size=10**10, family="F"),
            model("other", 0.6, 0.6, size=10**9),
            model("floor", 0.2, 0.1),
        ]
    )


def test_the_numbers_are_those_computed_by_hand(make_results):
    section = universal.section(runs_of(make_results))
    (figure,) = section.figures
    rows = {row["model"]: row for row in make_results.rows(figure)}
    expected = {"small": (0.4 + 0.6) / 2, "large": (0.6 + 0.8) / 2, "other": (0.5 + 0.6) / 2, "floor": 0.1}
    assert {name: float(row["universal_score"]) for name, row in rows.items()} == pytest.approx(expected)
    # two subsets weigh a quarter each, the other type a half: half-widths of subsets add up, those of tasks in squares
    half = math.sqrt((2 * 0.02 / 4) ** 2 + (0.01 / 2) ** 2)
    assert float(rows["small"]["high"]) - expected["small"] == pytest.approx(half)
    assert rows["floor"]["parameters"] == "" and rows["small"]["parameters"] == "100000000"
    assert {row["trained_on"] for row in rows.values()} == {"False"}  # Extra is not common
    assert "over 2 tasks (3 task subsets)" in section.text[0] and "1 other subset left out" in section.text[0]


def test_every_model_is_in_the_picture_at_its_place(make_results):
    (figure,) = universal.section(runs_of(make_results)).figures
    marks = make_results.placed(figure, r"point-(\d+)")
    rows = make_results.rows(figure)
    sized = [row for row in rows if row["parameters"]]
    assert len(marks) == len(sized) == 3
    titles = {
        group.get("id").rpartition("-")[2]: group.find(f"{make_results.svg}title").text
        for group in make_results.parse(figure).iter(f"{make_results.svg}g")
        if group.get("id", "").startswith(("universal-point", "universal-line-"))
    }
    assert len(titles) == 4 and any(title.startswith("floor: 0.100") for title in titles.values())
    by_name = {title.partition(":")[0]: marks[number] for number, title in titles.items() if number in marks}
    ordered = [by_name[row["model"]] for row in sized]
    assert make_results.is_affine([math.log(float(row["parameters"])) for row in sized], [x for x, _ in ordered])
    assert make_results.is_affine([float(row["universal_score"]) for row in sized], [y for _, y in ordered])


def test_a_line_joins_only_what_differs_in_size_alone(make_results):
    score = make_results.score("A", "en", 0.5, "eng-Latn")
    models = [
        make_results.model("a", score, size=10, family="F", tuning="lora"),
        make_results.model("b", score, size=20, family="F", tuning="lora"),
        make_results.model("c", score, size=20, family="F", tuning="full"),
    ]
    found = universal.universal_scores(make_runs(models))
    assert universal._lines(found.rows) == [[(10, 0.5), (20, 0.5)]]


def test_models_without_a_size_have_a_picture_too(make_results):
    runs = make_runs([make_results.model(name, make_results.score("A", "en", 0.4, "eng-Latn")) for name in ("a", "b")])
    (figure,) = universal.section(runs).figures
    assert len(make_results.placed(figure, r"point-(\d+)")) == 2


def test_nothing_in_common_is_said_and_not_drawn(make_results):
    models = [make_results.model(name, make_results.score(name, "en", 0.4, "eng-Latn")) for name in ("a", "b")]
    section = universal.section(make_runs(models))
    assert not section.figures and "all 2 models" in section.missing
    assert universal.by_score(make_runs(models))[0].name == "a"


def test_a_baseline_that_cannot_do_all_narrows_nobodys_mean(make_results):
    find, alike = (make_results.score(name, "en", value, "eng-Latn") for name, value in (("Find", 0.2), ("Alike", 0.6)))
    models = [
        make_results.model("baseline/bm25", find),
        make_results.model("baseline/random", find, alike),
        make_results.model("a", find, alike, size=10),
    ]
    runs = make_runs(models)
    found = universal.universal_scores(runs)
    assert {run.name: mean.value for run, mean in found.rows} == pytest.approx({"random": 0.4, "a": 0.4})
    assert [run.name for run in found.without] == ["bm25"] and found.num_left_out == 0
    assert universal.over(found).endswith("Without a mean, as it lacks some of them: bm25.")
    assert universal.by_score(runs)[-1].name == "bm25"
    assert universal.universal_scores(make_runs(models[:2])).keys == [("Find", "test", "en")]


def test_the_best_comes_first(make_results):
    assert [run.name for run in universal.by_score(runs_of(make_results))] == ["large", "other", "small", "floor"]
