"""Step 3: shared pairs, corpora and what was mined -> plain texts for the teacher, and pairs to contrast.

Writes into SEEDLING_WORK:

    texts/queries-NNN.parquet, texts/passages-NNN.parquet, texts/spans-NNN.parquet
                                                            `text`, `language`, `kind`, `source`, `licence`; distinct
    pairs/FAMILY.parquet                                    pairs, see FAMILIES, with `split` train or development
    counts.json                                             rows by source and licence, what was left out and why

Queries are what the teacher is to read as such: sentences, words, names, questions, headings, docstrings; passages
are longer pieces and functions. Spans are one to nine words out of queries, so that words of every language are asked
about by themselves and beside strange ones, and words of the teacher's own vocabulary; they are read as queries too.
The parts of each come in an order in which every beginning is balanced: a kind has its share, and within it a
language with n texts n ** 0.5. So the teacher can stop after any part.

Left out: texts under other licences and in other languages (common.py), and every text equal to one under eval/ (NFKC,
lower case, spaces joined). 1 % of the pairs, by their file, their group or their English text, are development rows;
pairs and texts that repeat a text of theirs, in another spelling or nearly, are left out too.

    python prepare.py [--limit ROWS]      ROWS: at most so many of each file, to try things
"""

import argparse
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import CODE, DATA, LANGUAGES, SHIPS, WORK, is_development, plain

from udever.pairs.schema import Pair, Split
from udever.pairs.schema import to_table as table_of
from udever.text.grouping import Held, spelling

PART_TEXTS = 50_000
MAX_CHARS = {"passage": 500, "function": 1500}
"""A longer text of a kind is left out, of other kinds from 300 characters on; pieces of corpora are cut before."""

MAX_ENTRIES = 600_000
"""Of the three million pairs of words in dictionaries; more are not reached in a run."""

CLOZE_PIECES = 3
"""A passage that a sentence is taken from has as many characters as so many pieces."""

MAX_CLOZES = 20_000
"""Sentences taken out of passages, of each language."""

PIECE_CHARS = {"zh": 120, "zh-tw": 120, "ja": 120, "ko": 150, "th": 200, "lo": 200, "km": 200, "my": 200}
"""Characters of a piece of a document, by language; 300 of the others."""

KINDS = {
    "queries": {"sentence": 0.5, "question": 0.15, "word": 0.13, "heading": 0.09, "docstring": 0.08, "name": 0.05},
    "passages": {"passage": 0.75, "function": 0.25},
}
"""The two sides of the teacher, and of each kind of texts its share."""

MAX_SPANS = 8_000
"""Spans of each language."""

UNSPACED = frozenset({"zh", "zh-tw", "ja", "th", "lo", "km", "my"})
"""Languages without a space between words: a span is twice as many characters there."""

RUN_TOGETHER = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR"})
"""Scripts, as Unicode's names begin, of those languages."""

LANGUAGE_TEMPERATURE = 0.5
SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？।])\s*")

FAMILIES = {
    "code": ("code_", "python_library"), "questions": ("qa_",), "headings": ("docs_",), "shell": ("nl_shell",),
    "clozes": ("cloze_",), "words": ("freedict",), "names": ("cldr",), "meanings": ("wordnet",),
    "entailment": ("nli_", "paraphrase_"),
}  # fmt: skip
"""Pairs that are contrasted with one another, by their sources; what is left are "translations"."""

KIND_OF = {"code": ("docstring", "function"), "questions": ("question", "passage"), "headings": ("heading", "passage"),
           "words": ("word", "word"), "names": ("name", "name")}  # fmt: skip
"""What anchors and positives of a family are; those of others are sentences."""

Said = tuple[str, str, str, str]
"""Language, kind, source and licence of a text."""


def eval_texts() -> set[str]:
    """Every text of eval/, as it is compared."""
    found: set[str] = set()
    for path in sorted(DATA.glob("eval/**/*.parquet")):
        table = pq.read_table(path)
        for name in table.column_names:
            column = table[name]
            if pa.types.is_list(column.type):
                found.update(plain(text) for texts in column.to_pylist() for text in texts or ())
            elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                found.update(plain(text) for text in column.to_pylist() if text)
    return found - {""}


def all_pairs(limit: int | None) -> Iterator[dict]:
    """Rows of pairs/ and of mine.py whose licence and languages fit; graded sets are left out."""
    shared = [path for path in sorted(DATA.glob("pairs/*.parquet")) if not path.stem.startswith("sts_")]
    for path in [*shared, *sorted((WORK / "mined").glob("*.parquet"))]:
        table = pq.read_table(path)
        if path.stem == "dictionaries":
            table = table.take(np.random.default_rng(0).permutation(len(table))[:MAX_ENTRIES])
        for row in table.slice(0, limit).to_pylist():
            if row["licence"] in SHIPS and {row["anchor_language"], row["positive_language"]} <= LANGUAGES | CODE:
                source = path.stem if path in shared else row["source"]
                yield {"negative": None, "group": None, **row, "source": source}


