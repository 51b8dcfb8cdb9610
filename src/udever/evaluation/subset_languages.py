"""From the name of a subset to its languages: "de" and "deu-eng" beside the list of the task's languages."""

from collections.abc import Sequence

from udever.source import languages as catalogues

_WITHOUT_CATALOGUES = {"jv": "jav", "la": "lat"}
"""Two letters that no gettext catalogue is told by."""
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
        code = _WITHOUT_CATALOGUES.get(part) or catalogues.mteb_language(part).partition("-")[0]
        language = by_code.get(code) or by_code.get(_ALSO.get(code, ""))
        if language is not None and language not in found:
            found.append(language)
    return tuple(found) or tuple(languages)
