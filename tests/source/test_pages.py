import time
from collections import Counter

import pytest

from udever.source.chunks import cut_file
from udever.source.pages import SPLITTERS, html_sections, markdown_sections, rst_sections

LONG = "These are more than twelve words about the thing, so that the section counts."


def titled(sections):
    return [(section.path, section.text) for section in sections if section.path]


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
    assert titled(markdown_sections(text, Counter())) == [
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
    assert titled(rst_sections(text, Counter())) == [
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
    assert titled(html_sections(text, Counter())) == [
        (("Guide",), "Intro with bold text.\n\ntail"),
        (("Guide", "Install"), "a\n  b\n\none\n\ntwo"),
        (("Guide", "C#"), "x\ny"),
    ]


@pytest.mark.parametrize("suffix", SPLITTERS)
def test_a_text_without_headings_has_no_sections(suffix):
    assert [(section.path, section.text) for section in SPLITTERS[suffix](LONG, Counter())] == [((), LONG)]
    assert SPLITTERS[suffix]("", Counter()) == []


@pytest.mark.parametrize(
    "top",
    [
        "---\ntitle: A page\ntags: [a, b]\ndate: 2024-13-45\n---\n",
        "+++\ntitle = 'A page'\n[params]\nx = 1\n+++\n",
        "---  \nempty: ''\n---",
    ],
)
def test_settings_above_a_page_are_left_out_and_counted(top):
    skipped: Counter[str] = Counter()
    rest = "" if top.endswith("---") else "\n# Heading\n\ntext\n"
    sections = markdown_sections(top + rest, skipped)
    assert titled(sections) == ([(("Heading",), "text")] if rest else [])
    assert all(section.text in ("", "text") for section in sections)
    assert skipped == {"text: front matter": 1}


@pytest.mark.parametrize(
    "top",
    [
        "---\n\nFirst words of a page.\n\n---\n",
        "---\n---\n",
        "---\n- a list\n- of words\n---\n",
        "---\ntitle: [unclosed\n---\n",
        "+++\ntitle: not TOML\n+++\n",
        "---\ntitle: no end\n\nwords\n",
        "---\n" + "a: {" * 3_000 + "\n---\n",
    ],
)
def test_what_is_no_setting_stays(top):
    skipped: Counter[str] = Counter()
    said = "\n".join(section.text + section.title_path for section in markdown_sections(top + "\n# End\n", skipped))
    assert not skipped
    for word in top.replace("-", " ").replace("+", " ").split():
        assert word in said


def test_what_a_page_loses_is_counted():
    skipped: Counter[str] = Counter()
    markdown_sections("<!-- a -->\n# H\n<!-- b --> text <!-- open", skipped)
    assert skipped.pop("text: HTML comment") == 2
    rst_sections("Head\n====\n\n.. toctree::\n   a\n\n.. a comment\n\ntext\n", skipped)
    assert skipped == {"text: directive, label or comment": 2}


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".md", "<!--" * 200_000),
        (".md", "---\n" * 30_000),
        (".rst", "`" + " " * 300_000 + "\n" + "=" * 300_001),
        (".html", "<pre>" + " " * 500_000 + "x</pre>"),
        (".html", "<div>" * 3_000 + "x"),
        (".html", "<nav>x" * 3_000),
        *((".html", never_closed * 6_000) for never_closed in ("<main>x<a>", "<h1><b>x", "<b>x", "<a>#")),
    ],
)
def test_no_page_takes_long(suffix, text):
    started = time.process_time()
    SPLITTERS[suffix](text, Counter())
    assert time.process_time() - started < 4


def html(body):
    """The text of a page, and what of it was left out."""
    skipped: Counter[str] = Counter()
    sections = html_sections(f"<html><head><title>t</title></head><body>{body}</body></html>", skipped)
    return "\n".join(f"{section.title_path}\n{section.text}" for section in sections), skipped


@pytest.mark.parametrize(
    ("body", "kept", "left_out"),
    [
        (f"<form action='x'><h1>Page</h1><p>{LONG}</p><input value=y><button>Go</button></form>", LONG, ""),
        (
            f"<article><h2>One</h2>{LONG}</article><article><h2>Two</h2><p>Second article.</article>",
            "Second article",
            "",
        ),
        (f"<main><h1>Page</h1>{LONG}<aside class=admonition><p>Mind the gap.</aside></main>", "Mind the gap", ""),
        (f"<main>x</main><div><h1>Page</h1>{LONG}</div>", LONG, ""),
        (f"<article>teaser</article><h1>Page</h1><p>{LONG}</p>", LONG, ""),
        (f"<nav><h1>Page</h1>{LONG}</nav>", LONG, ""),
        (f"<article>{LONG}<article>inner part</article></article>", "inner part", ""),
        (f"<main><h1>Page</h1>{LONG}</main><p>All rights reserved.", LONG, "All rights reserved"),
        (f"<h1>Page</h1>{LONG}<aside><a href=x>Previous chapter</a></aside>", LONG, "Previous chapter"),
        (f"<h1>Page</h1>{LONG}<div class=sphinxsidebar><ul><li><a href=x>Contents</a></ul></div>", LONG, "Contents"),
        (f"<h1>Page</h1>{LONG}<footer>Built by hand</footer>", LONG, "Built by hand"),
    ],
)
def test_what_holds_most_of_a_page_is_kept(body, kept, left_out):
    said, skipped = html(body)
    assert kept in said
    assert said.count(kept) == 1
    if left_out:
        assert left_out not in said
    assert sum(skipped.values()) == bool(left_out)


@pytest.mark.parametrize("body", ["", "<div id=app></div><script>run()</script>"])
def test_a_page_without_text_is_counted(body):
    skipped: Counter[str] = Counter()
    assert cut_file(f"<html><body>{body}</body></html>", "a.html", None, skipped) == []
    assert skipped == {"file: page without text": 1}
