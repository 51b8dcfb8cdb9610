"""gettext catalogues: a message -> its translation, both ways."""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from gettext import c2py  # as gettext itself reads the C expression: bounded, and nothing but arithmetic
from hashlib import blake2b
from pathlib import Path

import polib

from udever.pairs.schema import Pair
from udever.source.languages import known, mteb_language
from udever.source.text import one_line

SOURCE_LANGUAGE = "eng-Latn"
MIN_WORDS = 2
_PLURAL = re.compile(r"\s*nplurals\s*=\s*(?P<forms>[1-9])\s*;\s*plural\s*=\s*(?P<form>[^;]+?)\s*;?\s*")


def message_group(message: str) -> str:
    """Return the group that all translations of `message` share."""
    return "message:" + blake2b(one_line(message).lower().encode(), digest_size=8).hexdigest()


def language_of(header: str, path: Path) -> str | None:
    """Return the language of a catalogue as mteb writes it; None where nothing names it.

    Its `Language` header decides, else its path: `de.po`, `messages.de.po`, `locale/de/LC_MESSAGES/x.po`.
    """
    if header.strip():
        return mteb_language(header.strip())
    folders = [part for part in path.parts[:-1] if part not in ("LC_MESSAGES", "po")]
    candidates = [path.stem, *re.split(r"[.-]", path.stem)[:0:-1], *folders[:-3:-1]]
    return next((mteb_language(code) for code in candidates if known(code)), None)


def _open(path: Path) -> polib.POFile | polib.MOFile | None:
    try:
        return polib.mofile(str(path)) if path.suffix.lower() == ".mo" else polib.pofile(str(path))
    except (OSError, ValueError, LookupError, struct.error, MemoryError, OverflowError):
        return None


def plural_forms(header: str) -> tuple[int, int | None] | None:
    """Which forms a catalogue with this `Plural-Forms` header uses for one and for many; None where it says nothing.

    Many: the form that most numbers to 100 take, but that of one; None in a language without such a form.
    """
    found = _PLURAL.fullmatch(header)
    if found is None:
        return None
    try:
        form_of = c2py(found["form"])
        forms = [form_of(number) for number in range(1, 101)]
    except (ValueError, ArithmeticError, RecursionError):
        return None
    if not all(0 <= form < int(found["forms"]) for form in forms):
        return None
    others = Counter(form for form in forms if form != forms[0])
    return forms[0], max(others, key=lambda form: (others[form], form)) if others else None


def _messages(entry: polib.POEntry | polib.MOEntry, forms: tuple[int, int | None] | None) -> list[tuple[str, str]]:
    """Each message of `entry` with its translation: one, or of plural forms that of one and that of many."""
    if not entry.msgid_plural:
        return [(entry.msgid, entry.msgstr)]
    assert forms is not None
    one, many = forms
    found = [(entry.msgid, entry.msgstr_plural.get(one, ""))]
    return found if many is None else [*found, (entry.msgid_plural, entry.msgstr_plural.get(many, ""))]


def _entry_reason(entry: polib.POEntry | polib.MOEntry, forms: tuple[int, int | None] | None) -> str | None:
    if entry.obsolete:
        return "obsolete message"
    if "fuzzy" in getattr(entry, "flags", ()):
        return "fuzzy translation"
    return "plural forms that the catalogue does not describe" if entry.msgid_plural and forms is None else None


def _reason(message: str, translation: str) -> str | None:
    if not translation.strip():
        return "untranslated message"
    if one_line(translation) == one_line(message):
        return "translation equal to the message"
    if len(message.split()) < MIN_WORDS:
        return f"message under {MIN_WORDS} words"
    return None


def translation_pairs(path: Path, source: str, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a symmetric pair for every message of a .po or .mo file that is translated for sure.

    The messages are taken to be English. Translations of one message share a `group`, those of its plural too, which
    is paired with the form for many.
    """
    catalogue = _open(path)
    if catalogue is None:
        skipped["file: catalogue that cannot be read"] += 1
        return
    language = language_of(catalogue.metadata.get("Language", ""), path)
    if language == SOURCE_LANGUAGE:
        skipped["file: catalogue in the source language"] += 1
        return
    forms = plural_forms(catalogue.metadata.get("Plural-Forms", ""))
    for entry in catalogue:
        reason = _entry_reason(entry, forms)
        if reason is not None:
            skipped[f"row: {reason}"] += 1
            continue
        for message, translation in _messages(entry, forms):
            reason = _reason(message, translation)
            if reason is not None:
                skipped[f"row: {reason}"] += 1
                continue
            yield Pair(
                message.strip(),
                translation.strip(),
                anchor_language=SOURCE_LANGUAGE,
                positive_language=language,
                kind="symmetric",
                group=message_group(entry.msgid),
                source=source,
            )
