import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from udever.cli import app
from udever.errors import DataError
from udever.evaluation.results import TaskRecord, write_model, write_task
from udever.evaluation.statistics import Items


@pytest.fixture
def results(tmp_path):
    for name, share in (("small", 40), ("large", 60)):
        folder = tmp_path / "results" / name / "r"
        write_model(folder, {"name": name, "revision": "r", "n_parameters": share, "embed_dim": 8})
        values = np.array([1.0] * share + [0.0] * (100 - share))
        entry = {"hf_subset": "en", "languages": ["eng-Latn"], "main_score": share / 100}
        items = [Items("test", "en", "mean", values)]
        write_task(folder, TaskRecord("Find", "Retrieval", "mrr", "d", {"test": [entry]}, 1.0, "2", items))
    return tmp_path / "results"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_report_from_the_command_line(results, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("model,kind,size\nsmall,symmetric,1m\nlarge,both,1m\n")
    done = run("report", results, "-o", tmp_path / "out", "--labels", labels, "--title", "Mine")
    assert done.exit_code == 0 and "2 models" in done.output
    assert "without Train language and test language" in done.output
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "<h1>Mine</h1>" in text and "large minus small" in text
    assert (tmp_path / "out" / "figures" / "kinds.csv").is_file()


@pytest.mark.parametrize(("option", "content"), [("--labels", "m = 1"), ("--shares", "x"), ("--plane", None)])
def test_a_broken_input_leaves_nothing_behind(results, tmp_path, option, content):
    path = tmp_path / "given.toml"
    if content:
        path.write_text(content)
    with pytest.raises(DataError, match=r"given\.toml"):
        run("report", results, "-o", tmp_path / "out", option, path)
    assert not (tmp_path / "out").exists()


def test_results_that_are_none_are_an_error_of_one_line(tmp_path):
    command = [sys.executable, "-m", "udever", "report", str(tmp_path / "none"), "-o", str(tmp_path / "out")]
    (tmp_path / "none").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"udever: error: {tmp_path / 'none'} holds no model_meta.json")


def test_plane_from_the_command_line(tmp_path, decoders):
    texts = {"eng-Latn": ["one", "two", "three"], "fra-Latn": ["un", "deux", "trois"]}
    pq.write_table(pa.table(texts), tmp_path / "texts.parquet")
    models = ("--before", decoders("bloom"), "-m", decoders("llama"))
    done = run("plane", tmp_path / "texts.parquet", *models, "-o", tmp_path / "out")
    assert done.exit_code == 0 and "3 texts in eng-Latn, fra-Latn" in done.output
    assert "nearest neighbour of a text is its translation for" in done.output
    assert len((tmp_path / "out" / "plane.csv").read_text("utf-8").splitlines()) == 1 + 2 * 6
