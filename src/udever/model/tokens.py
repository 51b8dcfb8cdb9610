"""From text to token ids: special tokens are ids, never text, and the closing token survives every cut."""

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from blake3 import blake3
from tokenizers import AddedToken, Tokenizer

from udever.errors import ModelError, TextError
from udever.model.contract import Contract, RoleName
from udever.model.tokenizer_files import PlainTokenizer

CHARS_PER_TOKEN = 64
"""More characters than this, a token, are cut before any work: only runs of one character reach it in a tokenizer."""


@dataclass(frozen=True)
class Truncation:
    """What was cut, item by item, in input order.

    `num_tokens[i]` counts text i whole, markers included; `truncated[i]` says whether it was cut. Of a text far too
    long only the beginning is tokenised and counted (`CHARS_PER_TOKEN`).
    """

    num_tokens: np.ndarray
    truncated: np.ndarray


@dataclass(frozen=True)
class Tokenized:
    """`ids[i]` are text i's tokens as the backbone sees them; the first `skip` are not pooled."""

    ids: list[list[int]]
    truncation: Truncation
    skip: int = 0


@dataclass(frozen=True)
class ExplainedToken:
    """One token as the backbone sees it and the characters it stands for; a marker's are its name."""

    id: int
    text: str
    part: Literal["marker", "prompt", "text"]


@dataclass(frozen=True)
class Explained:
    """A text as its tokens, in order; `cut` is the end of the text that had no room, empty where all had.

    `num_tokens` counts the text whole.
    """

    pieces: list[ExplainedToken]
    cut: str
    num_tokens: int


@dataclass(frozen=True)
class _Frame:
    """What surrounds a text: ids before it, prompt tokenised with it, ids after it, and the room between.

    The first `skip` tokens are not pooled.
    """

    prefix: list[int]
    tail: str
    tail_ids: list[int]
    suffix: list[int]
    room: int
    skip: int


