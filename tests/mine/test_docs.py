from collections import Counter

import pytest

from udever.mine.docs import MAX_CHARS, SPLITTERS, doc_pairs, html_sections, markdown_sections, rst_sections

LONG = "These are more than twelve words about the thing, so that the section counts."


def test_markdown_sections_hold_their_own_text():
    text = f"""---
title: Front
# not a heading
---
Lost before the first heading.

# Guide to `x` and [links](http://a.b)

Intro.

## Install

```sh
# not a heading
make
```

> # not the page's

### Linux ###
<!-- hidden -->
apt
## Use
{LONG}

Setext title
============
End.
"""
    top = "Guide to x and links"
    assert markdown_sections(text) == [
        ((top,), "Intro."),
        ((top, "Install"), "```sh\n# not a heading\nmake\n```\n\n> # not the page's"),
        ((top, "Install", "Linux"), "apt"),
        ((top, "Use"), LONG),
        (("Setext title",), "End."),
    ]


def test_rst_sections_follow_the_order_of_adornments():
    text = """.. _label:

=====
Guide
=====

Intro with :func:`f`.

.. toctree::
   :hidden:

   a
   b

.. a comment
   over lines

Install ``x``
-------------
::

   literal
   -------

.. note:: Kept.

.. include:: /etc/passwd

Linux
~~~~~
apt

====  ====
a     b
====  ====

Use
---
.. code-block:: sh

   make

----

After a transition.
"""
    assert rst_sections(text) == [
        (("Guide",), "Intro with :func:`f`."),
        (("Guide", "Install x"), "::\n\n   literal\n   -------\n\n.. note:: Kept."),
        (
            ("Guide", "Install x", "Linux"),
            "apt\n\n====  ====\na     b\n====  ====",
        ),
        (("Guide", "Use"), ".. code-block:: sh\n\n   make\n\n----\n\nAfter a transition."),
    ]


def test_html_sections_leave_out_what_is_no_text():
    text = """<!DOCTYPE html><html><head><title>t</title><style>s</style></head><body>
<nav>menu</nav><script>code()</script>
<main><h1>Guide<a href="#x">¶</a></h1><p>Intro   with
<b>bold</b> text.</p>tail<!-- hidden -->
<section><h2>In<i>stall</i></h2><pre>a
  b</pre><ul><li>one</li><li>two</li></ul></section>
<h2>C#</h2>x<br>y</main><footer>foot</footer></body></html>"""
    assert html_sections(text) == [
        (("Guide",), "Intro with bold text.\n\ntail"),
        (("Guide", "Install"), "a\n  b\n\none\n\ntwo"),
        (("Guide", "C#"), "x\ny"),
    ]


@pytest.mark.parametrize("suffix", SPLITTERS)
def test_a_text_without_headings_has_no_sections(suffix):
    assert SPLITTERS[suffix](LONG) == []
    assert SPLITTERS[suffix]("") == []


def test_rows_are_asymmetric_and_in_the_language_given():
    skipped: Counter[str] = Counter()
    text = f"# Guide\n{LONG}\n## Install it\n{LONG}\n## Short\nfew words\n"
    (pair,) = doc_pairs(text, "a.md", ".md", "eng-Latn", skipped)
    assert (pair.anchor, pair.positive, pair.source) == ("Guide > Install it", LONG, "a.md")
    assert (pair.kind, pair.anchor_language, pair.positive_language) == ("asymmetric", "eng-Latn", "eng-Latn")
    assert skipped == {"row: heading under 2 words": 1, "row: section under 12 words": 1}


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
