"""Language codes of gettext catalogues (`de`, `pt_BR`, `zh_CN`) as mteb writes them (`deu-Latn`)."""

import re
from collections.abc import Iterable

from udever.errors import RecipeError
from udever.nearest import nearest

_NAMES = {
    "af": "afr-Latn", "am": "amh-Ethi", "ar": "ara-Arab", "as": "asm-Beng", "ast": "ast-Latn",
    "az": "aze-Latn", "be": "bel-Cyrl", "bg": "bul-Cyrl", "bn": "ben-Beng", "br": "bre-Latn",
    "bs": "bos-Latn", "ca": "cat-Latn", "ckb": "ckb-Arab", "cs": "ces-Latn", "cy": "cym-Latn",
    "da": "dan-Latn", "de": "deu-Latn", "el": "ell-Grek", "en": "eng-Latn", "eo": "epo-Latn",
    "es": "spa-Latn", "et": "est-Latn", "eu": "eus-Latn", "fa": "fas-Arab", "fi": "fin-Latn",
    "fil": "fil-Latn", "fr": "fra-Latn", "fy": "fry-Latn", "ga": "gle-Latn", "gd": "gla-Latn",
    "gl": "glg-Latn", "gu": "guj-Gujr", "ha": "hau-Latn", "he": "heb-Hebr", "hi": "hin-Deva",
    "hr": "hrv-Latn", "hu": "hun-Latn", "hy": "hye-Armn", "ia": "ina-Latn", "id": "ind-Latn",
    "ig": "ibo-Latn", "is": "isl-Latn", "it": "ita-Latn", "ja": "jpn-Jpan", "ka": "kat-Geor",
    "kk": "kaz-Cyrl", "km": "khm-Khmr", "kn": "kan-Knda", "ko": "kor-Hang", "ku": "kur-Latn",
    "ky": "kir-Cyrl", "lb": "ltz-Latn", "lo": "lao-Laoo", "lt": "lit-Latn", "lv": "lav-Latn",
    "mg": "mlg-Latn", "mi": "mri-Latn", "mk": "mkd-Cyrl", "ml": "mal-Mlym", "mn": "mon-Cyrl",
    "mr": "mar-Deva", "ms": "msa-Latn", "mt": "mlt-Latn", "my": "mya-Mymr", "nb": "nob-Latn",
    "ne": "nep-Deva", "nl": "nld-Latn", "nn": "nno-Latn", "no": "nor-Latn", "oc": "oci-Latn",
    "or": "ori-Orya", "pa": "pan-Guru", "pl": "pol-Latn", "ps": "pus-Arab", "pt": "por-Latn",
    "ro": "ron-Latn", "ru": "rus-Cyrl", "rw": "kin-Latn", "si": "sin-Sinh", "sk": "slk-Latn",
    "sl": "slv-Latn", "so": "som-Latn", "sq": "sqi-Latn", "sr": "srp-Cyrl", "sv": "swe-Latn",
    "sw": "swa-Latn", "ta": "tam-Taml", "te": "tel-Telu", "tg": "tgk-Cyrl", "th": "tha-Thai",
    "tk": "tuk-Latn", "tl": "tgl-Latn", "tr": "tur-Latn", "tt": "tat-Cyrl", "ug": "uig-Arab",
    "uk": "ukr-Cyrl", "ur": "urd-Arab", "uz": "uzb-Latn", "vi": "vie-Latn", "xh": "xho-Latn",
    "yo": "yor-Latn", "zh": "zho-Hans", "zu": "zul-Latn",
}  # fmt: skip
_REGION_SCRIPTS = {("zh", "tw"): "Hant", ("zh", "hk"): "Hant", ("zh", "mo"): "Hant", ("pa", "pk"): "Arab"}
_MODIFIER_SCRIPTS = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva", "arabic": "Arab"}
_FULL = re.compile(r"[a-z]{3}-[A-Z][a-z]{3}|\w+-Code")
_CODE = re.compile(r"(?P<base>[A-Za-z]{2,3})(?P<rest>(?:[_-][A-Za-z0-9]+)*)(?:\.[\w-]+)?(?:@(?P<modifier>\w+))?")


def known(code: str) -> bool:
    """Say whether `code` is a language code that `mteb_language` translates."""
    match = _CODE.fullmatch(code)
    return match is not None and match["base"].lower() in _NAMES


def mteb_language(code: str) -> str:
    """Return `code` as ISO 639-3 and ISO 15924 (`de_AT` -> `deu-Latn`); an unknown code as it was written.

    A script in the code (`sr_Latn`, `zh-Hant-TW`) or a modifier (`sr@latin`) wins over the language's own;
    other regions are left out.
    """
    match = _CODE.fullmatch(code)
    if match is None or match["base"].lower() not in _NAMES:
        return code
    base = match["base"].lower()
    name, script = _NAMES[base].split("-")
    for part in match["rest"].replace("-", "_").split("_"):
        if len(part) == 4 and part.isalpha():
            return f"{name}-{part.title()}"
        script = _REGION_SCRIPTS.get((base, part.lower()), script)
    return f"{name}-{_MODIFIER_SCRIPTS.get((match['modifier'] or '').lower(), script)}"


def near_language(name: str, languages: Iterable[str]) -> str | None:
    """The language that `name` was likely meant to be, told by what stands before the script."""
    heads = {language.partition("-")[0]: language for language in languages}
    near = nearest(name.partition("-")[0], heads)
    return None if near is None else heads[near]


def named_language(name: str) -> str:
    """A language as a person names it, as mteb writes it: `de` -> `deu-Latn`, `deu-Latn` as it is.

    Raises RecipeError for what is neither, naming the nearest.
    """
    if _FULL.fullmatch(name):
        return name
    if known(name):
        return mteb_language(name)
    near = near_language(name, _NAMES.values())
    hint = "expected one as mteb writes it, such as deu-Latn" if near is None else f"did you mean {near!r}?"
    raise RecipeError(f"language is {name!r}; {hint}")
