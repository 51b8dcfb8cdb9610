import pytest

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
    assert titled(markdown_sections(text)) == [
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
    assert titled(rst_sections(text)) == [
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
    assert titled(html_sections(text)) == [
        (("Guide",), "Intro with bold text.\n\ntail"),
        (("Guide", "Install"), "a\n  b\n\none\n\ntwo"),
        (("Guide", "C#"), "x\ny"),
    ]


@pytest.mark.parametrize("suffix", SPLITTERS)
def test_a_text_without_headings_has_no_sections(suffix):
    assert [(section.path, section.text) for section in SPLITTERS[suffix](LONG)] == [((), LONG)]
    assert SPLITTERS[suffix]("") == []
