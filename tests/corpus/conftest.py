"""A step without a model, and texts to do it on."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from udever.corpus import Columns, Output, Reading, run_job


class FakeStep:
    """Unit vectors out of hashes of texts. `seen` are the texts it embedded, `failing` those it cannot."""

    def __init__(self, dimensions=8, kind="<f4", fingerprint="abc", failing=()):
        self.columns = np.dtype([("embedding", kind, (dimensions,)), ("num_tokens", "<i4"), ("truncated", "?")])
        self.identity = {
            "udever.fingerprint": fingerprint,
            "udever.dimensions": str(dimensions),
            "udever.role": "document",
            "udever.unit": "true",
        }
        self.failing = failing
        self.seen = []

    def prepare(self, texts):
        return list(texts)

    def run(self, texts, tick):
        self.seen += texts
        rows = np.empty(len(texts), self.columns)
        for row, text in enumerate(texts):
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
            vector = np.random.default_rng(seed).normal(size=rows["embedding"].shape[1])
            rows["embedding"][row] = vector / np.linalg.norm(vector)
        rows["num_tokens"] = [min(len(text.split()), 8) for text in texts]
        rows["truncated"] = [len(text.split()) > 8 for text in texts]
        tick(1.0, int(rows["num_tokens"].sum()))
        return Output(rows, {row: "no vector" for row, text in enumerate(texts) if text in self.failing})

    def derived(self, rows):
        return {}


@pytest.fixture
def fake_step():
    return FakeStep


@pytest.fixture
def texts():
    """70 texts, some of them more than once, near one another and far apart."""
    return [
        f"text number {row % 50} " + "word " * (row % 12 if row % 50 == row else row % 50 % 12) for row in range(70)
    ]


def write_jsonl(path, texts, first=0):
    path.write_text(
        "".join(json.dumps({"id": f"t{row}", "text": text}) + "\n" for row, text in enumerate(texts, first))
    )
    return path


def read_output(folder):
    """The whole output in input order, by the manifest."""
    manifest = json.loads((folder / "_manifest.json").read_text())
    tables = [pq.read_table(folder / shard["file"]) for shard in manifest["shards"]]
    return [{name: row[name] for name in row} for table in tables for row in table.to_pylist()]


@pytest.fixture
def corpus():
    """Writing inputs, running jobs in windows of ten rows, reading outputs."""

    def run(step, inputs, output, **options):
        given = inputs if isinstance(inputs, list) else [inputs]
        columns = Columns(**options.pop("columns", {}))
        reading = Reading([str(path) for path in given], columns, options.pop("split", None), options.pop("rows", 10))
        return run_job(step, reading, output, show_progress=False, **options)

    return SimpleNamespace(jsonl=write_jsonl, run=run, read=read_output)
