"""What the steps share: where things are, licence classes, and the rules by which texts are compared and split."""

import os
import re
import unicodedata
from hashlib import blake2b
from pathlib import Path

DATA = Path(os.environ.get("UDEVER_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
"""Corpora, pairs and evaluation sets (Parquet); set UDEVER_DATA."""

WORK = Path(os.environ.get("SEEDLING_WORK", Path("runs") / "seedling"))
"""Where every step writes; set SEEDLING_WORK. Nothing in it belongs into the repository."""

PERMISSIVE = frozenset(
    {
        "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0",
        "PSF-2.0", "CC0-1.0 AND PSF-2.0", "WordNet-3.0", "Unicode-3.0", "MIT OR Apache-2.0", "ISC", "HPND", "curl",
        "Zlib", "BSL-1.0", "blessing",
    }
)  # fmt: skip
SHARE_ALIKE = frozenset({"CC-BY-SA-3.0", "CC-BY-SA-4.0", "Apache-2.0 AND CC-BY-SA-4.0"})
SHIPS = PERMISSIVE | SHARE_ALIKE
"""Licences of the rows that what ships is trained on."""

LANGUAGES = frozenset({
    "af", "ar", "az", "be", "bg", "bn", "bs", "ca", "cs", "da", "de", "el", "en", "eo", "es", "et", "eu",
    "fa", "fi", "fr", "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "km",
    "kn", "ko", "lo", "lt", "lv", "mk", "ml", "mr", "ms", "my", "nb", "ne", "nl", "no", "pa", "pl", "pt",
    "ro", "ru", "sk", "sl", "sq", "sr", "sr-latn", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "uz",
    "vi", "zh", "zh-tw",
})  # fmt: skip
"""What the seedling is trained on, beside code; other languages of the sources are left out."""

CODE = frozenset({"python", "java", "javascript", "typescript", "go", "php", "ruby", "rust", "c++", "shell"})

DEVELOPMENT_SHARE = 0.01
_SPACES = re.compile(r"\s+")


def plain(text: str) -> str:
    """`text` as it is compared: NFKC, lower case, single spaces."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().lower()


def position(key: str) -> float:
    """Where `key` falls in [0, 1), evenly, the same for ever."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def is_development(key: str) -> bool:
    """Whether the rows of this key (an English text, a file) are kept for development."""
    return position("development\0" + key) < DEVELOPMENT_SHARE
