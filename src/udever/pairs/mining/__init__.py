"""Training pairs from a person's own files: code, documentation and translations.

    from udever.pairs.mining import mine
    mined = mine([Path("my-project")])

Rows come from docstrings and doc comments (-> the function's source without them), from the sections of
Markdown, reStructuredText and HTML pages (heading path -> text), from gettext catalogues (message ->
translation), and from within the code (`within`: names, comments, messages, ...). Duplicates are dropped,
files are split into train and held out, and every file or row left out is counted with its reason.
"""

from udever.pairs.mining.pipeline import (
    ASKED,
    KINDS,
    STANDARD_LIBRARY_EXCLUDE,
    USUAL_KINDS,
    Beside,
    Mined,
    Mining,
    mine,
    mine_beside,
    standard_library,
)

__all__ = [
    "ASKED",
    "KINDS",
    "STANDARD_LIBRARY_EXCLUDE",
    "USUAL_KINDS",
    "Beside",
    "Mined",
    "Mining",
    "mine",
    "mine_beside",
    "standard_library",
]
