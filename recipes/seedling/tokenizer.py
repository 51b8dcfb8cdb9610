"""Step 4: a byte-level BPE over a mix of every language and code -> SEEDLING_WORK/tokenizer/tokenizer.json.

Texts are normalised first, for an embedder has no use for what is lost and every row of the table counts:
NFKC, lower case, identifiers cut where capitals begin, no white space. So "GetName", "get_name" and "get name"
share their rows, and a word has one row wherever it stands.
"""

import random
from collections import defaultdict
from string import ascii_uppercase

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import DATA, LANGUAGES, SHIPS, WORK
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from udever.model.markers import NAMES

VOCAB_SIZE = 32_768
MIX_CHARS = 40_000_000
SAMPLE = 600_000
TEMPERATURE = 0.3
SPECIAL = ["<pad>", "</s>", *NAMES]


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


def mix() -> list[str]:
    """Texts of every language in shares of (its characters) ** TEMPERATURE; code counts as eight languages."""
    by_language: dict[str, list[str]] = defaultdict(list)
    sides = (("students", "text", "language"), ("contrast", "anchor", "anchor_language"),
             ("contrast", "positive", "positive_language"))  # fmt: skip
    for name, text, language in sides:
        table = pq.read_table(WORK / "data" / f"{name}.parquet", columns=[text, language, "split"])
        table = table.filter(pc.equal(table["split"], "train"))
        rows = np.sort(np.random.default_rng(0).permutation(len(table))[:SAMPLE])
        table = table.take(rows)
        for said, code in zip(table[text].to_pylist(), table[language].to_pylist(), strict=True):
            by_language[code].append(said)
    for path in sorted(DATA.glob("corpora/*.parquet")):
        if path.stem in LANGUAGES:
            table = pq.read_table(path, columns=["text", "licence"]).to_pydict()
            rows = zip(table["text"], table["licence"], strict=True)
            by_language[path.stem] += [text[:4000] for text, licence in rows if licence in SHIPS]
    draw = random.Random(0)
    weights = {name: sum(map(len, texts)) ** TEMPERATURE for name, texts in by_language.items()}
    weights["en"] *= 3
    total = sum(weights.values())
    chosen = []
    for name, texts in by_language.items():
        room = MIX_CHARS * weights[name] / total
        draw.shuffle(texts)
        for text in texts:
            if room <= 0:
                break
            chosen.append(text[:2000])
            room -= len(text[:2000])
    draw.shuffle(chosen)
    return chosen


def main() -> None:
    """Train and write."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normaliser()
    tokenizer.pre_tokenizer = pre_tokeniser()
    tokenizer.decoder = decoders.ByteLevel()
    texts = mix()
    print(f"{len(texts):,} texts, {sum(map(len, texts)):,} characters", flush=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder = WORK / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    for text in (
        "def getHTTPServerName(self):\n    return self._name",
        "Ich möchte ein Glas Wasser.",
        "今日は天気がいいです",
    ):
        print(tokenizer.encode(text).tokens)


if __name__ == "__main__":
    main()
