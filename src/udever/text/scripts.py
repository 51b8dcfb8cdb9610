"""Which characters make words: the one table of scripts written without spaces, and the classes of the rest."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul: Korean has spaces, but particles hang on the noun
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),  # ideographic marks
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3040, 0x31BF),  # Kana, Bopomofo, Hangul letters
    (0x31F0, 0x31FF),  # Kana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),  # Han
    (0xA000, 0xA4CF),  # Yi
    (0xA960, 0xA9FF),  # Hangul, Javanese, Myanmar
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),  # Han
    (0xFF66, 0xFFDC),  # Kana and Hangul of half width
    (0x1B000, 0x1B16F),  # Kana
    (0x20000, 0x323AF),  # Han
)
_MARKS = ("Mn", "Mc", "Me")
_ALL_HAN = 0x20000  # nothing but ideographs, tags and variation selectors lies above


def is_unspaced(character: str) -> bool:
    """Whether `character` belongs to a script whose words have no spaces between them."""
    return any(first <= ord(character) <= last for first, last in _UNSPACED)


def _ranges(codes: Iterable[int]) -> str:
    """The body of a character class with these code points, which ascend."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


@cache
def _by_category() -> dict[str, list[int]]:
    """The code points below U+20000 of each Unicode category: looked at once, as every search waits for it."""
    found: dict[str, list[int]] = {}
    for code, category in enumerate(map(unicodedata.category, map(chr, range(_ALL_HAN)))):
        found.setdefault(category, []).append(code)
    return found


def _codes_of(*categories: str) -> list[int]:
    return sorted(code for category in categories for code in _by_category()[category])


@cache
def of_categories(*categories: str) -> str:
    """The body of a character class with every character of these Unicode categories."""
    return _ranges(_codes_of(*categories))


@cache
def unspaced_letter() -> str:
    """A pattern for one character of a script without spaces, with the marks that hang on it."""
    codes = (code for first, last in _UNSPACED[:-1] for code in range(first, last + 1))
    letters = _ranges(code for code in codes if chr(code).isalnum())
    return rf"[{letters}\U00020000-\U000323af][{of_categories(*_MARKS)}]*"


@cache
def spaced_word() -> str:
    """A pattern for a run of letters, digits, marks and "_" of all other scripts.

    Trap: \\w lacks the combining marks that vowels are written with in Devanagari, Hebrew, Arabic and many more.
    """
    table = "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSPACED)
    marks = _ranges(code for code in _codes_of(*_MARKS) if not is_unspaced(chr(code)))
    return rf"[^\W{table}]+(?:[{marks}]+[^\W{table}]*)*"


@cache
def token() -> re.Pattern[str]:
    """A word, a character of a script without spaces, or a sign."""
    return re.compile(rf"{unspaced_letter()}|{spaced_word()}|[^\w\s]")


@cache
def word() -> re.Pattern[str]:
    """A word, or a character of a script without spaces."""
    return re.compile(rf"{unspaced_letter()}|{spaced_word()}")
