"""Step 4: the student before training: a byte-level BPE over every language and code, and a BLOOM.

Texts are normalised first, for an embedder has no use for what is lost and every row of the table counts:
NFKC, lower case, identifiers cut where capitals begin, no white space. So "GetName", "get_name" and "get name"
share their rows, and a word has one row wherever it stands.

    python base.py FOLDER [--layers 1] [--heads 1] [--width 384] [--vocabulary 114688] [--teacher FOLDER]

FOLDER is a base for `udever train`. Every text is closed by `</s>`, whose hidden state is the vector. Weights are drawn
at random; with a teacher each row of the table is what that makes of the token alone, less the mean of all.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase

import pyarrow.parquet as pq
import torch
from common import WORK
from jaxtyping import Float
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from udever import Embedder
from udever.loading import Loaded
from udever.model.bloom import Bloom, init_weights, let_content_through
from udever.model.configuration import BloomConfig
from udever.model.contract import Contract, Role
from udever.model.markers import NAMES

CLOSING = "</s>"
SPECIAL = ["<pad>", CLOSING, *NAMES]
MIX_CHARS = 40_000_000
"""What the vocabulary is learned from: of every language as much, as far as there is."""


def normaliser() -> normalizers.Normalizer:
    """See above. A replacement is a fixed text, so that every capital letter takes two of its own."""
    replace = normalizers.Replace
    camel = [replace(Regex(f"(?<=[A-Z]){c}(?=[a-z])"), f" {c}") for c in ascii_uppercase]
    camel += [replace(Regex(f"(?<=[a-z0-9]){c}"), f" {c}") for c in ascii_uppercase]
    return normalizers.Sequence([normalizers.NFKC(), *camel, normalizers.Lowercase()])


def pre_tokeniser() -> pre_tokenizers.PreTokenizer:
    """White space goes; words of scripts with and without case apart, digits in threes, runs of other marks."""
    pattern = r"[\p{Ll}\p{Lm}\p{M}]+|[\p{Lo}\p{Lm}\p{M}]+|\p{N}{1,3}|[^\s\p{L}\p{M}\p{N}]+|."
    space = pre_tokenizers.Split(Regex(r"\s+"), behavior="removed")
    split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return pre_tokenizers.Sequence([space, split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def read() -> Iterator[tuple[str, str]]:
    """Language and text of all texts, parts of both sides in their order, whose beginnings are balanced."""
    for path in sorted((WORK / "texts").glob("*.parquet"), key=lambda path: path.stem.rpartition("-")[::-1]):
        table = pq.read_table(path, columns=["language", "text"])
        yield from zip(table["language"].to_pylist(), table["text"].to_pylist(), strict=True)


def mix() -> Iterator[str]:
    """Texts of every language, each up to its share."""
    languages = {language for language, _ in read()}
    room = dict.fromkeys(languages, MIX_CHARS / len(languages))
    for language, text in read():
        if room[language] > 0:
            room[language] -= len(text)
            yield text


def tokenizer_of(vocabulary: int) -> Tokenizer:
    """A tokenizer with so many entries at most."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normaliser()
    tokenizer.pre_tokenizer = pre_tokeniser()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(mix(), trainer)
    return tokenizer


def network(vocabulary: int, layers: int, heads: int, width: int, seed: int = 0) -> Bloom:
    """A new network, its attention passing content on."""
    closing, padding = SPECIAL.index(CLOSING), 0
    config = BloomConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=None,
        eos_token_id=closing,
        pad_token_id=padding,
    )
    model = Bloom(config)
    init_weights(model, seed)
    let_content_through(model, seed)
    return model


def rows_by(teacher: Embedder, tokenizer: Tokenizer) -> Float[Tensor, "tokens dim"]:
    """A unit vector for each token: the teacher's of its characters as a query; of chance where it has none."""
    tokens = [tokenizer.decode([i], skip_special_tokens=False).strip() for i in range(tokenizer.get_vocab_size())]
    is_text = torch.tensor([bool(token) and "\ufffd" not in token and token not in SPECIAL for token in tokens])
    rows = torch.randn(len(tokens), teacher.dimensions, generator=torch.Generator().manual_seed(0))
    told = torch.from_numpy(teacher.encode_query([token for token, kept in zip(tokens, is_text, strict=True) if kept]))
    rows[is_text] = told - told.mean(0)
    return torch.nn.functional.normalize(rows, dim=1)


def embedder(model: Bloom, tokenizer: Tokenizer) -> Embedder:
    """The network with its tokenizer; texts in every role are closed by the same token."""
    from transformers import PreTrainedTokenizerFast

    role = Role(suffix_ids=(SPECIAL.index(CLOSING),))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=CLOSING, pad_token=SPECIAL[0])
    contract = Contract(query=role, document=role, symmetric=role, max_length=512)
    return Embedder(Loaded(model.eval(), fast, contract), name="seedling")


def main() -> None:
    """Train the tokenizer, draw the weights, write the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, value in (("layers", 1), ("heads", 1), ("width", 384), ("vocabulary", 114_688)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--teacher", type=Path)
    options = parser.parse_args()
    tokenizer = tokenizer_of(options.vocabulary)
    model = network(tokenizer.get_vocab_size(), options.layers, options.heads, options.width)
    if options.teacher:
        model.word_embeddings.weight.data = rows_by(Embedder.load(options.teacher), tokenizer)
    embedder(model, tokenizer).save(options.folder, base="nothing")


if __name__ == "__main__":
    main()