def pieces(limit: int | None) -> Iterator[tuple[str, Said]]:
    """Short runs of sentences from the corpora, and of every third of them its first sentence alone."""
    for path in sorted(DATA.glob("corpora/*.parquet")):
        if path.stem not in LANGUAGES:
            continue
        room, number = PIECE_CHARS.get(path.stem, 300), 0
        for row in pq.read_table(path).slice(0, limit).to_pylist():
            if row["licence"] not in SHIPS:
                continue
            for run in cut(row["text"], room):
                number += 1
                said = (path.stem, row["source"], row["licence"])
                yield " ".join(run), (said[0], "passage", *said[1:])
                if number % 3 == 0:
                    yield run[0], (said[0], "sentence", *said[1:])


def cut(text: str, room: int) -> Iterator[list[str]]:
    """Runs of sentences of at most `room` characters together, of a paragraph each, shorter ones than 20 left out."""
    for paragraph in re.split(r"\n\s*\n", text):
        run: list[str] = []
        for sentence in [*filter(None, SENTENCES.split(" ".join(paragraph.split()))), ""]:
            if run and (not sentence or len(" ".join(run)) + len(sentence) > room):
                if len(" ".join(run)) >= 20:
                    yield run
                run = []
            if sentence:
                run.append(sentence[:room])


def clozes(limit: int | None) -> Iterator[dict]:
    """A sentence of a passage -> the passage, told apart from one beside it; half of the passages lost the sentence.

    Passages are longer than the teacher's texts, and questions about them are few: what a question shares with its
    passage is learned so in every language.
    """
    draw = random.Random(0)
    for path in sorted(DATA.glob("corpora/*.parquet")):
        if path.stem not in LANGUAGES:
            continue
        room = CLOZE_PIECES * PIECE_CHARS.get(path.stem, 300)
        rows = [row for row in pq.read_table(path).slice(0, limit).to_pylist() if row["licence"] in SHIPS]
        found: list[dict] = []
        for row in rows:
            runs = [run for run in cut(row["text"], room) if len(run) >= 3]
            for place, run in enumerate(runs):
                number = draw.randrange(len(run))
                rest = run[:number] + run[number + 1 :] if draw.random() < 0.5 else run
                beside = runs[place - 1] if place else runs[-1]
                made = {"anchor": run[number], "positive": " ".join(rest), "kind": "asymmetric", "group": None}
                made["negative"] = " ".join(beside) if beside is not run else None
                languages = {"anchor_language": path.stem, "positive_language": path.stem}
                found.append({**made, **languages, "source": f"cloze_{row['source']}", "licence": row["licence"]})
        yield from draw.sample(found, min(len(found), MAX_CLOZES))


def family_of(source: str) -> str:
    """The family of a pair."""
    return next((name for name, starts in FAMILIES.items() if source.startswith(starts)), "translations")


def texts_of(rows: Iterable[dict]) -> Iterator[tuple[str, Said]]:
    """Both sides of pairs, and negatives, as texts of their own."""
    for row in rows:
        kinds = KIND_OF.get(family_of(row["source"]), ("sentence", "sentence"))
        for side, kind in (("anchor", kinds[0]), ("positive", kinds[1]), ("negative", kinds[1])):
            language = row["anchor_language" if side == "anchor" else "positive_language"]
            if row[side]:
                yield row[side].strip(), (language, kind, row["source"], row["licence"])


def gather(found: Iterable[tuple[str, Said]], held: set[str], left_out: Counter[str]) -> dict[str, Said]:
    """Each text once, as what it was found first; what may not be used is counted."""
    texts: dict[str, Said] = {}
    for text, said in found:
        kind = said[1]
        if not 2 <= len(text) <= MAX_CHARS.get(kind, 300):
            left_out[f"{kind}: too short or too long"] += 1
        elif text not in texts and plain(text) in held:
            left_out[f"{kind}: stands in eval/"] += 1
        else:
            texts.setdefault(text, said)
    return texts


