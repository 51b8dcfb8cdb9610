import pytest

from udever.source.languages import known, mteb_language


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("de", "deu-Latn"),
        ("de_AT", "deu-Latn"),
        ("pt_BR", "por-Latn"),
        ("zh_CN", "zho-Hans"),
        ("zh-TW", "zho-Hant"),
        ("zh_Hant_HK", "zho-Hant"),
        ("sr", "srp-Cyrl"),
        ("sr@latin", "srp-Latn"),
        ("sr_Latn", "srp-Latn"),
        ("ca@valencia", "cat-Latn"),
        ("ja_JP.UTF-8", "jpn-Jpan"),
        ("tlh", "tlh"),
        ("Walloon", "Walloon"),
    ],
)
def test_codes_are_written_as_mteb_writes_them(code, expected):
    assert mteb_language(code) == expected
    assert known(code) == (code != expected)
