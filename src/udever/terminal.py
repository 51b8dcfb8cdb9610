"""What others say on a terminal: shown, never obeyed; or not said."""

import atexit
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

# Control characters but tab and line feed; marks that turn the direction of what follows, and those that separate lines
# or have no shape at all; surrogates that stand for bytes of a file name. Joiners (U+200C, U+200D) spell words.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str, *, one_line: bool = False) -> str:
    r"""`text` with everything a terminal would obey, or the eye not see, written as `\u001b`.

    Inside a string of JSON the value stays the same. Tabs and line ends stay too, unless it is to be `one_line`.
    """
    escaped = _OBEYED.sub(lambda match: _spell(match[0]), text)
    return escaped.replace("\n", "\\n") if one_line else escaped


def _spell(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def quiet_transformers() -> None:
    """transformers' own bars and notices would come between ours. Says so before it is imported, and imports nothing.

    What the environment says already stays.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:
        logging = sys.modules["transformers"].utils.logging
        logging.disable_progress_bar()
        logging.set_verbosity_error()


@contextmanager
def silent_transformers() -> Iterator[None]:
    """transformers' bar and report on loaded weights are not shown meanwhile: the caller checks what they tell."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def quiet_mteb() -> None:
    """mteb's, datasets' and transformers' own bars would come between ours; read when they are first imported.

    So is where mteb keeps results, a folder that it makes and that nothing here reads: where the user's cache cannot be
    written it is a temporary one.
    """
    if "MTEB_CACHE" not in os.environ and not _has_cache():
        os.environ["MTEB_CACHE"] = mkdtemp(prefix="mteb-")
        atexit.register(shutil.rmtree, os.environ["MTEB_CACHE"], ignore_errors=True)
    for variable in ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _has_cache() -> bool:
    """Whether the user has a home folder, and may write where caches lie in it."""
    try:
        cache = Path.home() / ".cache" / "mteb"
    except RuntimeError:
        return False
    return os.access(next(path for path in (cache, *cache.parents) if path.exists()), os.W_OK)