def split_pairs(pairs: Sequence[dict]) -> tuple[list[Split | None], Held]:
    """ "train" or "development" for each pair, and the texts kept back; None for what would train and repeats one.

    A pair goes by its file, its group or its English text. A closure over equal texts would not do: "Overview" joins
    all manuals, and a few words lead from any entry of a dictionary to any other.
    """
    kept_back = [is_development(key_of(row)) for row in pairs]
    held = Held(
        row[side] for row, kept in zip(pairs, kept_back, strict=True) if kept for side in ("anchor", "positive")
    )
    others = (text for row, kept in zip(pairs, kept_back, strict=True) if not kept for text in sides_of(row))
    repeating = repeats(others, held)
    splits: list[Split | None] = [
        "development" if kept else None if repeating.intersection(sides_of(row)) else "train"
        for row, kept in zip(pairs, kept_back, strict=True)
    ]
    return splits, held


def key_of(row: dict) -> str:
    """What decides on which side a pair is."""
    english = row["positive"] if row["positive_language"] == "en" != row["anchor_language"] else row["anchor"]
    return row.get("file") or row.get("group") or spelling(english)


def sides_of(row: dict) -> list[str]:
    """The texts of a pair."""
    return [row[side] for side in ("anchor", "positive", "negative") if row.get(side)]


def repeats(texts: Iterable[str], held: Held) -> set[str]:
    """Those of `texts` that equal or nearly equal a held one; looked for by two processes."""
    distinct = list(dict.fromkeys(texts))
    chunks = [distinct[start : start + PART_TEXTS] for start in range(0, len(distinct), PART_TEXTS)]
    if len(chunks) < 2:
        _hold(held)
        return set(chain.from_iterable(map(_repeated, chunks)))
    with ProcessPoolExecutor(2, get_context("fork"), _hold, (held,)) as pool:
        return set(chain.from_iterable(pool.map(_repeated, chunks)))


_held: Held
"""What a process of `repeats` compares with; forked, so that it is there without being sent."""


def _hold(held: Held) -> None:
    global _held  # noqa: PLW0603
    _held = held


def _repeated(texts: list[str]) -> list[str]:
    return [text for text, repeated in zip(texts, _held.repeated(texts).tolist(), strict=True) if repeated]


def in_order(texts: dict[str, Said], side: str) -> list[str]:
    """The texts of a side, drawn without putting back, each by its weight: kinds by share, languages by the power."""
    chosen = [text for text, said in texts.items() if said[1] in KINDS[side]]
    cells = Counter(texts[text][:2] for text in chosen)
    total: Counter[str] = Counter()
    for (_, kind), count in cells.items():
        total[kind] += count**LANGUAGE_TEMPERATURE  # pyright: ignore[reportArgumentType]
    weight = {
        cell: KINDS[side][cell[1]] * count ** (LANGUAGE_TEMPERATURE - 1) / total[cell[1]]
        for cell, count in cells.items()
    }
    weights = np.array([weight[texts[text][:2]] for text in chosen])
    order = np.argsort(np.random.default_rng(0).exponential(size=len(chosen)) / weights)
    return [chosen[number] for number in order.tolist()]


def spans(texts: dict[str, Said]) -> dict[str, Said]:
    """Spans of the sentences, questions and headings, in an order of chance; a third of them go on in another text."""
    draw = random.Random(0)
    by_language: dict[str, list[str]] = {}
    for text, said in texts.items():
        if said[1] in ("sentence", "question", "heading"):
            by_language.setdefault(said[0], []).append(text)
    found: dict[str, Said] = {}
    for language, given in by_language.items():
        for _ in range(min(MAX_SPANS, 2 * len(given))):
            text = draw.choice(given)
            words = span_of(text, language, draw.choice((1, 1, 2, 2, 3, 4, 5, 6)), draw)
            if draw.random() < 1 / 3:
                words += span_of(draw.choice(given), language, draw.randint(1, 3), draw)
            span = ("" if language in UNSPACED else " ").join(words).strip(' .,;:!?()[]"«»„“”*`')
            if len(span) > 1:
                found.setdefault(span, (language, "span", *texts[text][2:]))
    names = list(found)
    draw.shuffle(names)
    return {span: found[span] for span in names}


def vocabulary(folder: Path) -> dict[str, Said]:
    """Whole words of the teacher's tokenizer, and two to four of one script together, in an order of chance.

    Everyday words of a hundred languages, most of which no corpus here has.
    """
    pieces = [
        piece for piece, _ in json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    ]
    by_script: dict[str, list[str]] = {}
    for piece in pieces:
        word = piece.removeprefix("\u2581")
        script = next((unicodedata.name(sign, "").split(" ")[0] for sign in word if sign.isalpha()), "")
        if script and len(word) > 1 and (piece != word or script in RUN_TOGETHER):
            by_script.setdefault(script, []).append(word)
    draw = random.Random(1)
    found = [word for words in by_script.values() for word in words]
    for script, words in by_script.items():
        for _ in range(int(12 * len(words) ** 0.75) if len(words) >= 50 else 0):
            found.append(("" if script in RUN_TOGETHER else " ").join(draw.sample(words, draw.randint(2, 4))))
    found = list(dict.fromkeys(found))
    draw.shuffle(found)
    return dict.fromkeys(found, ("und", "span", "the teacher's vocabulary", "MIT"))


