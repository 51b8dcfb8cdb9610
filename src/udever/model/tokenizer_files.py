"""From the files of a tokenizer to one in memory: transformers' own, or, where its files say all, one without it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from udever.errors import ModelError, first_line

_NO_FAMILY = {"PreTrainedTokenizerFast", "TokenizersBackend"}
"""Classes of tokenizers that complete nothing: what their files leave out is not there."""
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
LOADED_FROM = ("is_local", "local_files_only")
"""What transformers writes of where a tokenizer came from."""
_SAID = {*_NAMED, *LOADED_FROM, "backend", "model_max_length", "padding_side", "tokenizer_class"}
"""Settings that change nothing in tokenizer.json."""


class PlainTokenizer:
    """A tokenizer of no family: tokenizer.json and the names of its special tokens, without importing transformers.

    It answers by transformers' names what turning text into ids asks; `whole` is transformers' own of the same.
    """

    def __init__(self, backend: Tokenizer, settings: Mapping[str, Any]) -> None:
        backend.no_truncation()
        backend.no_padding()
        self.backend_tokenizer = backend
        self._settings = settings

    def whole(self) -> Any:
        """transformers' tokenizer of the same files."""
        from transformers import TokenizersBackend

        settings = {
            name: value for name, value in self._settings.items() if name not in {"tokenizer_class", *LOADED_FROM}
        }
        return TokenizersBackend(tokenizer_object=self.backend_tokenizer, **settings)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Tokens beside the vocabulary, by id."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the named special tokens."""
        return [token for token in map(self._named, _NAMED) if token is not None]

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text; None where none is named, as of all that follow."""
        return self._named("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text."""
        return self._named("eos_token")

    @property
    def pad_token_id(self) -> int | None:
        """The token that stands where there is no text."""
        return self._named("pad_token")

    @property
    def unk_token_id(self) -> int | None:
        """The token that stands for what the vocabulary lacks."""
        return self._named("unk_token")

    def convert_ids_to_tokens(self, token: int) -> str | None:
        """A token's name."""
        return self.backend_tokenizer.id_to_token(token)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a text in which special tokens are meant."""
        return self.backend_tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def _named(self, name: str) -> int | None:
        token = self._settings.get(name)
        return None if token is None else self.backend_tokenizer.token_to_id(token)


def load_plain_tokenizer(folder: Path) -> PlainTokenizer | None:
    """The tokenizer of a folder that needs no transformers; None where only transformers can say what it is.

    It adds nothing around a text that transformers would not: its template is for a contract to say.
    """
    paths = [folder / name for name in ("tokenizer.json", "tokenizer_config.json")]
    if not all(path.is_file() for path in paths) or (folder / "special_tokens_map.json").is_file():
        return None
    try:
        settings = json.loads(paths[1].read_text(encoding="utf-8"))
        if not isinstance(settings, dict) or not settings.keys() <= _SAID:
            return None
        named = [settings[name] for name in _NAMED if settings.get(name) is not None]
        if settings.get("tokenizer_class") not in _NO_FAMILY or not all(isinstance(name, str) for name in named):
            return None
        backend = Tokenizer.from_file(str(paths[0]))
    except Exception:  # transformers says what is wrong; `tokenizers` raises no narrower kind
        return None
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    return PlainTokenizer(backend, settings) if known.issuperset(named) else None


def load_hf_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """transformers' tokenizer of a folder. Raises ModelError where there is none backed by `tokenizers`.

    Where the folder holds a tokenizer.json and its settings name the special tokens, or a class of no family, that file
    is used as it is and parsed once; else transformers' class for the family completes what the files leave out.
    """
    from transformers import TokenizersBackend

    try:
        settings = _complete_settings(folder)
        if settings is None:
            from transformers import AutoTokenizer  # it knows every family, and takes its time for that

            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=trust_remote_code, local_files_only=True
            )
        else:
            tokenizer = TokenizersBackend.from_pretrained(folder, local_files_only=True, **settings)
    except Exception as error:  # transformers raises a dozen kinds for a broken file
        raise ModelError(f"{folder} has no usable tokenizer: {first_line(error)}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(f"{folder}: the tokenizer has no tokenizer.json form, which is needed; convert it first")
    return tokenizer


def _complete_settings(folder: Path) -> dict[str, Any] | None:
    """What to tell transformers besides tokenizer_config.json; None where the folder's files are not all it takes."""
    paths = [folder / name for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")]
    if not (paths[0].is_file() and paths[1].is_file()):
        return None
    settings = json.loads(paths[1].read_text(encoding="utf-8"))
    extra: dict[str, Any] = {}
    if "added_tokens_decoder" not in settings:
        if paths[2].is_file():
            named = json.loads(paths[2].read_text(encoding="utf-8"))
            extra = {name: _special_token(value) for name, value in named.items()}
        extra["added_tokens_decoder"] = {}  # tokenizer.json says them all; transformers would parse it for them
    known = settings.keys() | extra.keys()
    is_whole = known >= {"bos_token", "eos_token", "unk_token"} or settings.get("tokenizer_class") in _NO_FAMILY
    return extra if is_whole and "auto_map" not in settings else None


def _special_token(value: Any) -> Any:
    if isinstance(value, list):
        return [_special_token(item) for item in value]
    if not isinstance(value, dict):
        return value
    settings: dict[str, Any] = {**value, "special": True}
    settings.pop("__type", None)
    return AddedToken(**settings)
