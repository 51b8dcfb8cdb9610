"""A file's bytes as the text that a person would read in it; everything else is given its reason."""

from collections import Counter
from pathlib import PurePosixPath

from udever.errors import FileRefused
from udever.source.chunks import is_code
from udever.source.decoding import UNKNOWN, Decoded, decode
from udever.source.looks import why_unread
from udever.source.notebooks import NOTEBOOK, parse_notebook
from udever.source.walk import FoundFile


def read(data: bytes, path: str, *, is_asked: bool = False) -> Decoded:
    """What the bytes of the file at `path` say, with line ends as "\\n".

    Not read are binary files, text of an unknown encoding and, unless the file `is_asked` for, what nobody wrote to
    be read: generated and minified files, numbers, encoded bytes, data.
    """
    suffix = PurePosixPath(path).suffix.lower()
    decoded = decode(data, suffix)
    if decoded.text is None:
        return decoded
    text = decoded.text.replace("\r\n", "\n").replace("\r", "\n")
    if suffix == NOTEBOOK:
        reason = "" if parse_notebook(text) is not None else "notebook that does not parse"
    else:
        reason = "" if is_asked else why_unread(text, path, is_code=is_code(path))
    return Decoded(None if reason else text, reason, decoded.guess)


def left_out(reason: str, path: str) -> str:
    """How a file left out for `reason` is counted: one whose encoding cannot be told by its name."""
    return f"file: {reason} ({path})" if reason == UNKNOWN else f"file: {reason}"


def read_found(file: FoundFile, skipped: Counter[str]) -> str | None:
    """The text of a file that was found; None, counted, for one that is none or is not to be read."""
    try:
        data = file.read()
    except FileRefused as refused:
        skipped[f"file: {refused.reason}"] += 1
        return None
    found = read(data, file.source, is_asked=file.is_asked)
    if found.text is None:
        skipped[left_out(found.reason, file.source)] += 1
    elif found.guess:
        skipped[f"text: of an encoding that was guessed ({found.guess})"] += 1
    return found.text
