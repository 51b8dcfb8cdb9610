"""What CONTRIBUTING says an addition takes, tried, each in the places it names."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from pydantic import BaseModel
from typer.testing import CliRunner

from udever import Embedder, Index, Recipe
from udever.cli import app
from udever.cli.app import Kind
from udever.errors import DataError
from udever.model import backbone
from udever.model.llama import FAMILIES, LlamaShaped
from udever.pairs.mining import KINDS, mine, pipeline
from udever.pairs.mining.within import MINERS
from udever.pairs.mixture import Batch
from udever.pairs.schema import Pair
from udever.pairs.sources import Traits
from udever.search import locate
from udever.search.store import FoundChunk
from udever.search.update import IndexSettings, update_index
from udever.server import endpoints
from udever.server.app import create_app
from udever.server.encoding import dumps
from udever.server.service import Service
from udever.training import objectives
from udever.training.grad_cache import Stepper
from udever.training.memory import Budget

_spec = importlib.util.spec_from_file_location("families", Path(__file__).parents[1] / "model" / "test_families.py")
families = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(families)


@pytest.mark.parametrize(("name", "fits"), [("SeedOss", True), ("Olmo", False)])
def test_a_family_is_one_name_and_the_test_at_load_decides(name, fits, monkeypatch):
    model = families.make_tiny(name)
    assert model.config.model_type not in FAMILIES
    monkeypatch.setattr(backbone, "FAMILIES", FAMILIES | {model.config.model_type})
    chosen = families.check(model, families.texts_of(), atol=1e-4, rtol=1e-4)
    assert isinstance(chosen, LlamaShaped) == fits


def lists(repository):
    """The words of a function's name that makes a list -> its text."""
    for piece in repository.pieces:
        if piece.kind == "function" and piece.name.startswith("list_"):
            yield Pair(piece.name.replace("_", " "), piece.text, source=piece.source), piece


def test_a_miner_is_a_function_and_a_row(tmp_path, monkeypatch):
    assert [kind.value for kind in Kind] == list(KINDS), "--kind offers what is mined"
    (tmp_path / "a.py").write_text("def list_files(root):\n    return sorted(root)\n\n\ndef other():\n    return 1\n")
    monkeypatch.setitem(MINERS, "lists", lists)
    monkeypatch.setitem(pipeline._WHAT, "lists", "functions that make a list")
    monkeypatch.setitem(pipeline._SUFFIXES, "lists", (".py",))
    monkeypatch.setattr(pipeline, "KINDS", (*KINDS, "lists"))
    found = mine([tmp_path], kinds=["lists"], show_progress=False)
    assert [(pair.anchor, pair.split) for pair in found.pairs] == [("list files", "train")]
    assert found.counts == {"lists": 1} and found.pairs[0].group
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"looked for functions that make a list in \.py; skipped nothing"):
        mine([tmp_path / "empty"], kinds=["lists"], show_progress=False)


class WithSpread(objectives.LossSettings):
    spread: float = 0.0


class RecipeWithSpread(Recipe):
    loss: WithSpread = WithSpread()


def spread(sides, ids, settings, rows):
    """The mean square of each anchor's cosines with all anchors: the less, the wider they are spread."""
    return settings.spread * (sides.anchors[rows] @ sides.anchors.T).square().mean(1) if settings.spread else None


RECIPE = """
[model]
base = "seedling"
[[data.datasets]]
path = "a.jsonl"
[output]
folder = "out"
[training]
precision = "float32"
[loss]
spread = 0.5
"""


