"""Choosing the markers of a backbone that is to become an embedder."""

import re
from typing import Any, Literal, get_args

import torch

from udever.errors import ModelError
from udever.model.contract import Contract, Role, RoleName

Markers = Literal["auto", "roles", "eos", "keep"]

NAMES = ("[BOQ]", "[EOQ]", "[BOD]", "[EOD]")
"""The paper's markers: opening and closing of a query, then of a document."""

ONE_WORD = "\nThis in one word:"
"""A suffix for a language model that was trained on text alone: what it would say next stands for the text before.
Of six the best in the mean (dev/LOG.md); the idea is that of "Scaling Sentence Embeddings with Large Language Models"
(arXiv 2307.16645)."""

_UNUSED = re.compile(r"[<\[]\|?(unused|reserved_special_token)_?(\d+)\|?[>\]]")
"""Tokens that a vocabulary keeps for its users, as Gemma's, BERT's and Llama 3's are called."""


def with_markers(contract: Contract, markers: Markers, hf_tokenizer: Any, embeddings: torch.Tensor) -> Contract:
    """`contract` with the roles' markers replaced; may add the four names to the tokenizer.

    "roles" needs the names in the tokenizer, or four spare rows at the end of the embedding table, or four tokens that
    are named as unused, their rows unlike one another: no row is added, so every adapter stays loadable over its base.
    Raises ModelError where there is no room. "auto" takes no unused tokens: where the first two are missing, it leaves
    the plain markers.
    """
    if markers in ("keep", "eos"):
        return contract
    ids = _find(hf_tokenizer, embeddings)
    if ids is None and markers == "roles":
        ids = _unused(hf_tokenizer, embeddings)
    if ids is None:
        if markers == "auto":
            return contract
        raise ModelError(
            "markers is 'roles' and the vocabulary has no four distinct spare rows for them; use markers = 'eos'"
        )
    query = Role(prefix_ids=ids[0:1], suffix_ids=ids[1:2], prompt=contract.query.prompt)
    document = Role(prefix_ids=ids[2:3], suffix_ids=ids[3:4], prompt=contract.document.prompt)
    return contract.model_copy(update={"query": query, "document": document, "symmetric": query})


def with_suffix(contract: Contract, suffix: str, hf_tokenizer: Any) -> Contract:
    """`contract` with these words after every text, in place of closing markers.

    Raises ModelError for one that the tokenizer makes no token of.
    """
    ids = tuple(hf_tokenizer.encode(suffix, add_special_tokens=False))
    if not ids:
        raise ModelError(f"suffix is {suffix!r}, which has no token; give words such as '\\nThis in one word:'")
    changes = {"suffix_ids": ids, "suffix_is_text": True}
    roles = {name: contract.role(name).model_copy(update=changes) for name in get_args(RoleName)}
    return contract.model_copy(update=roles)


def _find(hf_tokenizer: Any, embeddings: torch.Tensor) -> tuple[int, ...] | None:
    vocabulary = hf_tokenizer.get_vocab()
    if not all(name in vocabulary for name in NAMES):
        first = max(vocabulary.values()) + 1
        if not _are_distinct(embeddings[first : first + len(NAMES)]):
            return None
        hf_tokenizer.add_special_tokens({"additional_special_tokens": list(NAMES)})
        vocabulary = hf_tokenizer.get_vocab()
    ids = tuple(vocabulary[name] for name in NAMES)
    return ids if max(ids) < len(embeddings) else None


def _unused(hf_tokenizer: Any, embeddings: torch.Tensor) -> tuple[int, ...] | None:
    """The first four tokens that are named as unused, from now on special ones."""
    vocabulary = hf_tokenizer.get_vocab()
    named = sorted((int(found[2]), name) for name in vocabulary if (found := _UNUSED.fullmatch(name)))
    names = [name for _, name in named[: len(NAMES)]]
    ids = tuple(vocabulary[name] for name in names)
    if max(ids, default=0) >= len(embeddings) or not _are_distinct(embeddings[list(ids)]):
        return None
    hf_tokenizer.add_special_tokens({"additional_special_tokens": names})
    return ids


def _are_distinct(rows: torch.Tensor) -> bool:
    """Whether they are four, no two alike and none of zeros."""
    rows = rows.float()
    return len(rows) == len(torch.unique(rows, dim=0)) == len(NAMES) and bool(rows.norm(dim=1).all())
