"""The wheel in an environment that holds what its metadata names and nothing else."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, PathDistribution, distribution
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# What each extra's part of udever imports, and the library's module that it uses.
EXTRAS = {
    "train": ["datasets", "torch.utils.tensorboard", "matplotlib"],
    "eval": ["mteb", "datasets", "sklearn", "udever.evaluation.run", "udever.evaluation.lexical"],
    "figures": ["matplotlib", "udever.report.figure"],
    "umap": ["umap"],
    "index": ["lancedb", "udever.search.lance"],
    "postgres": ["psycopg", "udever.search.postgres"],
    "mcp": ["mcp.server.mcpserver", "udever.search.mcp"],
    "serve": ["uvicorn", "httptools", "udever.server.app", "udever.server.run", "udever.server.metrics"],
    "classify": ["sklearn.linear_model", "udever.classify.fitting"],
    "gguf": ["gguf", "transformers.modeling_gguf_pytorch_utils", "udever.model.gguf", "udever.exporting.gguf_file"],
    "llama-cpp": ["llama_cpp", "udever.exporting.gguf_run"],
    "onnx": ["onnx", "onnxscript", "onnxruntime", "udever.exporting.onnx_file"],
    "openvino": ["openvino", "udever.exporting.onnx_file"],
    "export": ["gguf", "llama_cpp", "onnx", "onnxscript", "onnxruntime", "openvino", "udever.exporting"],
    "ray": ["ray.data", "udever.corpus.on_ray"],
    "langchain": ["udever.integrations.langchain"],
    "llama-index": ["udever.integrations.llama_index"],
    "haystack": ["udever.integrations.haystack"],
    "sentence-transformers": ["sentence_transformers", "udever.sentence_transformers"],
}


class Installed(NamedTuple):
    python: Path
    metadata: Distribution  # the wheel's own


def required(dist: Distribution, extras: Iterable[str]) -> list[Requirement]:
    """What the distribution's metadata asks for on this machine, with these extras."""
    wanted = [Requirement(text) for text in dist.requires or ()]
    return [
        one
        for one in wanted
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def closure(wheel: Distribution, extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """All distributions that the wheel brings, as installed beside us."""
    found: dict[str, Distribution] = {}
    seen, todo = set(), required(wheel, extras)
    while todo:
        wanted = todo.pop()
        key = (wanted.name.lower().replace("_", "-"), frozenset(wanted.extras))
        if key not in seen:
            seen.add(key)
            found[key[0]] = dist = distribution(wanted.name)
            todo += required(dist, wanted.extras)
    return found


def link(dists: dict[str, Distribution], site: Path) -> None:
    """Every top-level file and folder of the distributions as a link in `site`."""
    for dist in dists.values():
        for top in {file.parts[0] for file in dist.files or () if file.parts[0] not in ("..", "__pycache__")}:
            target = Path(str(dist.locate_file(top)))
            if target.exists() and not (site / top).exists():
                (site / top).symlink_to(target)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A fresh environment with the wheel in it; pip itself finds that nothing is missing."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    wheel = next(folder.glob("*.whl"))
    metadata = PathDistribution(next(p for p in zipfile.Path(wheel).iterdir() if p.name.endswith(".dist-info")))
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env").glob("lib/python*/site-packages"))
    link(closure(metadata), site)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-compile"]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Installed(python, metadata)


def run(command, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}
    words = [str(word) for word in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, **options)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_a_plain_install_encodes_and_searches_a_file(installed, tmp_path):
    (tmp_path / "texts.txt").write_text("copy a folder\nbake bread\n")
    code = "import udever; print(udever.__file__, udever.Embedder.load('seedling').encode(['a']).shape)"
    where, shape = run([installed.python, "-c", code], cwd=tmp_path).split(maxsplit=1)
    assert Path(where).is_relative_to(installed.python.parents[1])
    assert shape.startswith("(1,")
    udever = installed.python.with_name("udever")
    assert run([udever, "--version"]).split() == ["udever", installed.metadata.version]
    assert run([udever, "--version"]) == run([installed.python, "-m", "udever", "--version"])
    run([udever, "embed", "texts.txt", "-m", "seedling", "-o", "vectors"], cwd=tmp_path)
    found = run([udever, "search", "duplicate a directory", "vectors", "-m", "seedling", "-k", "1"], cwd=tmp_path)
    assert "copy a folder" in found
    assert "bread" not in found


def test_what_is_not_declared_is_not_there(installed):
    """Else the tests here would prove nothing."""
    code = "import sys; from importlib.util import find_spec; print([n for n in sys.argv[1:] if find_spec(n)])"
    undeclared = ["pytest", "hypothesis", "beartype", "sklearn", "lancedb", "fastapi", "mteb", "ray", "datasets"]
    assert run([installed.python, "-c", code, *undeclared]) == "[]\n"


def test_every_extra_is_tried(installed):
    assert set(EXTRAS) == set(installed.metadata.metadata.get_all("Provides-Extra")) - {"all", "dev", "docs"}


@pytest.fixture(scope="module")
def imported(installed, tmp_path_factory):
    """What each extra's imports print in a process of its own that holds what the extra brings: nothing, or an error.

    The processes are forked from one that has imported what a plain install brings.
    """
    folder = tmp_path_factory.mktemp("extras")
    tried = {}
    for extra, modules in EXTRAS.items():
        site = folder / extra
        site.mkdir()
        try:
            link(closure(installed.metadata, [extra]), site)
        except PackageNotFoundError as error:
            (folder / f"{extra}.lacks").write_text(str(error))
        else:
            tried[extra] = [str(site), ", ".join(modules)]
    run([installed.python, "-W", "ignore", "-c", FORKS, json.dumps(tried)], cwd=folder)
    return folder


FORKS = """
import json, os, sys, traceback
import torch, udever.embedder

for extra, (site, modules) in json.loads(sys.argv[1]).items():
    child = os.fork()
    if not child:
        told = ""
        try:
            sys.path.append(site)
            exec(f"import {modules}")
        except BaseException:
            told = traceback.format_exc()
        with open(f"{extra}.told", "w") as file:
            file.write(told)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_it_imports(extra, imported):
    lacking = imported / f"{extra}.lacks"
    if lacking.exists():
        pytest.skip(f"{lacking.read_text()} is not installed here")
    assert (imported / f"{extra}.told").read_text() == ""