def test_an_objective_is_a_setting_a_function_and_a_row(tmp_path, monkeypatch, decoders):
    monkeypatch.setattr(objectives, "TERMS", (*objectives.TERMS, spread))
    (tmp_path / "a.toml").write_text(RECIPE)
    recipe = RecipeWithSpread.read(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text(recipe.to_toml())
    assert RecipeWithSpread.read(tmp_path / "b.toml") == recipe, "it stands in the recipe beside a checkpoint"

    embedder = Embedder.load(decoders("bloom"), dtype="float32")
    pairs = tuple(Pair(f"question {n}", f"answer {n}") for n in range(4))
    batch = Batch(0, pairs, (Traits("d"),) * len(pairs))

    def step(loss, *budget):
        embedder.backbone.zero_grad()
        outcome = Stepper(embedder, recipe.training, loss, Budget(*budget)).accumulate(batch)
        return outcome.loss, torch.cat([p.grad.flatten() for p in embedder.backbone.parameters() if p.grad is not None])

    whole, gradient = step(recipe.loss, 1000, 1000)
    cached, same = step(recipe.loss, 8, 0)
    plain, other = step(WithSpread(), 1000, 1000)
    anchors = embedder.encode_query([pair.anchor for pair in pairs], normalize_embeddings=True)
    assert whole - plain == pytest.approx(0.5 * np.square(anchors @ anchors.T).mean(), rel=1e-3)
    assert cached == pytest.approx(whole, rel=1e-5), "GradCache works with it unchanged"
    torch.testing.assert_close(same, gradient, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(other, gradient, rtol=1e-3, atol=1e-5)


class DictStore:
    """A store in a dictionary, as small as one can be: `toy://name`."""

    folder = None
    kept: ClassVar[dict[str, Any]] = {}

    def __init__(self, uri):
        self.uri = uri
        self.held = self.kept.setdefault(uri, {"manifest": None, "files": {}, "chunks": {}})

    def read_manifest(self):
        return self.held["manifest"]

    def write_manifest(self, text):
        self.held["manifest"] = text

    def create(self, dimensions):
        self.held.update(manifest=None, files={}, chunks={})

    def files(self):
        return dict(self.held["files"])

    def put_files(self, records):
        self.held["files"] |= {record.path: record for record in records}

    def forget_files(self, paths):
        self.held["files"] = {path: record for path, record in self.files().items() if path not in paths}

    def replace(self, paths, rows, embeddings):
        kept = {name: held for name, held in self.held["chunks"].items() if held[0].path not in paths}
        self.held["chunks"] = kept | {row.id: (row, one) for row, one in zip(rows, embeddings, strict=True)}

    def known(self, digests):
        chunks = self.held["chunks"].values()
        return {row.digest: (one, row.truncated) for row, one in chunks if row.digest in digests}

    def _passing(self, where):
        wanted = {"language": where.languages, "kind": where.kinds}
        for row, one in self.held["chunks"].values():
            if all(values is None or getattr(row.chunk, name) in values for name, values in wanted.items()):
                yield row, one

    def _best(self, rows, scores, number):
        order = np.argsort(-scores, kind="stable")[:number]
        return [FoundChunk(rows[i].id, rows[i].path, rows[i].chunk, float(scores[i])) for i in order]

    def nearest(self, embedding, top_k, where, tuning):
        passing = list(self._passing(where))
        return self._best([row for row, _ in passing], np.stack([one for _, one in passing]) @ embedding, top_k)

    def matching(self, words, top_k, where):
        rows = [row for row, _ in self._passing(where)]
        scores = np.array([sum(row.words.split().count(word) for word in words) for row in rows])
        return [found for found in self._best(rows, scores, top_k) if found.score > 0]

    def take(self, ids):
        rows = [self.held["chunks"][name][0] for name in ids if name in self.held["chunks"]]
        return self._best(rows, np.zeros(len(rows)), len(rows))

    def count(self, where=None):
        return len(self.held["chunks"]) if where is None else len(list(self._passing(where)))

    def is_unsettled(self):
        return False

    def optimise(self):
        pass


def test_a_store_is_a_class_and_a_scheme(tmp_path, monkeypatch):
    module = ModuleType("toy_store")
    module.DictStore = DictStore
    monkeypatch.setitem(sys.modules, "toy_store", module)
    monkeypatch.setitem(locate.STORES, "toy", ("toy_store", "DictStore"))
    (tmp_path / "a.py").write_text("def parse_date(text):\n    return text\n")
    (tmp_path / "b.go").write_text("package b\n\nfunc Send() {\n\tdial()\n}\n")
    embedder = Embedder.load("seedling")
    for changed in (2, 0):
        done = update_index(locate.open_store("toy://one"), [tmp_path], lambda _: embedder, IndexSettings("seedling"))
        assert done.num_changed == changed
    hits = Index.open("toy://one").search(embedder, "parse a date", 5)
    assert hits[0].id == "a.py:1-2"


class CountRequest(BaseModel):
    input: str


class CountReply(BaseModel):
    num_tokens: int


async def count(service, request):
    """Tokens of a text, markers included."""
    return dumps({"num_tokens": len(service.embedder.tokenize([request.input], "document").ids[0])})


def test_an_endpoint_is_a_function_and_a_row(monkeypatch):
    row = endpoints.Endpoint("/v1/count", CountRequest, CountReply, count)
    monkeypatch.setattr(endpoints, "ENDPOINTS", (*endpoints.ENDPOINTS, row))
    service = Service(Embedder.load("seedling"), name="seedling")
    with TestClient(create_app(service), base_url="http://localhost") as client:
        assert client.post("/v1/count", json={"input": "one two"}).json()["num_tokens"] >= 3
        refused = client.post("/v1/count", json={"input": 3})
        assert refused.status_code == 422 and refused.json()["error"]["param"] == "input"
        assert "/v1/count" in client.get("/openapi.json").json()["paths"]


def test_a_task_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("tasks/mine")
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(json.dumps({"name": "mine", "type": "sts", "languages": ["eng-Latn"]}))
    rows = [("a cat", "a cat", 5), ("a cat", "interest rates", 0), ("a dog", "the dog", 4)]
    lines = [json.dumps({"sentence1": a, "sentence2": b, "score": score}) for a, b, score in rows]
    (folder / "en.jsonl").write_text("\n".join(lines))
    done = CliRunner().invoke(app, ["eval", "-m", "seedling", "--data", "tasks", "-o", "results"])
    assert done.exit_code == 0 and "cosine_spearman" in done.output
