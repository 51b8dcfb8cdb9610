"""The graph of an embedder: its arithmetic in torch for every family, the written files where their packages are."""

import json

import numpy as np
import pytest
import torch

from udever import Embedder
from udever.errors import ContractError, MissingExtra, ModelError
from udever.exporting import export_onnx, onnx_file
from udever.exporting.graph import Graph

TEXTS = ["hello world", "def add(a, b):\n    return a + b, and what is the sum of all those numbers?", "x"]
FAMILIES = ["bloom", "gemma3_text", "gpt_neox", "llama", "mistral", "olmo2", "qwen2", "qwen3", "bert"]


def rectangle(tokens, *, left=False):
    width = max(map(len, tokens))
    rows = [[0] * (width - len(ids)) + ids if left else ids + [0] * (width - len(ids)) for ids in tokens]
    marks = [[0] * (width - len(ids)) + [1] * len(ids) for ids in tokens]
    return torch.tensor(rows), torch.tensor(marks if left else [row[::-1] for row in marks])


@pytest.mark.parametrize("left", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize(
    ("family", "pooling"), [*((family, "last") for family in FAMILIES), ("bloom", "mean"), ("bloom", "weighted_mean")]
)
def test_the_graph_gives_the_embedders_vectors(embedders, family, pooling, left):
    changes = {"attention": "bidirectional"} if family == "bert" else {}
    embedder = embedders(family, pooling=pooling, **changes)
    with torch.no_grad():
        vectors = Graph(embedder)(*rectangle(embedder.tokenize(TEXTS, "query").ids, left=left))
    np.testing.assert_allclose(vectors.numpy(), embedder.encode_query(TEXTS), atol=1e-5)


def test_the_graph_cuts_and_scales_as_the_contract_says(embedders):
    embedder = embedders("qwen3", dimensions=8, normalize=False)
    with torch.no_grad():
        vectors = Graph(embedder)(*rectangle(embedder.tokenize(TEXTS, "query").ids))
    np.testing.assert_allclose(vectors.numpy(), embedder.encode_query(TEXTS), rtol=1e-4, atol=1e-5)
    assert vectors.shape == (3, 8)


@pytest.fixture
def with_packages(monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda _: object())


def test_without_its_packages_the_line_that_installs_them_is_named(embedders, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None if name != "onnx" else object())
    with pytest.raises(MissingExtra, match=r"needs onnxscript, onnxruntime; run pip install 'udever\[onnx\]'$"):
        export_onnx(embedders("qwen3"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("with_packages")
def test_models_that_run_padded_are_refused(embedders, tmp_path):
    with pytest.raises(ModelError, match="is a 'xglm' model, which runs padded by its own code"):
        export_onnx(embedders("xglm"), tmp_path / "out")


@pytest.mark.usefixtures("with_packages")
def test_a_prompt_left_out_of_the_mean_is_refused(make, tmp_path):
    embedder = Embedder.load(make.decoder("qwen3", tmp_path / "model"), dtype="float32", pooling="mean")
    content = {**embedder.contract.model_dump(), "pool_prompt": False}
    content["query"]["prompt"] = "find: "
    embedder.use_contract(type(embedder.contract).model_validate(content))
    with pytest.raises(ModelError, match="leaves prompts out of its mean"):
        export_onnx(embedder, tmp_path / "out")


@pytest.mark.usefixtures("with_packages")
@pytest.mark.parametrize(
    "wrong", [lambda ids, _: np.ones((len(ids), 32)), lambda ids, _: np.full((len(ids), 32), np.nan)]
)
def test_a_graph_with_other_vectors_is_not_written(embedders, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(onnx_file, "write_onnx", lambda path, _: path.write_bytes(b"graph"))
    monkeypatch.setattr(onnx_file, "onnx_runtime", lambda _: wrong)
    with pytest.raises(ContractError, match=r"in ONNX Runtime gives vectors with cosine .*; expected at least 0\.999"):
        export_onnx(embedders("qwen3"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_onnx_runtime_gives_the_same_vectors(udever, decoders, embedders, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    folder = tmp_path / "out"
    code, out, err = udever("export", "-m", decoders("gemma3_text"), "-o", folder, "--format", "onnx")
    assert (code, err) == (0, "")
    assert "cosine to the model's vectors 1.0000 at least" in out
    embedder = embedders("gemma3_text")
    run = onnx_file.onnx_runtime(folder / "model.onnx")
    for left in (False, True):
        ids, mask = rectangle(embedder.tokenize(TEXTS, "query").ids, left=left)
        np.testing.assert_allclose(run(ids.numpy(), mask.numpy()), embedder.encode_query(TEXTS), atol=1e-4)
    assert json.loads((folder / "contract.json").read_text())["fingerprint"] == embedder.fingerprint

    from tokenizers import Tokenizer

    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [theirs.encode(text).ids for text in TEXTS] == embedder.tokenize(TEXTS, "query").ids
    import onnx

    assert [entry.version for entry in onnx.load(folder / "model.onnx").opset_import if not entry.domain] == [18]


def test_openvino_gives_the_same_vectors(udever, decoders, embedders, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    code, _, err = udever("export", "-m", decoders("bloom"), "-o", tmp_path / "out", "--format", "openvino")
    assert (code, err) == (0, "")
    embedder = embedders("bloom")
    ids, mask = rectangle(embedder.tokenize(TEXTS, "query").ids)
    run = onnx_file.openvino_runtime(tmp_path / "out" / "openvino_model.xml")
    np.testing.assert_allclose(run(ids.numpy(), mask.numpy()), embedder.encode_query(TEXTS), atol=1e-4)


def test_options_of_another_format_are_refused(udever, tmp_path):
    code, _, err = udever("export", "-m", "x", "-o", tmp_path / "out", "--format", "onnx", "--precision", "q8_0")
    assert (code, err) == (2, "udever: error: --precision is for --format gguf; leave it out for onnx\n")
