"""From the name of a subset to its languages: "de" and "deu-eng" beside the list of the task's languages."""

from collections.abc import Sequence

_TWO_LETTERS: dict[str, str] = {
    "af": "afr", "am": "amh", "ar": "ara", "az": "aze", "be": "bel", "bg": "bul", "bn": "ben", "bs": "bos",
    "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu", "el": "ell", "en": "eng", "eo": "epo",
    "es": "spa", "et": "est", "eu": "eus", "fa": "fas", "fi": "fin", "fr": "fra", "ga": "gle", "gl": "glg",
    "gu": "guj", "ha": "hau", "he": "heb", "hi": "hin", "hr": "hrv", "hu": "hun", "hy": "hye", "id": "ind",
    "ig": "ibo", "is": "isl", "it": "ita", "ja": "jpn", "jv": "jav", "ka": "kat", "kk": "kaz", "km": "khm",
    "kn": "kan", "ko": "kor", "la": "lat", "lo": "lao", "lt": "lit", "lv": "lav", "mk": "mkd", "ml": "mal",
    "mn": "mon", "mr": "mar", "ms": "msa", "my": "mya", "nb": "nob", "ne": "nep", "nl": "nld", "nn": "nno",
    "no": "nor", "pa": "pan", "pl": "pol", "pt": "por", "ro": "ron", "ru": "rus", "si": "sin", "sk": "slk",
    "sl": "slv", "so": "som", "sq": "sqi", "sr": "srp", "sv": "swe", "sw": "swa", "ta": "tam", "te": "tel",
    "th": "tha", "tl": "tgl", "tr": "tur", "uk": "ukr", "ur": "urd", "uz": "uzb", "vi": "vie", "xh": "xho",
    "yo": "yor", "zh": "zho", "zu": "zul",
}  # fmt: skip
_ALSO = {"ara": "arb", "zho": "cmn", "swa": "swh", "msa": "zsm", "fas": "pes", "lav": "lvs", "est": "ekk"}
_PROGRAMMING = frozenset(
    ("c", "c#", "c++", "cpp", "csharp", "go", "java", "javascript", "kotlin", "perl", "php", "python", "r", "ruby",
     "rust", "scala", "shell", "sql", "swift", "typescript")
)  # fmt: skip


def mteb_language(language: str) -> str:
    """A language as mteb writes it: "eng-Latn" stays, "python" becomes "python-Code"."""
    return f"{language.lower()}-Code" if language.lower() in _PROGRAMMING else language


def languages_of(subset: str, languages: Sequence[str]) -> tuple[str, ...]:
    """Those of `languages` that the parts of a subset's name stand for; all of them where none is named."""
    by_code: dict[str, str] = {}
    for language in languages:
        by_code.setdefault(language.split("-")[0], language)
    found: list[str] = []
    for part in subset.replace("_", "-").split("-"):
        code = _TWO_LETTERS.get(part, part)
        language = by_code.get(code) or by_code.get(_ALSO.get(code, ""))
        if language is not None and language not in found:
            found.append(language)
    return tuple(found) or tuple(languages)
