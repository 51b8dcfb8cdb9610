"""What CONTRIBUTING says an addition takes, tried: a family, an endpoint and a task in the places it names."""

import importlib.util
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel
from typer.testing import CliRunner

from udever import Embedder
from udever.cli import app
from udever.model import backbone
from udever.model.llama import FAMILIES, LlamaShaped
from udever.server import endpoints
from udever.server.app import create_app
from udever.server.encoding import dumps
from udever.server.service import Service

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
