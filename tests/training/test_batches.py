"""Remembered tokens are those that would be made again, and no more of them than there is room for."""

import pytest

from udever.training.batches import Text, TokenCache, tokenize

TEXTS = [
    Text("copy the tree", "query", None),
    Text("copy the tree", "document", None),
    Text("copy the tree", "query", "find code"),
    Text("a text that is cut " * 9, "query", None),
]


def same(found, expected):
    return (found.ids, found.skip, found.cut) == (expected.ids, expected.skip, expected.cut)


@pytest.mark.parametrize(("limit", "again"), [(0, 4), (700, 2), (1e6, 1)])
def test_what_is_remembered_is_what_would_be_made_again(embedder, monkeypatch, limit, again):
    """Of four texts two fit into 700 bytes; one more text is new."""
    cache, asked = TokenCache(limit), []
    assert same(cache.tokenize(embedder, TEXTS[:3]), tokenize(embedder, TEXTS[:3]))
    order = [TEXTS[3], TEXTS[1], TEXTS[0], TEXTS[2]]
    expected = tokenize(embedder, order)
    plain = embedder.tokenize
    monkeypatch.setattr(embedder, "tokenize", lambda texts, *rest: asked.extend(texts) or plain(texts, *rest))
    found = cache.tokenize(embedder, order)
    assert same(found, expected)
    assert found.num_truncated == 1
    assert len(asked) == again
