"""Token ids of texts that were seen before: in a run of many passes each text is tokenised once."""

from collections.abc import Sequence

import numpy as np

from udever.embedder import Embedder
from udever.training.batches import Text, Tokens, tokenize

_ENTRY_BYTES = 240
"""What an entry takes beside its ids: a number, its place in the table, three objects."""


class TokenCache:
    """What `tokenize` gives, remembered until so many bytes are full; then what is new is tokenised as ever.

    Texts are told apart by 64-bit hashes: of three million, two share theirs with a probability of one in four million.
    """

    def __init__(self, limit_bytes: float) -> None:
        self._known: dict[int, tuple[bytes, int, bool]] = {}
        self._room = limit_bytes

    def tokenize(self, embedder: Embedder, texts: Sequence[Text]) -> Tokens:
        """As `batches.tokenize`, always for the same embedder."""
        if self._room <= 0 and not self._known:
            return tokenize(embedder, texts)
        keys = [hash((text.text, text.role, text.instruction)) for text in texts]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        made = tokenize(embedder, [texts[place] for place in new])
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
