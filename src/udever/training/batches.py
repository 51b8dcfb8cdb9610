"""A batch of pairs as distinct texts, as their tokens, and as the numbers by which the loss knows them."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from udever.embedder import Embedder
from udever.model.contract import RoleName
from udever.model.packing import fillers
from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.pairs.settings import Side, sides_of
from udever.pairs.taught import Taught
from udever.training.likeness import Lesson
from udever.training.objectives import BatchIds


@dataclass(frozen=True, slots=True)
class Text:
    """One text as the model is to see it."""

    text: str
    role: RoleName
    instruction: str | None


@dataclass(frozen=True)
class BatchTexts:
    """Every distinct text of a batch once, and where each side of each pair finds its own.

    A pure function of the batch: every process computes the same and embeds a share of `texts`. With a `lesson` there
    are no pairs: each text is to be like its target there.
    """

    texts: list[Text]
    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    ids: BatchIds
    lesson: Lesson | None = None

    @cached_property
    def by_size(self) -> list[int]:
        """Indices of `texts`, longest first: neighbours cost about the same."""
        return sorted(range(len(self.texts)), key=lambda i: (-len(self.texts[i].text), i))

    def share(self, rank: int, size: int) -> list[int]:
        """The texts process `rank` of `size` embeds: dealt out there and back, so that shares weigh alike."""
        order = self.by_size
        turns = [order[start : start + size] for start in range(0, len(order), size)]
        places = [rank if number % 2 == 0 else size - 1 - rank for number in range(len(turns))]
        return [turn[place] for turn, place in zip(turns, places, strict=True) if place < len(turn)]


def text_id(text: str, kind: str = "") -> int:
    """A number below 2^60 that equal texts share, on every process and machine."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8, person=kind.encode()).digest()
    return int.from_bytes(digest, "big") >> 4


def _ids_of(values: Sequence[str | None], kind: str) -> Tensor:
    return torch.tensor([-1 if value is None else text_id(value, kind) for value in values], dtype=torch.int64)


def _teacher(pairs: Sequence[Pair]) -> Tensor | None:
    if not any(pair.scores for pair in pairs):
        return None
    width = max(len(pair.scores or ()) for pair in pairs)
    rows = [[*(pair.scores or ()), *[float("nan")] * (width - len(pair.scores or ()))] for pair in pairs]
    return torch.tensor(rows)


def batch_texts(batch: Batch) -> BatchTexts:
    """Take a batch apart."""
    if batch.taught is not None:
        return _taught_texts(batch, batch.taught)
    seen: dict[Text, int] = {}

    def place(text: str, side: Side) -> int:
        return seen.setdefault(Text(text, *side), len(seen))

    anchors, positives = [], []
    negatives: dict[int, str] = {}
    own: list[tuple[int, str]] = []
    for row, (pair, traits) in enumerate(zip(batch.pairs, batch.traits, strict=True)):
        asking, answering = sides_of(pair.kind, traits.instruction, traits.document_instruction)
        anchors.append(place(pair.anchor, asking))
        positives.append(place(pair.positive, answering))
        for text in pair.negatives:
            negatives[place(text, answering)] = text
            own.append((row, text))
    labels = [pair.label if pair.kind == "classification" else None for pair in batch.pairs]
    ids = BatchIds(
        anchors=_ids_of([pair.anchor for pair in batch.pairs], ""),
        positives=_ids_of([pair.positive for pair in batch.pairs], ""),
        negatives=_ids_of(list(negatives.values()), ""),
        own_rows=torch.tensor([row for row, _ in own], dtype=torch.int64),
        own_ids=_ids_of([text for _, text in own], ""),
        groups=_ids_of([pair.group for pair in batch.pairs], "group"),
        labels=_ids_of(labels, "label"),
        symmetric=torch.tensor([pair.kind != "asymmetric" for pair in batch.pairs]),
        in_batch=torch.tensor([traits.in_batch_negatives for traits in batch.traits]),
        teacher=_teacher(batch.pairs),
    )
    index = [torch.tensor(side, dtype=torch.int64) for side in (anchors, positives, list(negatives))]
    return BatchTexts(list(seen), index[0], index[1], index[2], ids)


def _taught_texts(batch: Batch, taught: Taught) -> BatchTexts:
    traits = batch.traits[0]
    texts = list(dict.fromkeys(pair.anchor for pair in batch.pairs))
    seen = {text: place for place, text in enumerate(texts)}
    none = torch.empty(0, dtype=torch.int64)
    lesson = Lesson(torch.from_numpy(taught.targets(texts)), traits.closeness, traits.neighbours)
    return BatchTexts(
        texts=[Text(text, taught.role, traits.instruction) for text in texts],
        anchors=torch.tensor([seen[pair.anchor] for pair in batch.pairs], dtype=torch.int64),
        positives=none,
        negatives=none,
        ids=BatchIds(none, none, none, none, none, none, none, none.bool(), none.bool()),
        lesson=lesson,
    )