class TextTokenizer:
    """A tokenizer that adds nothing by itself and cannot be talked into a special token.

    To it the base tokenizer's special tokens and the contract's markers are no tokens: their names inside a text are
    tokenised as the characters they are.
    """

    def __init__(self, base: Any, contract: Contract) -> None:
        self.base = base  # transformers', or a `PlainTokenizer`
        self.contract = contract
        self._roles = {name: contract.role(name) for name in get_args(RoleName)}
        added = base.backend_tokenizer.get_added_tokens_decoder()  # once: Gemma's 6,000 take a tenth of a second
        named = {i for i, token in added.items() if token.special}
        self._backend, self._special = _plain_backend(base, added, contract.marker_ids)
        self._reserved = named.union(base.all_special_ids) - {base.unk_token_id}

    @property
    def hf(self) -> Any:
        """transformers' tokenizer; where turning text into ids did without it, it is made when first asked for."""
        if isinstance(self.base, PlainTokenizer):
            self.base = self.base.whole()
        return self.base

    def encode(
        self, texts: Sequence[str], role_name: RoleName, prompt: str | None = None, max_length: int | None = None
    ) -> Tokenized:
        """Token ids of every text in its role; `prompt` and a smaller `max_length` replace the contract's own.

        Raises TextError, naming the row, for an item that is not a string or holds a lone surrogate.
        """
        frame = self._frame(role_name, prompt, max_length)
        bounded = [_bound_chars(check_text(text, row), frame.room) for row, text in enumerate(texts)]
        tokenized = self._framed(self._bodies([frame.tail + text for text, _ in bounded]), frame)
        tokenized.truncation.truncated[:] |= np.array([is_cut for _, is_cut in bounded], bool)
        return tokenized

    def encode_ids(
        self, sequences: Sequence[Sequence[int]], role_name: RoleName, prompt: str | None = None
    ) -> Tokenized:
        """The same for texts that come as this tokenizer's ids; prompt, markers and the cut are added here too.

        Raises TextError, naming the row, for a special token: markers are never part of a text.
        """
        frame = self._frame(role_name, prompt)
        for row, sequence in enumerate(sequences):
            forged = next((token for token in sequence if token in self._reserved), None)
            if forged is not None:
                name = self._special.get(forged) or self.base.convert_ids_to_tokens(forged)
                raise TextError(
                    f"row {row} holds the special token {forged} ({name}); give the text's own tokens "
                    f"(add_special_tokens=False), markers are added here"
                )
        return self._framed([[*frame.tail_ids, *sequence] for sequence in sequences], frame)

    def explain(self, text: str, role_name: RoleName, prompt: str | None = None) -> Explained:
        """What `encode` makes of one text, token by token."""
        frame = self._frame(role_name, prompt)
        kept_text, _ = _bound_chars(check_text(text, 0), frame.room)
        whole = frame.tail + kept_text
        encoding = self._backend.encode(whole, add_special_tokens=False)
        pieces: list[ExplainedToken] = []
        reached = 0
        cut_at = None
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            spelled = self._spell([token])
            shown = whole[max(start, reached) : end]  # tokens that share a character: the first one shows it
            part = "prompt" if start < len(frame.tail) else "text"
            for place, piece in enumerate(spelled):
                if len(pieces) == frame.room and cut_at is None:
                    cut_at = max(start, reached)
                pieces.append(ExplainedToken(piece, shown if place == 0 else "", part))
            reached = max(reached, end)
        role = self._roles[role_name]
        kept = [
            *(ExplainedToken(i, self._name(i), "marker") for i in role.prefix_ids),
            *(ExplainedToken(i, self._name(i), "prompt") for i in frame.prefix[len(role.prefix_ids) :]),
            *pieces[: frame.room],
            *(ExplainedToken(i, self._name(i), "prompt" if role.suffix_is_text else "marker") for i in frame.suffix),
        ]
        stand_in = self._stand_in()
        cut = ("" if cut_at is None else whole[max(cut_at, len(frame.tail)) :]) + text[len(kept_text) :]
        num_tokens = len(kept) + max(0, len(pieces) - frame.room)
        return Explained(kept or [ExplainedToken(stand_in, self._name(stand_in), "marker")], cut, num_tokens)

    def _name(self, token: int) -> str:
        return self._special.get(token) or str(self.base.convert_ids_to_tokens(token))

    def _frame(self, role_name: RoleName, prompt: str | None, max_length: int | None = None) -> _Frame:
        role = self._roles[role_name]
        lead, tail = self._split_prompt(role.prompt if prompt is None else prompt)
        prefix, suffix = [*role.prefix_ids, *lead], list(role.suffix_ids)
        most = min(self.contract.max_length, max_length or self.contract.max_length)
        room = most - len(prefix) - len(suffix)
        tail_ids = self._bodies([tail])[0] if tail else []
        if room <= len(tail_ids):
            raise TextError(
                f"the prompt takes {len(lead) + len(tail_ids)} tokens and max_length is {most}; shorten the prompt"
            )
        pools_all = self.contract.pool_prompt or not (lead or tail)  # markers alone are no prompt
        return _Frame(prefix, tail, tail_ids, suffix, room, 0 if pools_all else len(prefix) + len(tail_ids))

    def _framed(self, bodies: list[list[int]], frame: _Frame) -> Tokenized:
        fixed = len(frame.prefix) + len(frame.suffix)
        lengths = np.array([len(body) + fixed for body in bodies], dtype=np.int64)
        truncation = Truncation(lengths, lengths > frame.room + fixed)
        ids = [[*frame.prefix, *body[: frame.room], *frame.suffix] or [self._stand_in()] for body in bodies]
        return Tokenized(ids, truncation, frame.skip)

    def _bodies(self, texts: list[str]) -> list[list[int]]:
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._spell(encoding.ids) for encoding in encodings]

    def _spell(self, ids: list[int]) -> list[int]:
        """The tokenizer's own ids; a special token that the vocabulary itself spells (Unigram pieces) by characters."""
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
        return self.base.encode(prompt[:cut], add_special_tokens=False), prompt[cut:]

    def _stand_in(self) -> int:
        """The one token of an empty text for a model that adds no token of its own."""
        candidates = (
            self.base.eos_token_id,
            self.base.bos_token_id,
            self.base.pad_token_id,
            self.base.unk_token_id,
            0,
        )
        return next(token for token in candidates if token is not None)


def _bound_chars(text: str, max_tokens: int) -> tuple[str, bool]:
    """The beginning of `text` that `max_tokens` tokens can hold, and whether anything was cut."""
    most = max_tokens * CHARS_PER_TOKEN
    return (text, False) if len(text) <= most else (text[:most], True)


def check_text(text: object, row: int) -> str:
    """`text` if it can be encoded as UTF-8; raise TextError naming `row` otherwise."""
    if not isinstance(text, str):
        is_missing = isinstance(text, float) and math.isnan(text)  # as pandas has it
        what = "missing (nan)" if is_missing else type(text).__name__
        raise TextError(f"row {row} is {what}, not a text; drop the row or give a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise TextError(
            f"row {row} holds a lone surrogate (U+{code:04X} at character {error.start}), which is no text; "
            f"decode the input as UTF-8 or drop the row"
        ) from None
    return text


