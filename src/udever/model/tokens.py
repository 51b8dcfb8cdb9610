"""From text to token ids: special tokens are ids, never text, and the closing token survives every cut."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from udever.errors import ModelError, TextError
from udever.model.contract import Contract, RoleName


@dataclass(frozen=True)
class Truncation:
    """What was cut, item by item, in input order.

    `num_tokens[i]` counts text i whole, markers included; `truncated[i]` says whether it was cut.
    """

    num_tokens: np.ndarray
    truncated: np.ndarray


@dataclass(frozen=True)
class Tokenized:
    """`ids[i]` are text i's tokens as the backbone sees them; the first `skip` are not pooled."""

    ids: list[list[int]]
    truncation: Truncation
    skip: int = 0


class TextTokenizer:
    """A tokenizer that adds nothing by itself and cannot be talked into a special token.

    The base tokenizer's special tokens and the contract's markers are taken out of its parsing, so that
    their names inside a text are tokenised as the characters they are.
    """

    def __init__(self, hf_tokenizer: Any, contract: Contract) -> None:
        self.hf = hf_tokenizer
        self.contract = contract
        self._backend, self._special = _plain_backend(hf_tokenizer, contract.marker_ids)

    def encode(self, texts: Sequence[str], role_name: RoleName, prompt: str | None = None) -> Tokenized:
        """Token ids of every text in its role; `prompt` replaces the role's own.

        Raises TextError, naming the row, for an item that is not a string or holds a lone surrogate.
        """
        role = self.contract.role(role_name)
        lead, tail = self._split_prompt(role.prompt if prompt is None else prompt)
        prefix, suffix = [*role.prefix_ids, *lead], list(role.suffix_ids)
        room = self.contract.max_length - len(prefix) - len(suffix)
        ahead = len(self._bodies([tail])[0]) if tail else 0
        if room <= ahead:
            raise TextError(
                f"the prompt takes {len(lead) + ahead} tokens and max_length is {self.contract.max_length}; "
                f"shorten the prompt"
            )
        bodies = self._bodies([tail + check_text(text, row) for row, text in enumerate(texts)])
        fixed = len(prefix) + len(suffix)
        lengths = np.array([len(body) + fixed for body in bodies], dtype=np.int64)
        truncation = Truncation(lengths, lengths > self.contract.max_length)
        ids = [[*prefix, *body[:room], *suffix] or [self._stand_in()] for body in bodies]
        return Tokenized(ids, truncation, 0 if self.contract.pool_prompt else len(prefix) + ahead)

    def _bodies(self, texts: list[str]) -> list[list[int]]:
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._spell(encoding.ids) for encoding in encodings]

    def _spell(self, ids: list[int]) -> list[int]:
        """Replace a special token that the vocabulary itself spells (Unigram pieces) by its characters."""
        if self._special.keys().isdisjoint(ids):
            return ids
        spelled: list[int] = []
        for token in ids:
            if token in self._special:
                letters = self._backend.encode_batch_fast(list(self._special[token]), add_special_tokens=False)
                plain = [i for letter in letters for i in letter.ids if i not in self._special]
                spelled += plain or [token]  # SGPT's brackets are ordinary tokens: there is no other spelling
            else:
                spelled.append(token)
        return spelled

    def _split_prompt(self, prompt: str) -> tuple[list[int], str]:
        """The prompt up to its last special token as ids, and the rest, to be tokenised with the text.

        A prompt comes from the model or the caller, so its special tokens are meant.
        """
        names = [name for name in self._special.values() if name and name in prompt]
        if not names:
            return [], prompt
        cut = max(prompt.rfind(name) + len(name) for name in names)
        return self.hf.encode(prompt[:cut], add_special_tokens=False), prompt[cut:]

    def _stand_in(self) -> int:
        """The one token of an empty text for a model that adds no token of its own."""
        candidates = (
            self.hf.eos_token_id,
            self.hf.bos_token_id,
            self.hf.pad_token_id,
            self.hf.unk_token_id,
            0,
        )
        return next(token for token in candidates if token is not None)


def check_text(text: object, row: int) -> str:
    """`text` if it can be encoded as UTF-8; raise TextError naming `row` otherwise."""
    if not isinstance(text, str):
        raise TextError(f"row {row} is {type(text).__name__}, not a text; drop the row or give a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise TextError(
            f"row {row} holds a lone surrogate (U+{code:04X} at character {error.start}), which is no text; "
            f"decode the input as UTF-8 or drop the row"
        ) from None
    return text


def load_hf_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """transformers' tokenizer of a folder. Raises ModelError where there is none backed by `tokenizers`."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises a dozen kinds for a broken file
        reason = (str(error).strip().splitlines() or ["unknown"])[0]
        raise ModelError(f"{folder} has no usable tokenizer: {reason}") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ModelError(f"{folder}: the tokenizer has no tokenizer.json form, which is needed; convert it first")
    return tokenizer


def template_ids(hf_tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids the tokenizer itself puts before and after a text."""
    plain = hf_tokenizer.encode("a", add_special_tokens=False)
    whole = hf_tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    return (), ()


def _plain_backend(hf_tokenizer: Any, marker_ids: frozenset[int]) -> tuple[Tokenizer, dict[int, str]]:
    """The tokenizer without post-processing, truncation, padding and special tokens; and those tokens."""
    state = json.loads(hf_tokenizer.backend_tokenizer.to_str())
    state.update(post_processor=None, truncation=None, padding=None)
    removed = [t for t in state["added_tokens"] if t["special"] or t["id"] in marker_ids]
    state["added_tokens"] = [t for t in state["added_tokens"] if t not in removed]
    special = {token["id"]: token["content"] for token in removed}
    special.update({i: hf_tokenizer.convert_ids_to_tokens(i) or "" for i in marker_ids if i not in special})
    special.pop(hf_tokenizer.unk_token_id, None)  # what the vocabulary lacks is unknown, and that is no forgery
    return Tokenizer.from_str(json.dumps(state)), special