def span_of(text: str, language: str, size: int, draw: random.Random) -> list[str]:
    """So many words of a text in a row, or twice as many characters where words are not set apart; at most all."""
    units = list("".join(text.split())) if language in UNSPACED else text.split()
    size = min(len(units), 2 * size if language in UNSPACED else size)
    start = draw.randrange(len(units) - size + 1)
    return units[start : start + size]


def write_texts(texts: dict[str, Said], counts: dict[str, dict[str, int]]) -> None:
    """Both sides and the spans, part by part."""
    folder = WORK / "texts"
    folder.mkdir(parents=True, exist_ok=True)
    written = {side: {text: texts[text] for text in in_order(texts, side)} for side in KINDS}
    written["spans"] = {**spans(written["queries"]), **vocabulary(WORK / "teacher")}
    for side, found in written.items():
        ordered = list(found)
        for number, start in enumerate(range(0, len(ordered), PART_TEXTS)):
            part = ordered[start : start + PART_TEXTS]
            columns = zip(*(found[text] for text in part), strict=True)
            named = dict(zip(("language", "kind", "source", "licence"), map(list, columns), strict=True))
            path = folder / f"{side}-{number:03}.parquet"
            pq.write_table(pa.table({"text": part, **named}), path, compression="zstd")
        counts[side] = dict(Counter(" ".join(found[text][:2]) for text in ordered).most_common())
        print(f"{side}: {len(ordered):,}")


def write_pairs(rows: Sequence[dict], splits: Sequence[Split | None]) -> dict[str, int]:
    """The pairs of each family, as udever reads them."""
    folder = WORK / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    families: dict[str, list[Pair]] = {}
    names = ("anchor", "positive", "anchor_language", "positive_language", "kind", "group", "source", "licence")
    for row, split in zip(rows, splits, strict=True):
        if split is None:
            continue
        negatives = (row["negative"],) if row["negative"] else ()
        pair = Pair(**{name: row[name] for name in names}, negatives=negatives, split=split)
        families.setdefault(family_of(row["source"]), []).append(pair)
    for name, pairs in families.items():
        pq.write_table(table_of(pairs), folder / f"{name}.parquet", compression="zstd")
        print(f"{name}: {len(pairs):,} pairs")
    return {name: len(pairs) for name, pairs in families.items()}


def usable(rows: Iterable[dict], held: set[str], left_out: Counter[str]) -> list[dict]:
    """Pairs without a text of eval/, each once."""
    distinct: dict[tuple[str, str], dict] = {}
    for row in rows:
        sides = (row["anchor"], row["positive"], row["negative"] or "")
        if any(plain(side) in held for side in sides) or not (row["anchor"].strip() and row["positive"].strip()):
            left_out["pairs with a text of eval/, or none"] += 1
        else:
            distinct.setdefault((row["anchor"], row["positive"]), row)
    return list(distinct.values())


def main() -> None:
    """Read, filter, split, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int)
    limit = parser.parse_args().limit
    held, left_out = eval_texts(), Counter()
    print(f"{len(held):,} evaluation texts", flush=True)
    rows = usable(chain(all_pairs(limit), clozes(limit)), held, left_out)
    print(f"{len(rows):,} pairs", flush=True)
    splits, kept_back = split_pairs(rows)
    left_out["pairs that repeat development rows"] = splits.count(None)
    train = [row for row, split in zip(rows, splits, strict=True) if split == "train"]
    looked_at = {text.strip() for row in train for text in sides_of(row)}

    def found() -> Iterator[tuple[str, Said]]:
        yield from texts_of(row for row in train if family_of(row["source"]) != "clozes")
        yield from pieces(limit)

    texts = gather(found(), held, left_out)
    repeating = repeats(texts.keys() - looked_at, kept_back)
    left_out["texts that repeat development rows"] = len(repeating)
    texts = {text: said for text, said in texts.items() if text not in repeating}
    counts = {"pairs": write_pairs(rows, splits)}
    write_texts(texts, counts)
    sources = Counter((said[2], said[3]) for said in texts.values())
    sources.update((row["source"], row["licence"]) for row in rows)
    told = {"sources": [[*key, count] for key, count in sources.most_common()], "left out": left_out, **counts}
    Path(WORK / "counts.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
