"""What every kind of pair needs: its limits, and the summary of a docstring."""

import re

from udever.source.text import cut

MAX_ANCHOR_CHARS = 1_000
MIN_ANCHOR_WORDS = 3
MAX_FUNCTION_CHARS = 16_000
"""A function longer than this is left out and counted: cutting it would leave code that does not parse."""

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


def summary(text: str) -> str:
    """Return what a docstring or doc comment says before its sections of parameters, notes and examples.

    Understands Sphinx fields, numpy and Google sections, doctests, reStructuredText directives. At most
    MAX_ANCHOR_CHARS long.
    """
    # A docstring may spell a lone surrogate or NUL by an escape; neither can be stored as UTF-8 text.
    text = text.encode("utf-8", "ignore").decode("utf-8").replace("\0", "")
    start = _SECTION_START.search(text)
    return cut((text[: start.start()] if start else text).strip(), MAX_ANCHOR_CHARS)
