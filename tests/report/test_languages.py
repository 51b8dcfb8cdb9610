import math

import pytest

from udever.report import languages
from udever.report.runs import make_runs
from udever.report.shares import LanguageShares, bloom_shares

NATURAL = {"eng-Latn": 0.9, "fra-Latn": 0.8, "vie-Latn": 0.6, "swh-Latn": 0.5, "deu-Latn": 0.3, "jpn-Jpan": 0.2}


def model(make_results, name="m", shift=0.0):
    names = list(NATURAL)
    return make_results.model(
        name,
        *(make_results.score("Mono", lang, value - shift, lang, interval=0.01) for lang, value in NATURAL.items()),
        make_results.score("EnglishOnly", "en", 0.01, "eng-Latn"),
        *(make_results.score("Cross", lang, NATURAL[lang] / 2 - shift, lang, "eng-Latn") for lang in names[1:]),
        make_results.score("Cross", "fra-vie", 0.1, "fra-Latn", "vie-Latn"),
        make_results.score("Code", "go", 0.4, "eng-Latn", "go-Code"),
    )


def test_the_numbers_are_those_computed_by_hand(make_results):
    section = languages.section(make_runs([model(make_results)]), bloom_shares())
    rows = {row["language"]: row for row in make_results.rows(section.figures[0])}
    assert float(rows["eng-Latn"]["monolingual"]) == pytest.approx(0.9)  # EnglishOnly tells nothing of languages
    assert float(rows["eng-Latn"]["cross_lingual"]) == pytest.approx((0.4 + 0.3 + 0.25 + 0.15 + 0.1) / 5)
    assert float(rows["fra-Latn"]["cross_lingual"]) == pytest.approx((0.4 + 0.1) / 2)
    assert float(rows["fra-Latn"]["difference"]) == pytest.approx(0.8 - 0.25)
    assert float(rows["deu-Latn"]["share_percent"]) == 0
    assert float(rows["vie-Latn"]["share_percent"]) == pytest.approx(bloom_shares().of("vie-Latn"))
    code = rows["go-Code"]
    assert (code["share_percent"], code["monolingual"], code["difference"]) == ("", "", "")
    assert float(code["cross_lingual"]) == 0.4
    assert any("go-Code" in text for text in section.text)


def test_every_measured_value_of_a_known_share_is_in_the_picture_at_its_place(make_results):
    (figure,) = languages.section(make_runs([model(make_results)]), bloom_shares()).figures
    rows = [row for row in make_results.rows(figure) if row["share_percent"]]
    marks = make_results.placed(figure, r"point-(\d+)")
    expected = sum(row[measure] != "" for row in rows for measure in languages.MEASURES)
    assert len(marks) == expected == 18
    seen = [(number, row) for number, row in enumerate(rows) if float(row["share_percent"]) > 0]
    first = [marks[str(number)] for number in range(len(rows))]  # the first panel comes first
    shares = [math.log10(float(row["share_percent"])) for _, row in seen]
    assert make_results.is_affine(shares, [first[number][0] for number, _ in seen])
    assert make_results.is_affine([float(row["monolingual"]) for row in rows], [y for _, y in first])
    unseen = [first[number][0] for number, row in enumerate(rows) if float(row["share_percent"]) == 0]
    assert max(unseen) < min(first[number][0] for number, _ in seen)


def test_the_correlation_is_scipys(make_results):
    from scipy.stats import spearmanr

    rows = languages.language_rows(make_runs([model(make_results)]), bloom_shares())
    shown = [row for row in rows if row.share is not None]
    found = languages._correlation(shown, "cross_lingual")
    pairs = [(row.share, row.cross_lingual.value) for row in shown]
    assert found == (pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic), 6)
    assert languages._correlation(shown[:2], "monolingual") is None
    alike = [row for row in shown if row.share == 0] * 2
    assert languages._correlation(alike, "monolingual") is None


def test_many_models_are_drawn_in_several_figures_of_one_scale(make_results):
    pair = [(name, make_results.score("Mono", name, 0.5, name)) for name in ("eng-Latn", "fra-Latn")]
    runs = make_runs([make_results.model(f"m{number}", *(score for _, score in pair)) for number in range(4)])
    section = languages.section(runs, bloom_shares())
    assert [figure.name for figure in section.figures] == ["languages", "languages-2"]
    models = [{row["model"] for row in make_results.rows(figure)} for figure in section.figures]
    assert models == [{"m0", "m1", "m2"}, {"m3"}]


def test_without_a_share_or_a_second_language_the_reason_is_given(make_results):
    section = languages.section(make_runs([model(make_results)]), LanguageShares({}, "mine.csv"))
    assert "mine.csv" in section.missing and not section.figures
    one = make_runs([make_results.model("m", make_results.score("A", "en", 0.4, "eng-Latn"))])
    assert "two or more languages" in languages.section(one, bloom_shares()).missing


def test_languages_seen_alone_and_unseen_alone_can_be_drawn(make_results):
    for names in (["eng-Latn", "fra-Latn"], ["deu-Latn", "jpn-Jpan"]):
        scores = [make_results.score("Mono", name, 0.5, name) for name in names]
        (figure,) = languages.section(make_runs([make_results.model("m", *scores)]), bloom_shares()).figures
        assert len(make_results.placed(figure, r"point-(\d+)")) == 2
        assert "not measured" in figure.svg  # nothing crosses languages here


def test_a_hundred_languages_are_all_drawn_and_names_without_room_are_told(make_results):
    names = [f"q{number // 10:x}{number % 10}-Latn" for number in range(100)]
    scores = [make_results.score("Mono", name, 0.5 + number / 1000, name) for number, name in enumerate(names)]
    section = languages.section(make_runs([make_results.model("m", *scores)]), bloom_shares())
    (figure,) = section.figures
    assert len(make_results.placed(figure, r"point-(\d+)")) == 100
    assert "left out" in figure.caption


def test_bits_a_text_stand_on_an_axis_of_their_own(make_results):
    known = {"eng-Latn": 70.0, "fra-Latn": 83.0, "vie-Latn": 120.0, "deu-Latn": 91.0}
    section = languages.section(make_runs([model(make_results)]), LanguageShares(known, "bits.csv", bits=True))
    (figure,) = section.figures
    rows = [row for row in make_results.rows(figure) if row["bits_per_text"]]
    assert {row["language"]: float(row["bits_per_text"]) for row in rows} == known
    marks = make_results.placed(figure, r"point-(\d+)")
    first = [marks[str(number)] for number in range(len(rows))]
    assert make_results.is_affine([float(row["bits_per_text"]) for row in rows], [x for x, _ in first])
    assert ">70<" in figure.svg
    assert section.text[0].startswith("Bits for the same text, before finetuning: bits.csv.")