def listed(texts: Any) -> list[Any]:
    """The texts in their order. Raises TextError for what has none, or whose items are names or keys, not texts."""
    kind = type(texts).__name__
    if isinstance(texts, bytes | bytearray | memoryview):
        raise TextError(f"texts is {kind}; expected a string or a list of strings: decode it as UTF-8")
    if isinstance(texts, Mapping):
        raise TextError(f"texts is {kind}, whose items are its keys; pass list(texts.values())")
    if isinstance(texts, Set):
        raise TextError(f"texts is {kind}, which has no order; pass a list of strings")
    if hasattr(texts, "columns") or hasattr(texts, "column_names"):
        raise TextError(f"texts is {kind}, a table; pass one column of it, such as list(table['text'])")
    if getattr(texts, "ndim", 1) != 1:
        raise TextError(f"texts is {kind} of {texts.ndim} dimensions; expected one: a list of strings")
    if hasattr(texts, "to_pylist"):
        return texts.to_pylist()  # pyarrow's own items are no strings
    if not hasattr(texts, "__iter__"):
        raise TextError(f"texts is {kind}; expected a string or a list of strings")
    return list(texts)


def check_not_empty(texts: list[Any]) -> None:
    """Raise TextError naming the first text of nothing but white space: all of them would get one vector."""
    empty = [row for row, text in enumerate(texts) if isinstance(text, str) and not text.strip()]
    if empty:
        raise TextError(f"row {empty[0]} ({len(empty)} in all) is empty; drop the row, or pass allow_empty=True")


def template_ids(hf_tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids the tokenizer itself puts before and after a text."""
    plain = hf_tokenizer.encode("a", add_special_tokens=False)
    whole = hf_tokenizer.encode("a", add_special_tokens=True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return tuple(whole[:start]), tuple(whole[start + len(plain) :])
    return (), ()


def tokenizer_state(base: Any) -> tuple[dict[str, Any], str]:
    """A tokenizer's serialised settings up to its vocabulary, parsed, and the vocabulary as it is written.

    The vocabulary is most of the text, up to tens of megabytes, and nothing here needs to look into it.
    """
    text = base.backend_tokenizer.to_str()
    decoder = json.JSONDecoder()
    head: dict[str, Any] = {}
    at = 1
    while True:
        name, at = decoder.raw_decode(text, at)
        at += 1  # the colon
        if name == "model":
            return head, text[at:-1]
        head[name], at = decoder.raw_decode(text, at)
        at += 1  # the comma


def tokenizer_digest(base: Any) -> str:
    """BLAKE3 of all that decides a text's ids; what is added around them is the contract's."""
    head, vocabulary = tokenizer_state(base)
    head.update(post_processor=None, truncation=None, padding=None)
    digest = blake3(json.dumps(head, sort_keys=True).encode())
    digest.update(vocabulary.encode())
    return digest.hexdigest()


def _plain_backend(
    base: Any, decoder: Mapping[int, AddedToken], marker_ids: frozenset[int]
) -> tuple[Tokenizer, dict[int, str]]:
    """A tokenizer to which special tokens and markers are ordinary characters, and those tokens by id.

    It shares the vocabulary of `base`, whose added tokens are `decoder` and which goes on knowing them; markers among
    those are made special. Raises ModelError where the two number an added token differently.
    """
    theirs = base.backend_tokenizer
    backend = Tokenizer(theirs.model)
    backend.normalizer, backend.pre_tokenizer, backend.decoder = theirs.normalizer, theirs.pre_tokenizer, theirs.decoder
    added = sorted(decoder.items())
    for i, token in added:
        token.special = token.special or i in marker_ids
    backend.add_tokens([token for _, token in added])
    backend.encode_special_tokens = True
    for i, token in added:
        if (own := backend.token_to_id(token.content)) != i:
            raise ModelError(f"the tokenizer gives its added token {token.content!r} two ids: {i}, {own}")
    special = {i: token.content for i, token in added if token.special}
    special.update({i: base.convert_ids_to_tokens(i) or "" for i in marker_ids if i not in special})
    special.pop(base.unk_token_id, None)  # what the vocabulary lacks is unknown, and that is no forgery
    return backend, special
