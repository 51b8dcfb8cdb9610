"""What every kind of file needs: counting words, cutting at a good place, summaries, removing indentation."""

import re
from collections.abc import Collection, Sequence

MAX_ANCHOR_CHARS = 1_000
MIN_ANCHOR_WORDS = 3
MAX_FUNCTION_CHARS = 16_000
"""A function longer than this is left out and counted: cutting it would leave code that does not parse."""

# Scripts written without spaces between words: there, each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_SPACE = re.compile(r"\s+")

# Titles of sections, as alternatives of a verbose pattern, in which a plain space would not count.
_NUMPY_SECTIONS = (
    "Parameters|Other[ ]Parameters|Returns?|Yields?|Receives|Raises|Warns|Warnings?|See[ ]Also|Notes?|"
    "References|Examples?|Attributes|Methods"
)
_GOOGLE_SECTIONS = (
    "Args|Arguments|Keyword[ ]Args|Keyword[ ]Arguments|Kwargs|Parameters|Params|Returns?|Yields?|Raises|"
    "Throws|Examples?|Notes?|Attributes|Usage|Todo|See[ ]Also|References"
)
_SECTION_START = re.compile(
    rf"""^[ \t]*(?:
        [:@\\](?:param|parameter|arg|argument|key|keyword|kwarg|type|raises?|except|exception|throws|var|ivar|
            cvar|vartype|returns?|rtype|yields?|ytype|meta|see|since|deprecated)\b.*
      | (?:{_NUMPY_SECTIONS})[ \t]*\n[ \t]*[-=]{{3,}}[ \t]*
      | (?:{_GOOGLE_SECTIONS})[ \t]*::?[ \t]*
      | >>>.*
      | \.\.[ ].*
    )$""",
    re.MULTILINE | re.VERBOSE,
)


def num_words(text: str) -> int:
    """Count the words of `text`; in scripts without spaces each character counts as one."""
    return len(_WORD.findall(text))


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


def summary(text: str) -> str:
    """Return what a docstring or doc comment says before its sections of parameters, notes and examples.

    Understands Sphinx fields, numpy and Google sections, doctests, reStructuredText directives. At most
    MAX_ANCHOR_CHARS long.
    """
    # A docstring may spell a lone surrogate or NUL by an escape; neither can be stored as UTF-8 text.
    text = text.encode("utf-8", "ignore").decode("utf-8").replace("\0", "")
    start = _SECTION_START.search(text)
    return cut((text[: start.start()] if start else text).strip(), MAX_ANCHOR_CHARS)


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
