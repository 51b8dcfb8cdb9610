from collections import Counter

import pytest

from udever.pairs.mining.docs import MAX_CHARS, doc_pieces
from udever.pairs.mining.pieces import documented


def doc_pairs(text, source, suffix, language, skipped):
    found = doc_pieces(text, source, suffix, language, skipped)
    return [pair for piece in found if (pair := documented(piece, language, skipped))]


LONG = "These are more than twelve words about the thing, so that the section counts."


def test_rows_are_asymmetric_and_in_the_language_given():
    skipped: Counter[str] = Counter()
    text = f"# Guide\n{LONG}\n## Install it\n{LONG}\n## Short\nfew words\n"
    (pair,) = doc_pairs(text, "a.md", ".md", "eng-Latn", skipped)
    assert (pair.anchor, pair.positive, pair.source) == ("Guide > Install it", LONG, "a.md")
    assert (pair.kind, pair.anchor_language, pair.positive_language) == ("asymmetric", "eng-Latn", "eng-Latn")
    assert skipped == {"row: heading under 2 words": 1, "row: section under 12 words": 1}


@pytest.mark.parametrize("name", ["CHANGELOG.md", "docs/change-log-2.rst", "CHANGES", "News.md", "whatsnew-5.0.rst"])
def test_headings_of_a_change_log_are_no_questions_and_its_sections_are_there(name):
    skipped: Counter[str] = Counter()
    text = f"# Change log\n{LONG}\n## Version 1.0.1 (July 2008)\n{LONG}\n"
    assert doc_pairs(text, name, ".md", None, skipped) == []
    assert skipped == {"row: heading of a change log": 2}
    assert len(doc_pieces(text, name, ".md", None, skipped)) == 2
    for other in ("guide.md", "history-of-the-project.md", "newsletter.md", "changes-tracking.md"):
        assert len(doc_pairs(text, other, ".md", None, Counter())) == 2


def test_a_page_that_the_parser_rejects_is_counted():
    skipped: Counter[str] = Counter()
    assert list(doc_pairs(f"<h1>A title</h1><![foo>{LONG}", "a.html", ".html", None, skipped)) == []
    assert skipped == {"file: page that does not parse": 1}


def test_a_long_section_is_cut_at_a_paragraph_and_counted():
    skipped: Counter[str] = Counter()
    (pair,) = doc_pairs("# A title\n" + f"{LONG}\n\n" * 100, "a.md", ".md", None, skipped)
    assert MAX_CHARS * 0.9 < len(pair.positive) <= MAX_CHARS
    assert pair.positive.endswith("counts.")
    assert pair.positive_language is None
    assert skipped == {"text: section cut at 4000 characters": 1}
