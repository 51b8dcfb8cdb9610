"""What every kind of text needs: one line of it, cutting at a good place, removing indentation."""

import re
from collections.abc import Collection, Sequence

_SPACE = re.compile(r"\s+")


def one_line(text: str) -> str:
    """Return `text` with every run of white space made one space."""
    return _SPACE.sub(" ", text).strip()


def cut(text: str, max_chars: int) -> str:
    """Return the beginning of `text`, at most `max_chars` long, ending at the best break in its second half.

    Best is the end of a paragraph, then of a line, of a sentence, of a word.
    """
    if len(text) <= max_chars:
        return text
    for mark in ("\n\n", "\n", ". ", " "):
        # A full stop stays with its sentence; the white space behind it goes.
        end = text.rfind(mark, max_chars // 2, max_chars + 1)
        if end > 0:
            return text[: end + 1 if mark == ". " else end].rstrip()
    return text[:max_chars]


def dedent(lines: Sequence[str], indent: str, verbatim: Collection[int] = ()) -> str:
    """Join `lines` with `indent` taken off each; the line numbers in `verbatim` are left as they are.

    Lines inside a string literal belong in `verbatim`: their white space is part of the program, which is
    why textwrap.dedent is not used. A line indented by less loses what white space it has.
    """
    out = []
    for number, line in enumerate(lines):
        if number not in verbatim:
            shared = len(indent)
            if not line.startswith(indent):
                shared = min(len(indent), len(line) - len(line.lstrip(" \t\f")))
            line = line[shared:]
        out.append(line)
    return "\n".join(out)
