"""gettext catalogues: a message -> its translation, both ways."""

import re
import struct
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import polib

from udever.data.pairs import Pair
from udever.source.languages import known, mteb_language
from udever.source.text import one_line

SOURCE_LANGUAGE = "eng-Latn"
MIN_WORDS = 2


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


def _translation(entry: polib.POEntry | polib.MOEntry) -> str:
    # Of plural forms the first: how many there are differs from language to language.
    return entry.msgstr_plural.get(0, "") if entry.msgid_plural else entry.msgstr


def _reason(entry: polib.POEntry | polib.MOEntry) -> str | None:
    translation = _translation(entry)
    if entry.obsolete:
        return "obsolete message"
    if "fuzzy" in getattr(entry, "flags", ()):
        return "fuzzy translation"
    if not translation.strip():
        return "untranslated message"
    if one_line(translation) == one_line(entry.msgid):
        return "translation equal to the message"
    if len(entry.msgid.split()) < MIN_WORDS:
        return f"message under {MIN_WORDS} words"
    return None


def translation_pairs(path: Path, source: str, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield a symmetric pair for every message of a .po or .mo file that is translated for sure.

    The messages are taken to be English. Translations of one message share a `group`.
    """
    catalogue = _open(path)
    if catalogue is None:
        skipped["file: catalogue that cannot be read"] += 1
        return
    language = language_of(catalogue.metadata.get("Language", ""), path)
    if language == SOURCE_LANGUAGE:
        skipped["file: catalogue in the source language"] += 1
        return
    for entry in catalogue:
        reason = _reason(entry)
        if reason is not None:
            skipped[f"row: {reason}"] += 1
            continue
        yield Pair(
            entry.msgid.strip(),
            _translation(entry).strip(),
            anchor_language=SOURCE_LANGUAGE,
            positive_language=language,
            kind="symmetric",
            group=message_group(entry.msgid),
            source=source,
        )
