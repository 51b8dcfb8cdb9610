"""Step 2: shared pairs and corpora -> texts to distil and pairs to contrast, filtered by licence, without overlap.

Writes into SEEDLING_WORK/data:

    targets.parquet   distinct English texts: `text`, `source`, `licence`, `split`
    students.parquet  what is to land on a target's vector: `text`, `language`, `target` (row number above),
                      `source`, `licence`, `split`
    contrast.parquet  pairs without an English text or with two meanings: `anchor`, `positive`, `negative`,
                      `anchor_language`, `positive_language`, `kind`, `group`, `source`, `licence`, `split`

A text equal to any text under eval/ (NFKC, lower case, spaces joined) is left out with its pair. 1 % of the
groups of texts that are equal, near-equal, of one pair or of one file are the split "development", by a hash of their
first text.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from common import CODE, DATA, LANGUAGES, SHIPS, WORK, is_development, plain

from udever.text.grouping import groups_of, spelling

MAX_CHARS = 500
"""A text to distil is cut into pieces of at most so many characters (English documents) or left out (pairs)."""

CORPUS_CHARS = 300


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


def shared_pairs() -> Iterator[dict]:
    """Rows of pairs/ whose licence allows shipping, graded sets left out."""
    for path in sorted(DATA.glob("pairs/*.parquet")):
        if path.stem.startswith("sts_"):
            continue
        for row in pq.read_table(path).to_pylist():
            if row["licence"] in SHIPS:
                row["source"] = path.stem
                yield row


def mined_pairs() -> Iterator[dict]:
    """Rows that mine.py wrote, in the same columns."""
    for path in sorted((WORK / "mined").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            languages = {row["anchor_language"], row["positive_language"]}
            if row["licence"] in SHIPS and languages <= LANGUAGES | CODE:
                yield {"negative": None, "group": None, **row}


def english_pieces() -> Iterator[tuple[str, str, str]]:
    """Sentences or short runs of them from the English corpora: text, source, licence."""
    table = pq.read_table(DATA / "corpora" / "en.parquet")
    for row in table.to_pylist():
        if row["licence"] not in SHIPS:
            continue
        for paragraph in re.split(r"\n\s*\n", row["text"]):
            piece = ""
            for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
                if piece and len(piece) + len(sentence) > CORPUS_CHARS:
                    yield piece, row["source"], row["licence"]
                    piece = ""
                piece = f"{piece} {sentence}".strip()[:MAX_CHARS]
            if len(piece) >= 20:
                yield piece, row["source"], row["licence"]


class Collector:
    """Gathers targets, students and pairs to contrast, each text once per role."""

    def __init__(self, held: set[str]) -> None:
        self.held = held
        self.counts: Counter[str] = Counter()
        self.targets: dict[str, tuple[int, str, str]] = {}
        self.students: dict[tuple[str, int], tuple[str, str, str, str]] = {}
        self.contrast: list[dict] = []

    def target(self, text: str, source: str, licence: str) -> int | None:
        """Row number of an English text, or None where it may not be used."""
        text = text.strip()
        if plain(text) in self.held or not 2 <= len(text) <= MAX_CHARS:
            self.counts[f"{source}: target left out"] += 1
            return None
        number, *_ = self.targets.setdefault(text, (len(self.targets), source, licence))
        if (text, number) not in self.students:
            self.students[text, number] = ("en", source, licence, text)
        return number

    def student(self, row: dict, text: str, language: str, target: str) -> None:
        """`text` shall land where `target`, an English text, is."""
        text = text.strip()
        if plain(text) in self.held or not 1 <= len(text) <= MAX_CHARS:
            self.counts[f"{row['source']}: text left out"] += 1
            return
        number = self.target(target, row["source"], row["licence"])
        if number is not None and text != target.strip():
            self.students.setdefault((text, number), (language, row["source"], row["licence"], target.strip()))

    def pair(self, row: dict) -> None:
        """A pair to contrast."""
        sides = [row["anchor"], row["positive"], row["negative"] or ""]
        if any(plain(side) in self.held for side in sides) or not (row["anchor"].strip() and row["positive"].strip()):
            self.counts[f"{row['source']}: pair left out"] += 1
            return
        self.contrast.append(row)


def route(row: dict, collector: Collector, waiting: dict[str, list[dict]]) -> None:
    """One pair to where it belongs: to distil, to contrast, or waiting for an English text of its group."""
    anchor, positive = row["anchor_language"], row["positive_language"]
    translated = row["kind"] == "symmetric" and anchor != positive
    if translated and anchor == "en":
        collector.student(row, row["positive"], positive, row["anchor"])
    elif translated and positive == "en":
        collector.student(row, row["anchor"], anchor, row["positive"])
    elif translated and row["group"]:
        waiting[row["group"]].append(row)
    else:
        collector.pair(row)
        for side in ("anchor", "positive", "negative"):
            language = row["positive_language" if side == "negative" else f"{side}_language"]
            if language == "en" and row[side] and len(row[side]) <= MAX_CHARS:
                collector.target(row[side], row["source"], row["licence"])


def split_groups(rows: Iterator[dict], collector: Collector) -> None:
    """Pairs with an English side, or whose group has an English text, are distilled; the rest is contrasted."""
    waiting: dict[str, list[dict]] = defaultdict(list)
    english_of: dict[str, str] = {}
    for row in rows:
        for side in ("anchor", "positive"):
            if row["kind"] == "symmetric" and row["group"] and row[f"{side}_language"] == "en":
                english_of.setdefault(row["group"], row[side])
        route(row, collector, waiting)
    for group, members in waiting.items():
        for row in members:
            if group not in english_of:
                collector.pair(row)
                continue
            for side in ("anchor", "positive"):
                collector.student(row, row[side], row[f"{side}_language"], english_of[group])


def splits(targets: Sequence[str], pairs: Sequence[dict]) -> tuple[dict[str, str], list[str]]:
    """ "train" or "development" for each target and for each pair.

    Texts that are equal in any spelling or near-equal are on one side, with all that they share a pair or a file with.
    """
    names = [row.get("file") or f"pair {number}" for number, row in enumerate(pairs)]
    sides = [(row[side], name) for row, name in zip(pairs, names, strict=True) for side in ("anchor", "positive")]
    texts = [*targets, *(text for text, _ in sides)]
    groups = groups_of(texts, [*[None] * len(targets), *(name for _, name in sides)])
    first: dict[int, str] = {}
    for group, text in zip(groups.tolist(), texts, strict=True):
        first.setdefault(group, spelling(text))
    found = ["development" if is_development(first[group]) else "train" for group in groups.tolist()]
    return dict(zip(targets, found, strict=False)), found[len(targets) :: 2]


def write(collector: Collector) -> None:
    """Write the three tables, and print what is in them."""
    folder = WORK / "data"
    folder.mkdir(parents=True, exist_ok=True)
    distinct: dict[tuple[str, str], dict] = {}
    for row in collector.contrast:
        distinct.setdefault((row["anchor"], row["positive"]), row)
    pairs = list(distinct.values())
    split, pair_splits = splits(list(collector.targets), pairs)
    targets = [
        {"text": text, "source": source, "licence": licence, "split": split[text]}
        for text, (_, source, licence) in collector.targets.items()
    ]
    pq.write_table(pa.Table.from_pylist(targets), folder / "targets.parquet", compression="zstd")
    students = [
        {"text": text, "language": language, "target": number, "source": source, "licence": licence, "split": split[to]}
        for (text, number), (language, source, licence, to) in collector.students.items()
    ]
    pq.write_table(pa.Table.from_pylist(students), folder / "students.parquet", compression="zstd")
    columns = ("anchor", "positive", "negative", "anchor_language", "positive_language", "kind", "group", "source")
    contrast = [
        {**{name: row[name] for name in columns}, "licence": row["licence"], "split": side}
        for row, side in zip(pairs, pair_splits, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(contrast), folder / "contrast.parquet", compression="zstd")
    print(f"targets {len(targets):,}  students {len(students):,}  contrast {len(contrast):,}")
    for name, rows in (("students", students), ("contrast", contrast)):
        for source, count in Counter(row["source"] for row in rows).most_common():
            print(f"  {name}  {source:32} {count:>9,}")
    for language, count in Counter(row["language"] for row in students).most_common():
        print(f"  language {language:10} {count:>9,}")
    for reason, count in collector.counts.most_common():
        print(f"  {reason}: {count:,}")


def main() -> None:
    """Read, filter, split, write."""
    collector = Collector(eval_texts())
    print(f"{len(collector.held):,} evaluation texts")
    for rows in (shared_pairs(), mined_pairs()):
        split_groups(rows, collector)
    for text, source, licence in english_pieces():
        collector.target(text, source, licence)
    write(collector)


if __name__ == "__main__":
    main()
