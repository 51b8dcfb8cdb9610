import gzip
import json
import runpy
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# One fake embedder for the three folders that need it; test folders are no packages to import from.
embedder = runpy.run_path(str(Path(__file__).parents[1] / "search" / "conftest.py"))["embedder"]


TABLES = {
    "sts": {
        "en": [
            {"sentence1": f"a {n}", "sentence2": f"b {n % 3}", "score": (n * 7) % 5, "split": "test" if n else "dev"}
            for n in range(13)
        ]
    },
    "bitext": {
        "deu-eng": [{"sentence1": f"Satz {n}", "sentence2": f"sentence {n}"} for n in range(8)],
        "fra-eng": [{"sentence1": f"phrase {n}", "sentence2": f"sentence {n}"} for n in range(8)],
    },
    "classification": {
        "en": [
            {
                "text": f"{'warm' if n % 2 else 'cold'} day {n}",
                "label": str(n % 2),
                "split": "train" if n < 20 else "test",
            }
            for n in range(32)
        ]
    },
    "pair_classification": {
        "en": [
            {"sentence1": f"one {n}", "sentence2": f"one {n}" if n % 2 else f"other {n * 5}", "label": n % 2}
            for n in range(12)
        ]
    },
    "clustering": {"en": [{"text": f"{'sea' if n % 2 else 'land'} {n}", "label": f"l{n % 2}"} for n in range(20)]},
    "retrieval": {
        "en.corpus": [{"id": f"d{n}", "title": "", "text": f"document {n}"} for n in range(9)],
        "en.queries": [{"id": f"q{n}", "text": f"query {n}"} for n in range(5)],
        "en.qrels": [{"query_id": f"q{n}", "corpus_id": f"d{n}", "score": 1} for n in range(5)],
    },
    "crosslingual_retrieval": {
        f"{language}.{part}": rows
        for language in ("de", "en")
        for part, rows in {
            "corpus": [{"id": f"d{n}", "text": f"{language} document {n}"} for n in range(6)],
            "queries": [{"id": f"q{n}", "text": f"{language} query {n}"} for n in range(4)],
            "qrels": [{"query_id": f"q{n}", "corpus_id": f"d{n}"} for n in range(4)],
        }.items()
    },
    "reranking": {
        "en": [
            {"query": f"ask {n}", "positives": [f"good {n}"], "negatives": [f"bad {n}", f"worse {n}"]} for n in range(6)
        ]
    },
}


def write_task(folder, kind, tables=None, *, suffix=".jsonl", **spec):
    """A task folder of `kind`; `tables` by file stem, `spec` replaces keys of task.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"name": folder.name, "type": kind, "languages": ["eng-Latn", "deu-Latn", "fra-Latn"], **spec}
    (folder / "task.json").write_text(json.dumps(content))
    for stem, rows in (TABLES[kind] if tables is None else tables).items():
        path = folder / f"{stem}{suffix}"
        if suffix == ".jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return folder


def rewrite(path, suffix):
    """The rows of a JSONL file as a file beside it of the format that `suffix` names."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    other = path.with_suffix(suffix)
    if suffix.lower() == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), other)
    elif suffix.lower() in (".csv", ".tsv"):
        separator = "," if suffix.lower() == ".csv" else "\t"
        quoted = str if separator == "\t" else lambda value: '"' + str(value).replace('"', '""') + '"'
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        other.write_text("".join(separator.join(map(quoted, line)) + "\n" for line in lines))
    else:
        other.write_bytes(gzip.compress(path.read_bytes()) if suffix.lower().endswith("gz") else path.read_bytes())
    return other


@pytest.fixture(scope="session")
def tiny():
    """Tiny evaluation tasks: `tiny.write(folder, kind)` and the tables it writes, `tiny.rewrite(path, suffix)`."""
    return SimpleNamespace(write=write_task, rewrite=rewrite, tables=TABLES, kinds=tuple(TABLES))


def hash_vectors(texts, role, prompt):
    """A vector of a text's words, told apart by role and prompt: texts that share words are near."""
    found = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in [*text.split(), f"{role}{prompt}"]:
            found[row, zlib.crc32(word.encode()) % 64] += 1
    return found


@pytest.fixture
def bag_of_words():
    """A function that embeds (see `mteb_model.Embed`) and notes its calls in `.calls`."""

    def embed(texts, role, prompt):
        embed.calls.append((list(texts), role, prompt))
        return hash_vectors(texts, role, prompt)

    embed.calls = []
    return embed


@pytest.fixture
def mteb_model(bag_of_words):
    """Options -> an mteb model over `bag_of_words`."""

    def make(**options):
        from udever.evaluation.mteb_meta import model_meta
        from udever.evaluation.mteb_model import MtebModel

        meta = model_meta(name="words", revision="1", framework="NumPy", dimensions=64)
        return MtebModel(options.pop("embed", bag_of_words), meta, **options)

    return make
