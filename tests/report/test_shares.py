import pytest

from udever.errors import DataError
from udever.report.shares import bloom_shares, read_shares


def test_bloom_shares_are_those_its_model_card_rounds():
    shares = bloom_shares()
    card = {"eng-Latn": 30.04, "fra-Latn": 12.9, "spa-Latn": 10.8, "por-Latn": 4.9, "vie-Latn": 2.7, "ind-Latn": 1.2}
    for language, percent in card.items():
        assert shares.of(language) == pytest.approx(percent, abs=0.06)
    assert sum(shares.percent.values()) == pytest.approx(100 - 10.82, abs=0.01)  # the rest is code


def test_one_language_has_several_codes():
    shares = bloom_shares()
    assert shares.of("cmn-Hans") == shares.of("zho-Hans") == pytest.approx(16.2, abs=0.1)
    assert shares.of("zho-Hant") == shares.of("cmn-Hant") == pytest.approx(0.047, abs=0.001)
    assert shares.of("ara-Arab") == shares.of("arb-Arab") == pytest.approx(4.6, abs=0.1)
    assert shares.of("swa-Latn") == shares.of("swh-Latn") > 0


def test_what_bloom_has_not_seen_is_zero_and_what_is_not_told_is_unknown():
    assert bloom_shares().of("deu-Latn") == 0
    assert bloom_shares().of("python-Code") is None


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "shares.csv"
    path.write_text("language,percent\neng,50\ndeu-Latn,0\nsrp-Cyrl,0.5\nsrp-Latn,0.25\npython-Code,12\n")
    shares = read_shares(path)
    assert [shares.of(name) for name in ("eng-Latn", "deu-Latn", "srp-Cyrl", "srp-Latn", "python-Code")] == [
        50, 0, 0.5, 0.25, 12
    ]  # fmt: skip
    assert shares.of("fra-Latn") is None
    assert shares.source == "shares.csv"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no rows"),
        ("language,share\neng,3\n", "language,percent"),
        ("language,percent\neng,lots\n", "line 2"),
        ("language,percent\neng,3\nfra,-1\n", "line 3"),
        ("language,percent\neng,nan\n", "line 2"),
        ("language,percent\n,3\n", "line 2"),
        ("language,percent\neng\n", "line 2"),
        ("language,percent\neng,3\neng,4\n", "twice"),
        ("language,percent\neng,70\nfra,40\n", "110"),
    ],
)
def test_a_broken_table_is_named(tmp_path, content, told):
    (tmp_path / "shares.csv").write_text(content)
    with pytest.raises(DataError, match=told):
        read_shares(tmp_path / "shares.csv")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv"):
        read_shares(tmp_path / "none.csv")
