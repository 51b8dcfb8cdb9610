"""The bytes of a file as text: by its byte order mark, as UTF-8, as it names its encoding itself, else by a guess."""

import codecs
import re
import tokenize
from dataclasses import dataclass
from io import BytesIO

from bs4.dammit import EncodingDetector
from charset_normalizer import from_bytes

UNKNOWN = "of an encoding that cannot be told"
_NO_TEXT = frozenset({"idna", "punycode", "raw_unicode_escape", "undefined", "unicode_escape", "utf-7"})
_WIDE = ("utf-16", "utf-32")
_SNIFFED_BYTES = 8_192  # as git does: a NUL in the first 8 KB makes a file binary
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GUESSED = (
    *("cp1252", "cp932", "gb18030", "euc_kr", "big5", "euc_jp", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254"),
    *("cp1255", "cp1256", "cp1257", "cp874", "iso2022_jp"),
)
"""What a file may be guessed to be; of several that suit it equally the first."""
_NEAR = 0.05
_MIN_WIDE_SHARE = 0.5
"""UTF-16 without a mark: a NUL in so many of the bytes on one side of each pair, and hardly one on the other."""


@dataclass(frozen=True)
class Decoded:
    """A file's text; None for bytes that are none, for the `reason` given. `guess`: the encoding, where guessed."""

    text: str | None
    reason: str = ""
    guess: str = ""


def decode(data: bytes, suffix: str) -> Decoded:
    """The text in `data`, of a file named `*suffix`, without a byte order mark."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = _strict(data, encoding)
            return Decoded(None, "binary") if text is None or "\0" in text else Decoded(text)
    if b"\0" in data[:_SNIFFED_BYTES]:
        return _wide(data)
    text = _strict(data, _declared(data, suffix)) or _strict(data, "utf-8")
    return _guessed(data) if text is None else Decoded(text)


def _strict(data: bytes, encoding: str) -> str | None:
    try:
        text = data.decode(encoding)
        text.encode()  # some codecs yield lone surrogates, which are no text
    except (UnicodeError, LookupError):
        return None
    return text


def _declared(data: bytes, suffix: str) -> str:
    """The encoding that Python source (PEP 263) or a page names itself; UTF-8 where it names none.

    UTF-16 and UTF-32 count as none, as in HTML's standard: what names them in single bytes is not written in them.
    """
    name = None
    try:
        if suffix in (".py", ".pyw", ".pyi"):
            name = tokenize.detect_encoding(BytesIO(data).readline)[0]
        elif suffix in (".html", ".htm", ".xhtml", ".xml"):
            name = EncodingDetector.find_declared_encoding(data[:_SNIFFED_BYTES], is_html=True)
        known = "utf-8" if name is None else codecs.lookup(name).name
        return "utf-8" if known in _NO_TEXT or known.startswith(_WIDE) else known
    except (SyntaxError, UnicodeError, LookupError, ValueError):
        return "utf-8"


def _wide(data: bytes) -> Decoded:
    """UTF-16 without a byte order mark, of mostly Latin letters; anything else with a NUL is binary."""
    head = data[:_SNIFFED_BYTES]
    even, odd = head[::2].count(0) / len(head[::2]), head[1::2].count(0) / max(1, len(head[1::2]))
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    if len(head) < 16 or max(even, odd) < _MIN_WIDE_SHARE or min(even, odd) > 0.01:
        return Decoded(None, "binary")
    text = _strict(data, encoding)
    if text is None or not all(char.isprintable() or char.isspace() for char in text[:_SNIFFED_BYTES]):
        return Decoded(None, "binary")
    return Decoded(text, guess=encoding)


def _guessed(data: bytes) -> Decoded:
    matches = list(from_bytes(data, cp_isolation=list(_GUESSED)))
    best = matches[0] if matches else None
    if best is None:
        return Decoded(None, UNKNOWN)
    matches = [match for match in matches if match.encoding != "cp932" or not _is_doubtful(str(match))]
    near = [
        match
        for match in matches or [best]
        if match.chaos <= best.chaos + _NEAR and match.coherence >= best.coherence - _NEAR
    ]
    chosen = min(near, key=lambda match: min(_place(name) for name in (match.encoding, *match.could_be_from_charset)))
    encoding = min((chosen.encoding, *chosen.could_be_from_charset), key=_place)
    text = _strict(data, encoding)
    if text is None or "\0" in text:
        return Decoded(None, UNKNOWN)
    return Decoded(text, guess=encoding)


def _is_doubtful(text: str) -> bool:
    """Half-width letters alone: what Chinese bytes look like when they are read as Japanese."""
    return bool(re.search("[\uff61-\uff9f]", text)) and not re.search("[\u3040-\u30ff]", text)


def _place(encoding: str) -> int:
    return _GUESSED.index(encoding) if encoding in _GUESSED else len(_GUESSED)