@dataclass(frozen=True)
class Tokens:
    """The token sequences of some texts, how many of each are a prompt to be left out, which texts were cut."""

    ids: list[list[int]]
    skip: list[int]
    cut: list[bool]

    @property
    def num_truncated(self) -> int:
        """How many texts were cut."""
        return sum(self.cut)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(ids) for ids in self.ids]


def tokenize(embedder: Embedder, texts: Sequence[Text], max_length: int | None = None) -> Tokens:
    """Tokens of `texts`, each with its role's markers and its instruction, in their order.

    `max_length`: where texts are cut, if before the model's own length.
    """
    ids: list[list[int]] = [[] for _ in texts]
    skip = [0] * len(texts)
    cut = [False] * len(texts)
    kinds: dict[tuple[RoleName, str | None], None] = dict.fromkeys((text.role, text.instruction) for text in texts)
    for role, instruction in kinds:
        places = [i for i, text in enumerate(texts) if (text.role, text.instruction) == (role, instruction)]
        prompt = None if instruction is None else embedder.instructed(instruction)
        tokenized = embedder.tokenize([texts[i].text for i in places], role, prompt, max_length)
        truncated = tokenized.truncation.truncated.tolist()
        for place, sequence, was_cut in zip(places, tokenized.ids, truncated, strict=True):
            ids[place], skip[place], cut[place] = list(sequence), tokenized.skip, was_cut
    return Tokens(ids, skip, cut)


_ENTRY_BYTES = 240
"""What an entry takes beside its ids: a number, its place in the table, three objects."""


class TokenCache:
    """What `tokenize` gives, remembered until so many bytes are full; then what is new is tokenised as ever.

    Texts are told apart by 64-bit hashes: of three million, two share theirs with a probability of one in four million.
    """

    def __init__(self, limit_bytes: float, max_length: int | None = None) -> None:
        self._known: dict[int, tuple[bytes, int, bool]] = {}
        self._room = limit_bytes
        self._max_length = max_length

    def tokenize(self, embedder: Embedder, texts: Sequence[Text]) -> Tokens:
        """As the function, always for the same embedder."""
        if self._room <= 0 and not self._known:
            return tokenize(embedder, texts, self._max_length)
        keys = [hash((text.text, text.role, text.instruction)) for text in texts]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        made = tokenize(embedder, [texts[place] for place in new], self._max_length)
        entries: dict[int, tuple[list[int], int, bool]] = {}
        for place, ids, skip, cut in zip(new, made.ids, made.skip, made.cut, strict=True):
            entries[place] = ids, skip, cut
            self._remember(keys[place], ids, skip, cut)
        for place, key in enumerate(keys):
            if place not in entries:
                packed, skip, cut = self._known[key]
                entries[place] = np.frombuffer(packed, np.uint32).tolist(), skip, cut
        ids, skip, cut = zip(*(entries[place] for place in range(len(texts))), strict=True)
        return Tokens(list(ids), list(skip), list(cut))

    def _remember(self, key: int, ids: list[int], skip: int, cut: bool) -> None:
        size = 4 * len(ids) + _ENTRY_BYTES
        if self._room >= size:
            self._known[key] = np.array(ids, np.uint32).tobytes(), skip, cut
            self._room -= size
        else:
            self._room = 0


Embed = Callable[[Sequence[int]], Tensor]
"""Indices of texts -> their embeddings [texts, hidden], with gradients where they are on."""


def embedding(embedder: Embedder, tokens: Tokens, dtype: torch.dtype = torch.float32) -> Embed:
    """How the texts of `tokens` are embedded: in bfloat16, products over float32 weights are autocast.

    On the CPU fillers keep the batches' shapes few, since kernels compiled for a shape stay in memory.
    """
    fills = embedder.device.type == "cpu"

    def embed(indices: Sequence[int]) -> Tensor:
        ids, skip = [tokens.ids[i] for i in indices], [tokens.skip[i] for i in indices]
        more = [max(ids, key=len)[:length] for length in fillers([len(sequence) for sequence in ids])] if fills else []
        half = contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(embedder.device.type, dtype=dtype)
        with half:
            vectors = embedder.embed_tokens([*ids, *more], [*skip, *[0] * len(more)])
        return vectors[: len(ids)]

    return embed
