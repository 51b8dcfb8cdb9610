"""How well a backbone knows each language: its share of the pre-training data, or bits that a text in it takes."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from udever.errors import DataError
from udever.files import not_utf8
from udever.nearest import path_suggestion

_ROOTS_BYTES = {
    "aka": 701_554, "arb": 74_854_900_600, "asm": 291_522_098, "bam": 391_747, "ben": 18_606_823_104,
    "cat": 17_792_493_289, "eng": 484_953_009_124, "eus": 2_360_470_848, "fon": 2_478_546, "fra": 208_242_620_434,
    "guj": 1_199_986_460, "hin": 24_622_119_985, "ibo": 14_078_521, "ind": 19_972_325_222, "kan": 2_098_453_560,
    "kik": 359_615, "kin": 40_428_299, "lin": 1_650_804, "lug": 4_568_367, "mal": 3_662_571_498,
    "mar": 1_775_483_122, "npi": 2_551_307_393, "nso": 1_764_506, "nya": 1_187_405, "ory": 1_157_100_133,
    "pan": 1_572_109_752, "por": 79_277_543_375, "run": 3_272_550, "sna": 6_638_639, "sot": 751_034,
    "spa": 175_098_365_045, "swh": 236_482_543, "tam": 7_989_206_220, "tel": 2_993_407_159, "tsn": 1_502_200,
    "tso": 707_634, "tum": 170_360, "twi": 1_265_041, "urd": 2_781_329_959, "vie": 43_709_279_959,
    "wol": 3_606_973, "xho": 14_304_074, "yor": 89_695_835, "zul": 8_511_561,
    "zho-Hans": 261_019_433_892, "zho-Hant": 762_489_150,
}  # fmt: skip
"""Bytes of each language in ROOTS, the corpus BLOOM was trained on: arXiv 2303.03915, table of languages."""

_ROOTS_CODE_BYTES = 174_700_245_772
_SAME = {"ara": "arb", "cmn": "zho", "nep": "npi", "ori": "ory", "swa": "swh"}
"""Other codes in use for languages of the table."""


@dataclass(frozen=True)
class LanguageShares:
    """Percent of the pre-training data by language; with `bits` the bits that it takes for the same text instead.

    With `complete` a natural language that is not listed has a share of 0; otherwise its share is not known.
    """

    percent: Mapping[str, float]
    source: str
    complete: bool = False
    bits: bool = False

    @property
    def label(self) -> str:
        """What the axis of these numbers is called."""
        return "bits for the same text, before finetuning" if self.bits else "share in pre-training"

    @property
    def column(self) -> str:
        """What a table calls them."""
        return "bits_per_text" if self.bits else "share_percent"

    def said(self, value: float) -> str:
        """One of them in words."""
        return f"{value:.3g} bits a text" if self.bits else f"{value:.3g} %"

    def place(self, value: float) -> float:
        """Where it is on the axis: in powers of ten of a share, bits as they are."""
        return value if self.bits else math.log10(value)

    def of(self, language: str) -> float | None:
        """The share of `language` (`eng-Latn`) in percent, or None where it is not known.

        A row with the script is taken before one without; programming languages have only the share given to them.
        """
        code, _, script = language.partition("-")
        code = _SAME.get(code, code)
        for name in (language, f"{code}-{script}", language.partition("-")[0], code):
            if name in self.percent:
                return self.percent[name]
        return 0.0 if self.complete and script != "Code" else None


@cache
def bloom_shares() -> LanguageShares:
    """The shares of ROOTS by bytes; code is a tenth of it, not listed by programming language."""
    total = sum(_ROOTS_BYTES.values()) + _ROOTS_CODE_BYTES
    percent = {language: 100 * size / total for language, size in _ROOTS_BYTES.items()}
    return LanguageShares(percent, "BLOOM's corpus ROOTS by bytes (arXiv 2303.03915)", complete=True)


def read_shares(path: str | Path) -> LanguageShares:
    """Read a CSV with the columns `language` and `percent`, or `bits_per_text` as `udever bits` writes it.

    Raises DataError naming the row that is wrong. Give 0 for a language that the backbone has not seen: one that is
    not listed counts as not known.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is {not_utf8(error)}") from error
    except (OSError, csv.Error) as error:
        hint = path_suggestion(path, "give columns language,percent")
        raise DataError(f"{path} cannot be read as CSV: {error}; {hint}") from error
    bits = bool(rows) and "bits_per_text" in rows[0]
    column, least, most = ("bits_per_text", 1e-6, 1e6) if bits else ("percent", 0, 100)
    if not rows or not {"language", column} <= rows[0].keys():
        raise DataError(
            f"{path} has no rows with columns language,percent; give one language a row, such as eng-Latn,30"
        )
    percent: dict[str, float] = {}
    for number, row in enumerate(rows, start=2):
        language, value = (row["language"] or "").strip(), _number(row[column])
        if not language or value is None or not least <= value <= most:
            expected = f"expected a language and {least:g} to {most:g}"
            raise DataError(f"{path} line {number}: {row['language']!r}, {row[column]!r}; {expected}")
        if language in percent:
            raise DataError(f"{path} line {number}: {language} is there twice; keep one row")
        percent[language] = value
    if not bits and sum(percent.values()) > 101:
        raise DataError(f"{path}: the percentages add up to {sum(percent.values()):.1f}; expected at most 100")
    return LanguageShares(percent, path.name, bits=bits)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
