"""What a batch is taken apart into; remembered tokens are those made again, and no more than there is room for."""

import pytest

from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.pairs.sources import Traits
from udever.training.batches import Text, TokenCache, batch_texts, tokenize

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


def taken_apart(*pairs):
    return batch_texts(Batch(0, pairs, (Traits("d", instruction="ask", document_instruction="answer"),) * len(pairs)))


@pytest.mark.parametrize(
    ("kind", "asking", "answering"),
    [
        ("asymmetric", ("query", "ask"), ("document", "answer")),
        ("classification", ("symmetric", "ask"), ("symmetric", "ask")),
        ("symmetric", ("symmetric", "ask"), ("symmetric", "ask")),
    ],
)
def test_roles_and_instructions_are_those_of_the_kind(kind, asking, answering):
    found = taken_apart(Pair("a", "b", ("n",), kind=kind, label="l"))
    assert found.texts == [Text("a", *asking), Text("b", *answering), Text("n", *answering)]
    assert found.ids.symmetric.tolist() == [kind != "asymmetric"]


def test_a_label_makes_a_class_of_classification_rows_alone():
    pairs = [Pair("a", "b", label="1"), Pair("c", "d", label="1"), Pair("e", "f", kind="symmetric", label="1")]
    assert taken_apart(*pairs).ids.labels.tolist() == [-1] * 3
    first, second, other = taken_apart(
        *(Pair(f"a{i}", f"b{i}", kind="classification", label=label) for i, label in enumerate("112"))
    ).ids.labels.tolist()
    assert first == second != other
