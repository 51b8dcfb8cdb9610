"""Step 5: the texts of prepare.py as token ids, once -> SEEDLING_WORK/encoded/{students,contrast}.npz.

students: `ids` (all texts end to end), `starts`, and for every text `target` (key of its English text), `kind`
(number in KINDS), `language` (number in `languages`), `development`.
contrast: `ids`, `starts` of texts; `anchor`, `positive`, `negative` (-1: none) are numbers of texts; `source`
(number in `sources`), `group` (-1: none), `symmetric`, `development`.
"""

import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import WORK, key_of
from teacher import load_vectors
from tokenizers import Tokenizer

MAX_TOKENS = 256
KINDS = ("sentence", "dictionary", "character", "english", "general", "code")
"""What a text to distil is: a translated sentence, a word, a symbol's name, English of documents, English of
everyday life, a function."""


SHARES = {"sentence": 0.42, "dictionary": 0.16, "character": 0.06, "english": 0.12, "general": 0.18, "code": 0.06}
"""Of every kind, its share of the texts that are drawn."""

LANGUAGE_TEMPERATURE = 0.5

CAPS = {"freedict": 150_000, "parallel": 120_000, "wordnet": 60_000, "nl_shell": 60_000}
"""Of these sources, at most so many pairs are contrasted."""


def kind_of(source: str, language: str) -> int:
    """Number of the kind of a row of students.parquet."""
    if source.startswith("freedict"):
        return 1
    if source.startswith("cldr"):
        return 2
    if language == "en":
        general = source.startswith(
            ("wordnet", "nli_", "qa_", "catalogue", "mlqa", "tydiqa", "code_", "python_library")
        )
        return 4 if general else 3
    return 0


