"""A tokenizer as llama.cpp knows it: its tokens, their kinds, and how a text is cut before tokens are joined.

llama.cpp carries the rules of its tokenizers in its own code; a file names them. What has no name there is refused: a
tokenizer that is nearly the same gives other tokens, and so other vectors, without a word.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from udever.errors import ModelError

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_SPACE = "\u2581"
_UNJOINED = -1e6
"""The score of a piece that no merge makes."""

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_REST}"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_REST}"
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
_NAMES = {
    (None, False): "gpt-2",
    (_BLOOM, False): "bloom",
    (_QWEN2, False): "qwen2",
    (_LLAMA3, False): "dbrx",
    (_LLAMA3, True): "llama-bpe",
}
"""llama.cpp's name of a pattern that cuts text (none: GPT-2's own), and whether whole words go before merges."""


@dataclass(frozen=True)
class Vocabulary:
    """`kind` is "gpt2" for bytes joined by `merges`, "llama" for SentencePiece's pieces joined by `scores`.

    `space_prefix`: a space is put in front of every text.
    """

    kind: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    space_prefix: bool = False


def vocabulary_of(name: str, tokenizer: Any, num_rows: int, markers: Collection[int]) -> Vocabulary:
    """The tokenizer of the model `name`, as many tokens as the embedding table has rows; `markers` are never text.

    Raises ModelError for a tokenizer that llama.cpp does not have.
    """
    head = json.loads(tokenizer.backend_tokenizer.to_str())
    model = head["model"]
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise _refusal(name, f"a tokenizer of kind {model['type']}")
    tokens, kinds = _listed(head, num_rows, markers)
    pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    if not model.get("byte_fallback"):
        pre = _name_of_pattern(name, head, bool(model.get("ignore_merges")))
        found = Vocabulary("gpt2", pre, tokens, kinds, merges=[f"{left} {right}" for left, right in pairs])
    else:
        found = _pieces(tokens, kinds, pairs, model.get("unk_token"), space_prefix=_puts_space_first(name, head))
    if len(set(found.tokens)) < num_rows:  # llama.cpp would end the process that loads the file
        raise _refusal(name, "a tokenizer with two tokens of one name")
    return found


def _pieces(
    tokens: list[str], kinds: list[int], pairs: list[tuple[str, ...]], unknown: str | None, *, space_prefix: bool
) -> Vocabulary:
    """SentencePiece's manner: of all pieces that two neighbours can make, the one of the highest score is made."""
    kinds = [_BYTE if kind == _NORMAL and _is_byte(token) else kind for token, kind in zip(tokens, kinds, strict=True)]
    if unknown in tokens:
        kinds[tokens.index(unknown)] = _UNKNOWN
    ranks: dict[str, float] = {}
    for rank, pair in enumerate(pairs):
        ranks.setdefault("".join(pair), -float(rank))
    scores = [ranks.get(token, _UNJOINED) for token in tokens]
    # what is looked for in the text itself is written as the text has it
    spelled = [
        token.replace(_SPACE, " ") if kind == _USER_DEFINED else token
        for token, kind in zip(tokens, kinds, strict=True)
    ]
    return Vocabulary("llama", "default", spelled, kinds, scores=scores, space_prefix=space_prefix)


def _listed(head: Any, num_rows: int, markers: Collection[int]) -> tuple[list[str], list[int]]:
    """Names and kinds by id; ids without a token get a name of their own."""
    names = {i: token for token, i in head["model"]["vocab"].items()}
    kinds = dict.fromkeys(names, _NORMAL)
    for token in head["added_tokens"]:
        names[token["id"]] = token["content"]
        kinds[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
    kinds.update((i, _CONTROL) for i in markers if i in names)
    rows = range(num_rows)
    return [names.get(i, f"[PAD{i}]") for i in rows], [kinds.get(i, _UNUSED) for i in rows]


def _name_of_pattern(name: str, head: Any, whole_words: bool) -> str:
    """What llama.cpp calls the pattern by which a byte-level tokenizer cuts text."""
    if head["normalizer"] not in (None, {"type": "NFC"}):  # llama.cpp takes composed characters for granted
        raise _refusal(name, f"a tokenizer that changes text by {head['normalizer']['type']}")
    cutting: Any = head["pre_tokenizer"] or {"type": "none"}
    parts: list[Any] = cutting["pretokenizers"] if cutting["type"] == "Sequence" else [cutting]
    *first, last = parts
    pattern = None
    usual = last["type"] == "ByteLevel" and not last["add_prefix_space"] and len(first) < 2
    if usual and first:
        pattern = first[0].get("pattern", {}).get("Regex", "")
        usual = first[0].get("behavior") == "Isolated" and not first[0].get("invert") and not last["use_regex"]
    elif usual:
        usual = last["use_regex"]
    if not usual or (pattern, whole_words) not in _NAMES:
        raise _refusal(name, "a tokenizer that cuts text in a way of its own")
    return _NAMES[pattern, whole_words]


def _puts_space_first(name: str, head: Any) -> bool:
    """Whether a SentencePiece tokenizer begins each text with a space."""
    changing = head["normalizer"] or {"type": "Sequence", "normalizers": []}
    steps = changing["normalizers"] if changing["type"] == "Sequence" else [changing]
    cutting = head["pre_tokenizer"]
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prefix = {"type": "Prepend", "prepend": _SPACE}
    if cutting is None or cutting.get("pattern") == {"String": " "}:  # no space is left there to cut at
        if steps in ([spaces], [prefix, spaces]):
            return len(steps) == 2
    elif cutting["type"] == "Metaspace" and not steps and not cutting.get("split", True):
        return cutting["prepend_scheme"] != "never"
    raise _refusal(name, "a tokenizer that treats spaces in a way of its own")


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _refusal(name: str, what: str) -> ModelError:
    return ModelError(f"{name} has {what}, which llama.cpp does not know; export it with --format onnx")
