from collections import Counter
from pathlib import Path

import polib
import pytest

from udever.pairs.mining.translations import language_of, message_group, plural_forms, translation_pairs

CATALOGUE = """# comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Language: {language}\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

msgid "Open the file"
msgstr "Öffne die Datei"

#, fuzzy
msgid "Close the file"
msgstr "Öffne die Datei"

msgid "Cancel"
msgstr "Abbrechen"

msgid "Not yet done"
msgstr ""

msgid "Foo  Bar"
msgstr "Foo Bar"

msgid "%d file found"
msgid_plural "%d files found"
msgstr[0] "%d Datei gefunden"
msgstr[1] "%d Dateien gefunden"

#~ msgid "Gone for good"
#~ msgstr "Für immer weg"
"""


def test_only_sure_translations_are_rows(tmp_path):
    path = tmp_path / "x.po"
    path.write_text(CATALOGUE.format(language="de_DE"), encoding="utf-8")
    skipped: Counter[str] = Counter()
    pairs = list(translation_pairs(path, "x.po", skipped))
    assert [(pair.anchor, pair.positive) for pair in pairs] == [
        ("Open the file", "Öffne die Datei"),
        ("%d file found", "%d Datei gefunden"),
        ("%d files found", "%d Dateien gefunden"),
    ]
    first = pairs[0]
    assert (first.kind, first.anchor_language, first.positive_language) == (
        "symmetric",
        "eng-Latn",
        "deu-Latn",
    )
    assert first.group == message_group("Open the  file") != pairs[1].group
    assert skipped == {
        "row: fuzzy translation": 1,
        "row: message under 2 words": 1,
        "row: untranslated message": 1,
        "row: translation equal to the message": 1,
        "row: obsolete message": 1,
    }


def test_compiled_catalogues_give_the_same_rows(tmp_path):
    path = tmp_path / "x.po"
    path.write_text(CATALOGUE.format(language="de"), encoding="utf-8")
    polib.pofile(str(path)).save_as_mofile(str(tmp_path / "x.mo"))
    rows = [
        {(pair.anchor, pair.positive, pair.positive_language, pair.group) for pair in found}
        for found in (
            translation_pairs(path, "x", Counter()),
            translation_pairs(tmp_path / "x.mo", "x", Counter()),
        )
    ]
    assert rows[0] == rows[1] != set()


@pytest.mark.parametrize(
    ("name", "data"), [("x.po", b"no catalogue"), ("x.mo", b"\xde\x12\x04\x95\0\0"), ("x.mo", b"")]
)
def test_a_broken_catalogue_is_counted(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    skipped: Counter[str] = Counter()
    assert list(translation_pairs(tmp_path / name, name, skipped)) == []
    assert skipped == {"file: catalogue that cannot be read": 1}


def test_a_catalogue_of_the_source_language_is_counted(tmp_path):
    (tmp_path / "x.po").write_text(CATALOGUE.format(language="en_GB"), encoding="utf-8")
    skipped: Counter[str] = Counter()
    assert list(translation_pairs(tmp_path / "x.po", "x.po", skipped)) == []
    assert skipped == {"file: catalogue in the source language": 1}


@pytest.mark.parametrize(
    ("header", "path", "expected"),
    [
        ("pt_BR", "fr.po", "por-Latn"),
        ("", "fr.po", "fra-Latn"),
        ("", "po/zh_TW.po", "zho-Hant"),
        ("", "messages.de.po", "deu-Latn"),
        ("", "locale/nl/LC_MESSAGES/django.mo", "nld-Latn"),
        ("", "ru/app.po", "rus-Cyrl"),
        (" ", "texts/app.po", None),
    ],
)
def test_the_header_names_the_language_else_the_path(header, path, expected):
    assert language_of(header, Path(path)) == expected


ARABIC = "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : n%100>=11 ? 4 : 5;"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (ARABIC, (1, 4)),
        ("nplurals=2; plural=n != 1;", (0, 1)),
        ("nplurals=2; plural=n>1", (0, 1)),
        ("nplurals=1; plural=0;", (0, None)),
        (
            "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);",
            (0, 2),
        ),
        ("nplurals=2; plural=n", None),
        ("nplurals=2; plural=1/0", None),
        ("nplurals=2; plural=1%(n-1)", None),
        ("nplurals=2; plural=__import__('os')", None),
        (f"nplurals=2; plural={'(' * 900}n{')' * 900}", None),
        ("nplurals=INTEGER; plural=EXPRESSION;", None),
        ("", None),
    ],
)
def test_which_forms_stand_for_one_and_many(header, expected):
    assert plural_forms(header) == expected


def test_an_arabic_message_is_paired_with_its_forms_for_one_and_many(tmp_path):
    forms = [f"صيغة رقم {number}" for number in range(6)]
    entry = polib.POEntry(msgid="%d old file", msgid_plural="%d old files", msgstr_plural=dict(enumerate(forms)))
    for header, expected in ((ARABIC, [("%d old file", forms[1]), ("%d old files", forms[4])]), ("", [])):
        catalogue = polib.POFile()
        catalogue.metadata = {"Language": "ar", "Content-Type": "text/plain; charset=UTF-8"}
        catalogue.metadata |= {"Plural-Forms": header} if header else {}
        catalogue.append(entry)
        catalogue.save(str(tmp_path / "ar.po"))
        catalogue.save_as_mofile(str(tmp_path / "ar.mo"))
        for name in ("ar.po", "ar.mo"):
            skipped: Counter[str] = Counter()
            pairs = list(translation_pairs(tmp_path / name, name, skipped))
            assert [(pair.anchor, pair.positive) for pair in pairs] == expected
            assert len({pair.group for pair in pairs}) <= 1
            assert sum(skipped.values()) == (0 if header else 1)
