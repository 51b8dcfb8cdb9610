import json
from collections import Counter

import pytest

from udever.source.chunks import cut_file
from udever.source.notebooks import parse_notebook
from udever.source.reading import read

PICTURE = "iVBORw0KGgo" * 5_000
CELLS = [
    {"cell_type": "markdown", "metadata": {}, "source": ["# Sizes\n", "\n", "How large files are."]},
    {
        "cell_type": "code",
        "metadata": {},
        "source": ["def size(path):\n", "    return path.stat().st_size"],
        "outputs": [
            {"output_type": "stream", "name": "stdout", "text": ["the largest of all\n"]},
            {"output_type": "display_data", "data": {"image/png": PICTURE, "text/plain": ["<Figure size>"]}},
            {"output_type": "execute_result", "data": {"text/plain": "0.1 0.2 0.3 0.4 0.5"}},
            {"output_type": "error", "ename": "ValueError", "evalue": "no such file", "traceback": ["\x1b[31mx"]},
        ],
    },
    {"cell_type": "markdown", "source": "more words", "attachments": {"a.png": {"image/png": PICTURE}}},
]
NOTEBOOK = {"metadata": {"language_info": {"name": "python"}}, "cells": CELLS, "nbformat": 4}


@pytest.mark.parametrize("indent", [None, 1, 4])
def test_a_notebook_is_cut_at_its_cells_without_pictures(indent):
    text = json.dumps(NOTEBOOK, indent=indent)
    assert read(text.encode(), "a.ipynb").text == text
    skipped: Counter[str] = Counter()
    chunks = cut_file(text, "a.ipynb", "eng-Latn", skipped)
    assert [(chunk.kind, chunk.text, chunk.parent, chunk.language) for chunk in chunks] == [
        ("section", "# Sizes\n\nHow large files are.", "", "eng-Latn"),
        ("code", "def size(path):\n    return path.stat().st_size", "Sizes", "python-Code"),
        ("text", "the largest of all", "Sizes", None),
        ("text", "<Figure size>", "Sizes", None),
        ("text", "ValueError: no such file", "Sizes", None),
        ("text", "more words", "Sizes", "eng-Latn"),
    ]
    assert skipped == {"text: picture or other output without words": 2, "text: output of numbers": 1}
    lines = text.split("\n")
    for chunk in chunks:
        said = "\n".join(lines[chunk.first_line - 1 : chunk.last_line])
        assert json.dumps(chunk.text.split("\n")[0])[1:-1] in said or chunk.text.startswith("ValueError")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"cells": 3}', '{"cells": [1]}', '{"cells": [{}], "metadata": []}', '{"cells": [', "{" * 9],
)
def test_what_is_no_notebook_is_none(text):
    assert parse_notebook(text) is None
