"""What the steps share: where things are, and the languages that are scored."""

import os
from pathlib import Path

DATA = Path(os.environ.get("UDEVER_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
"""Corpora, pairs and evaluation sets (Parquet); set UDEVER_DATA."""

WORK = Path(os.environ.get("REPLICATION_WORK", Path("runs") / "replication"))
"""Where every step writes; set REPLICATION_WORK. Nothing in it belongs into the repository."""

SEEDLING = Path(os.environ.get("SEEDLING_WORK", Path("runs") / "seedling"))
"""Where the seedling's steps wrote: its tokenizer and the functions it mined are used here."""

CLOSING = 1
"""`</s>` in that tokenizer."""

LANGUAGES = {
    "eng-Latn": ("en",), "arb-Arab": ("ar",), "cmn-Hans": ("zh", "zh-tw"), "fra-Latn": ("fr",), "spa-Latn": ("es",),
    "deu-Latn": ("de",), "por-Latn": ("pt",), "ita-Latn": ("it",), "nld-Latn": ("nl",), "pol-Latn": ("pl",),
    "rus-Cyrl": ("ru",), "ukr-Cyrl": ("uk",), "bul-Cyrl": ("bg",), "ell-Grek": ("el",), "tur-Latn": ("tr",),
    "heb-Hebr": ("he",), "pes-Arab": ("fa",), "hin-Deva": ("hi",), "ben-Beng": ("bn",), "tel-Telu": ("te",),
    "tha-Thai": ("th",), "vie-Latn": ("vi",), "ind-Latn": ("id",), "jpn-Jpan": ("ja",), "kor-Hang": ("ko",),
    "fin-Latn": ("fi",), "swh-Latn": ("sw",), "kat-Geor": ("ka",), "kaz-Cyrl": ("kk",), "afr-Latn": ("af",),
    "isl-Latn": (), "epo-Latn": (), "mkd-Cyrl": (), "sqi-Latn": (), "cym-Latn": (), "lat-Latn": (),
    "bel-Cyrl": (), "gle-Latn": (),
}  # fmt: skip
"""Languages that are scored and their files under corpora/; the last eight are in none of them."""

TATOEBA = {"arb-Arab": "ara"}
"""Where a Tatoeba file is called by another code than the language."""

TRAIN = {
    "eng-Latn": "en",
    "fra-Latn": "fr",
    "spa-Latn": "es",
    "cmn-Hans": "zh",
    "arb-Arab": "ar",
    "deu-Latn": "de",
}
"""Languages of the arms, and how the pairs call them."""

CODE = ("python", "javascript", "java", "go", "rust", "c++", "ruby", "php", "typescript")
"""Programming languages, most functions first."""


def language_of(code: str) -> str:
    """`de` -> `deu-Latn`, for a code of the data that is scored."""
    return next(language for language, codes in LANGUAGES.items() if code in codes)
