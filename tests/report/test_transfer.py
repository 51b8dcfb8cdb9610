import pytest

from udever.report import transfer
from udever.report.runs import make_runs

TESTS = ("eng-Latn", "fra-Latn", "zho-Hans")


def model(make_results, name, train, values, **label):
    scores = [make_results.score("Mono", lang, value, lang) for lang, value in zip(TESTS, values, strict=True)]
    code = make_results.score("Code", "go", values[0] / 2, "eng-Latn", "go-Code")
    return make_results.model(name, *scores, code, train_language=train, **label)


def runs_of(make_results):
    return make_runs(
        [
            model(make_results, "en", "eng-Latn", (0.9, 0.7, 0.5)),
            model(make_results, "en-2", "eng-Latn", (0.8, 0.7, 0.6)),
            model(make_results, "fr", "fra-Latn", (0.7, 0.8, 0.4)),
            model(make_results, "de", "deu-Latn", (0.6, 0.5, 0.3)),
            model(make_results, "full", "fra-Latn", (0.1, 0.1, 0.1), tuning="full"),
            make_results.model("bm25", make_results.score("Mono", "eng-Latn", 0.2, "eng-Latn")),
        ]
    )


def test_the_numbers_are_those_computed_by_hand(make_results):
    (figure,) = transfer.section(runs_of(make_results)).figures
    rows = {(row["train_language"], row["test_language"]): row for row in make_results.rows(figure)}
    assert float(rows["eng-Latn", "eng-Latn"]["score"]) == pytest.approx(0.85)
    assert rows["eng-Latn", "eng-Latn"]["num_runs"] == "2"
    assert float(rows["fra-Latn", "zho-Hans"]["score"]) == 0.4
    assert float(rows["fra-Latn", "go-Code"]["score"]) == 0.35
    # nobody tested German: a hole, not a zero
    assert rows["fra-Latn", "deu-Latn"]["score"] == ""
    assert len(rows) == 3 * 5  # the run tuned otherwise is of no map


def test_every_cell_is_in_the_picture_and_holes_are_hatched(make_results):
    (figure,) = transfer.section(runs_of(make_results)).figures
    titles = [node.text for node in make_results.parse(figure).iter(f"{make_results.svg}title")]
    rows = make_results.rows(figure)
    assert [title.partition(" (")[0] for title in titles] == [
        f"trained on {row['train_language']}, tested on {row['test_language']}: "
        + (f"{float(row['score']):.3f}" if row["score"] else "not measured")
        for row in rows
    ]
    assert figure.svg.count("<pattern") == 1 and "Hatched" in figure.caption


def test_colours_compare_the_rows_of_a_column(make_results):
    values = {"eng-Latn": (0.9, 0.2, 0.5), "fra-Latn": (0.7, 0.4, 0.5), "deu-Latn": (0.8, 0.3, 0.2)}
    models = [model(make_results, train, train, scores) for train, scores in values.items()]
    (found,) = transfer.transfers(make_runs(models))
    gains = dict(zip(found.train_languages, found.gains, strict=True))
    columns = [found.test_languages.index(language) for language in TESTS]
    assert [gains["eng-Latn"][column] for column in columns] == pytest.approx([0.1, -0.1, 0.1])
    assert [gains["deu-Latn"][column] for column in columns] == pytest.approx([0, 0, -0.2])
    assert "0.200 above" in transfer.draw([found]).caption
    svg = transfer.draw([found]).svg
    assert "0.200 (-0.200)" in svg and "#00224e" in svg  # the darkest


def test_every_language_of_a_row_is_framed(make_results):
    both = model(make_results, "both", "eng-Latn+zho-Hans", (0.5, 0.4, 0.3))
    (found,) = transfer.transfers(make_runs([both, model(make_results, "fr", "fra-Latn", (0.7, 0.8, 0.4))]))
    assert found.train_languages == ("fra-Latn", "eng-Latn+zho-Hans")
    assert [transfer._tested(train, found) for train in found.train_languages] == [[1], [0, 2]]
    assert transfer.draw([found]).svg.count("stroke-width: 2") == 3


def test_runs_that_differ_otherwise_get_maps_of_their_own(make_results):
    models = [
        model(make_results, f"{tuning}-{train}", train, (0.5, 0.4, 0.3), tuning=tuning)
        for tuning in ("lora", "full")
        for train in ("eng-Latn", "fra-Latn")
    ]
    maps = transfer.transfers(make_runs(models))
    assert [found.title for found in maps] == ["lora", "full"]
    assert [transfer.draw(maps).svg.count(f">{found.title}<") for found in maps] == [1, 1]


def test_a_missing_label_is_asked_for(make_results):
    runs = make_runs([model(make_results, "en", "eng-Latn", (0.9, 0.7, 0.5))])
    section = transfer.section(runs)
    assert not section.figures and "--labels (train_language)" in section.missing


def test_only_what_all_rows_have_is_a_column(make_results):
    less = make_results.model("fr", make_results.score("Mono", "eng-Latn", 0.3, "eng-Latn"), train_language="fra-Latn")
    (found,) = transfer.transfers(make_runs([model(make_results, "en", "eng-Latn", (0.9, 0.7, 0.5)), less]))
    assert found.test_languages == ("eng-Latn", "fra-Latn") and found.values == [[0.9, None], [0.3, None]]