class Texts:
    """Texts by number, tokenised in blocks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.numbers: dict[str, int] = {}

    def number(self, text: str | None) -> int:
        """The number of a text; -1 for none."""
        return self.numbers.setdefault(text, len(self.numbers)) if text else -1

    def encode(self) -> dict[str, np.ndarray]:
        """Token ids end to end, and where each text starts (one more than there are texts)."""
        texts, parts, lengths = list(self.numbers), [], []
        for first in range(0, len(texts), 65536):
            block = [text[: 8 * MAX_TOKENS] for text in texts[first : first + 65536]]
            for encoding in self.tokenizer.encode_batch_fast(block, add_special_tokens=False):
                ids = np.array(encoding.ids[:MAX_TOKENS], dtype=np.uint16)
                parts.append(ids)
                lengths.append(len(ids))
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        return {"ids": np.concatenate(parts), "starts": starts}


def choose(kind: np.ndarray, language: np.ndarray, known: np.ndarray, limit: int) -> np.ndarray:
    """Rows whose target the teacher has embedded, at most `limit` of them, in the shares of the kinds.

    Within a kind a language with n rows gets a share of n ** LANGUAGE_TEMPERATURE.
    """
    draw, chosen = np.random.default_rng(0), []
    for number, name in enumerate(KINDS):
        rows = np.flatnonzero((kind == number) & known)
        counts = np.bincount(language[rows], minlength=language.max() + 1).astype(float)
        order = draw.exponential(size=len(rows)) * counts[language[rows]] ** (1 - LANGUAGE_TEMPERATURE)
        chosen.append(rows[np.argsort(order)[: int(limit * SHARES[name])]])
        print(f"  {name}: {len(chosen[-1]):,} of {len(rows):,} rows", flush=True)
    return np.sort(np.concatenate(chosen))


def students(tokenizer: Tokenizer, limit: int) -> None:
    """Write students.npz; a text that has several targets is there several times."""
    targets = pq.read_table(WORK / "data" / "targets.parquet", columns=["text"])["text"].to_pylist()
    table = pq.read_table(WORK / "data" / "students.parquet", columns=["text", "language", "target", "source", "split"])
    rows = table.to_pydict()
    contrast = pq.read_table(WORK / "data" / "contrast.parquet").to_pylist()
    for row in contrast:  # a function is to land where its docstring is
        if row["kind"] == "asymmetric" and row["source"].startswith(("code_", "python_library")):
            rows["text"].append(row["positive"])
            rows["language"].append(row["positive_language"])
            rows["target"].append(row["anchor"])
            rows["source"].append("function")
            rows["split"].append(row["split"])
    texts = Texts(tokenizer)
    languages = sorted(set(rows["language"]))
    place = {language: i for i, language in enumerate(languages)}
    keys = [key_of(text) for text in targets]
    target = np.array([key_of(t) if isinstance(t, str) else keys[t] for t in rows["target"]], dtype=np.uint64)
    kinds = [5 if s == "function" else kind_of(s, la) for s, la in zip(rows["source"], rows["language"], strict=True)]
    kind, language = np.array(kinds, dtype=np.uint8), np.array([place[name] for name in rows["language"]])
    chosen = choose(kind, language, np.isin(target, load_vectors()[0]), limit)
    number = np.array([texts.number(rows["text"][row]) for row in chosen])
    np.savez(
        WORK / "encoded" / "students.npz",
        **texts.encode(),
        text=number,
        target=target[chosen],
        kind=kind[chosen],
        language=language[chosen].astype(np.uint16),
        development=np.array([rows["split"][row] == "development" for row in chosen]),
        languages=np.array(languages),
    )
    print(f"students: {len(number):,} rows, {len(texts.numbers):,} texts")


def capped(sources: list[str]) -> list[int]:
    """Row numbers, of the large sources a random sample."""
    kept, counts = [], Counter()
    for row in np.random.default_rng(0).permutation(len(sources)):
        family = next((name for name in CAPS if sources[row].startswith(name)), "")
        counts[family] += 1
        if counts[family] <= CAPS.get(family, len(sources)):
            kept.append(row)
    return kept


def contrast(tokenizer: Tokenizer) -> None:
    """Write contrast.npz."""
    table = pq.read_table(WORK / "data" / "contrast.parquet")
    write_pairs(tokenizer, table.take(np.sort(capped(table["source"].to_pylist()))).to_pylist(), "contrast")


def bitext(tokenizer: Tokenizer, limit: int) -> None:
    """Write bitext.npz, in the same form: translations of sentences that the teacher has not embedded."""
    targets = pq.read_table(WORK / "data" / "targets.parquet", columns=["text"])["text"].to_pylist()
    columns = ["text", "language", "target", "source", "split"]
    table = pq.read_table(WORK / "data" / "students.parquet", columns=columns)
    keys = np.array([key_of(text) for text in targets], dtype=np.uint64)
    unknown = ~np.isin(keys, load_vectors()[0])[table["target"].to_numpy()]
    found = table.filter(pa.array(unknown)).to_pylist()
    rows = [row for row in found if row["language"] != "en" and not row["source"].startswith(("freedict", "cldr"))]
    language = np.array([row["language"] for row in rows])
    _, place, counts = np.unique(language, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).exponential(size=len(rows)) * counts[place] ** (1 - LANGUAGE_TEMPERATURE)
    pairs = [
        {
            "anchor": targets[row["target"]], "positive": row["text"], "negative": None, "anchor_language": "en",
            "positive_language": row["language"], "kind": "symmetric", "source": "bitext", "split": row["split"],
            "group": None,
        }
        for row in (rows[i] for i in np.argsort(order)[:limit])
    ]  # fmt: skip
    write_pairs(tokenizer, pairs, "bitext")


def write_pairs(tokenizer: Tokenizer, rows: list[dict], name: str) -> None:
    """Write encoded/`name`.npz."""
    texts = Texts(tokenizer)
    groups: dict[str, int] = {}
    sources = sorted({row["source"] for row in rows})
    place = {source: i for i, source in enumerate(sources)}
    columns = {side: np.array([texts.number(row[side]) for row in rows]) for side in ("anchor", "positive", "negative")}
    np.savez(
        WORK / "encoded" / f"{name}.npz",
        **texts.encode(),
        **columns,
        source=np.array([place[row["source"]] for row in rows], dtype=np.uint16),
        group=np.array([groups.setdefault(row["group"], len(groups)) if row["group"] else -1 for row in rows]),
        symmetric=np.array([row["kind"] == "symmetric" for row in rows]),
        development=np.array([row["split"] == "development" for row in rows]),
        sources=np.array(sources),
    )
    print(f"{name}: {len(rows):,} rows, {len(texts.numbers):,} texts")


def main() -> None:
    """`python encode.py students [limit]`, `contrast` or `bitext [limit]`."""
    tokenizer = Tokenizer.from_file(str(WORK / "tokenizer" / "tokenizer.json"))
    (WORK / "encoded").mkdir(parents=True, exist_ok=True)
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else 10**9
    if sys.argv[1] == "contrast":
        contrast(tokenizer)
    else:
        {"students": students, "bitext": bitext}[sys.argv[1]](tokenizer, limit)


if __name__ == "__main__":
    main()
