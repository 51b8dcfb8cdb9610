"""Without an optional package: the call that needs it names the line that installs it, and commands exit with 2."""

import importlib
import json
import re
import sys

import numpy as np
import pytest

from udever.cli import main
from udever.errors import MissingExtra


@pytest.fixture
def hidden(monkeypatch):
    """Make a package, and what of it is loaded already, impossible to import."""

    def hide(*packages):
        for package in packages:
            for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
                monkeypatch.setitem(sys.modules, name, None)
            monkeypatch.setitem(sys.modules, package, None)

    return hide


@pytest.fixture
def rows(tmp_path):
    """A file of pairs, which is a task's table too."""
    (tmp_path / "en.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n')
    return tmp_path / "en.jsonl"


def evaluate_a_folder(rows):
    from udever.evaluation.mteb_task import as_mteb_task
    from udever.evaluation.tasks import FolderTask

    (rows.parent / "task.json").write_text(json.dumps({"name": "T", "type": "sts", "languages": ["eng-Latn"]}))
    as_mteb_task(FolderTask(rows.parent))


def evaluate_public(_):
    from udever.evaluation.evaluate import expand

    expand("STS22.v2")


def evaluate_an_embedder(_):
    from udever.evaluation.mteb_model import as_mteb

    as_mteb(None)


def bm25(_):
    from udever.evaluation.lexical import lexical_model

    lexical_model("bm25", "1")


def char_tfidf(_):
    from udever.evaluation.lexical import _ngrams

    _ngrams(["a"])


def sentence_transformers_model(_):
    from udever.evaluation.models_under_test import ModelOptions, model_under_test

    model_under_test("st:a/b", ModelOptions()).load()


def role_embedder(_):
    sys.modules.pop("udever.sentence_transformers", None)
    importlib.import_module("udever.sentence_transformers")


def hub_data(_):
    from udever.data_sets import open_dataset

    open_dataset("a/b")


def streamed_data(rows):
    from udever.data_sets import stream_files

    stream_files([rows])


def dataset_corpus(_):
    from udever.corpus.inputs import Source, read_records

    list(read_records(Source("a/b", "a/b", None, True, is_hub=True), ["text"]))


def ray_job(_):
    from udever.corpus.on_ray import RayRunner, _ray

    with _ray(RayRunner(lambda: None)):
        pass


def tensorboard(rows):
    from udever.training.trackers import opened

    with opened(["tensorboard"], rows.parent, "run", {}):
        pass


def classifier(_):
    from udever.classify.fitting import fit_linear

    fit_linear(np.eye(4), np.eye(4, dtype=bool)[:, :2], "many", 1.0)


def lance(_):
    from udever.search.lance import LanceStore

    LanceStore("somewhere")


def postgres(_):
    from udever.search.postgres import PostgresStore

    PostgresStore("postgresql://localhost:1/x")


def mcp_server(_):
    from udever.search.mcp import make_server

    make_server(None, lambda: None)


def umap(_):
    from udever.search.projection import project

    project(np.random.default_rng(0).random((20, 4), np.float32), method="umap")


def figure(_):
    from udever.report.style import drawing

    with drawing():
        pass


def server(_):
    from udever.server.run import serve

    serve(None)


def gguf_file(_):
    from udever.exporting.gguf_file import plan

    plan(None)


def onnx_graph(_):
    from udever.exporting.onnx_file import check

    check(None)


def openvino_graph(rows):
    from udever.exporting import export_openvino

    export_openvino(None, rows.parent / "out")


NEEDS = [
    (evaluate_a_folder, "mteb", "eval"),
    (evaluate_public, "mteb", "eval"),
    (evaluate_an_embedder, "mteb", "eval"),
    (bm25, "mteb", "eval"),
    (char_tfidf, "sklearn", "eval"),
    (sentence_transformers_model, "sentence_transformers", "sentence-transformers"),
    (role_embedder, "sentence_transformers", "sentence-transformers"),
    (hub_data, "datasets", "train"),
    (streamed_data, "datasets", "train"),
    (dataset_corpus, "datasets", "train"),
    (tensorboard, "tensorboard", "train"),
    (ray_job, "ray", "ray"),
    (classifier, "sklearn", "classify"),
    (lance, "lancedb", "index"),
    (postgres, "psycopg", "postgres"),
    (mcp_server, "mcp", "mcp"),
    (umap, "umap", "umap"),
    (gguf_file, "gguf", "gguf"),
    *((onnx_graph, package, "onnx") for package in ("onnx", "onnxscript", "onnxruntime")),
    (openvino_graph, "openvino", "openvino"),
    (figure, "matplotlib", "figures"),
    *((server, package, "serve") for package in ("fastapi", "uvicorn", "httptools", "orjson", "prometheus_client")),
]


@pytest.mark.parametrize(("call", "package", "extra"), NEEDS, ids=lambda v: getattr(v, "__name__", v))
def test_what_is_missing_is_named_with_its_line(call, package, extra, hidden, rows):
    hidden(package, *(["torch.utils.tensorboard"] if package == "tensorboard" else []))
    with pytest.raises(MissingExtra) as told:
        call(rows)
    message = str(told.value)
    assert message.endswith(f"pip install 'udever[{extra}]'")
    assert "\n" not in message
    assert {"sklearn": "scikit-learn"}.get(package, package).split("_")[0] in message


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        (["serve", "-m", "seedling"], "fastapi", "serve"),
        (["eval", "-m", "bm25", "--mteb", "STS22.v2"], "mteb", "eval"),
        (["index", ".", "-m", "seedling"], "lancedb", "index"),
    ],
    ids=lambda v: v if isinstance(v, str) else v[0],
)
def test_the_command_line_exits_with_2(command, package, extra, hidden, tmp_path, monkeypatch, capsys):
    hidden(package)
    (tmp_path / "a.py").write_text("def f():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["udever", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert re.fullmatch(rf"udever: error: .*pip install 'udever\[{extra}\]'\n", printed.err)
    assert not [path for path in tmp_path.iterdir() if path.name != "a.py"]
