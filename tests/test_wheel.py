"""The wheel in an environment that holds what its metadata names and nothing else."""

import os
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What each extra's part of udever imports, and the library's module that it uses.
EXTRAS = {
    "train": ["datasets", "torch.utils.tensorboard", "matplotlib"],
    "eval": ["mteb", "datasets", "sklearn", "udever.evaluate.run", "udever.evaluate.lexical"],
    "figures": ["matplotlib", "plotly.offline", "udever.evaluate.analyses.figure"],
    "umap": ["umap"],
    "index": ["lancedb", "udever.index.lance"],
    "qdrant": ["qdrant_client", "udever.index.qdrant"],
    "mcp": ["mcp.server.mcpserver", "udever.index.mcp"],
    "serve": ["uvicorn", "httptools", "udever.serve.app", "udever.serve.run", "udever.serve.metrics"],
    "classify": ["sklearn.linear_model", "udever.classify.fitting"],
    "ray": ["ray.data", "udever.corpus.on_ray"],
    "sentence-transformers": ["sentence_transformers", "udever.sentence_transformers"],
}


def closure(requirements: list[str]) -> dict[str, Distribution]:
    """All distributions that `requirements` bring, as installed beside us."""
    found: dict[str, Distribution] = {}
    seen, todo = set(), [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        key = (wanted.name.lower().replace("_", "-"), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        found[key[0]] = dist = distribution(wanted.name)
        for text in dist.requires or ():
            inner = Requirement(text)
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if inner.marker is None or any(inner.marker.evaluate(extra) for extra in extras):
                todo.append(inner)
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
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env").glob("lib/python*/site-packages"))
    link(closure(PROJECT["dependencies"]), site)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-compile"]
    done = subprocess.run([*pip, str(next(folder.glob("*.whl")))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return python


def run(command, **options):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment, **options)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_a_plain_install_encodes_and_searches_a_file(installed, tmp_path):
    (tmp_path / "texts.txt").write_text("copy a folder\nbake bread\n")
    code = "import udever; print(udever.__file__, udever.Embedder.load('seedling').encode(['a']).shape)"
    assert "env" in run([installed, "-c", code], cwd=tmp_path)
    udever = installed.with_name("udever")
    assert run([udever, "--version"]) == run([installed, "-m", "udever", "--version"])
    run([udever, "embed", "seedling", "texts.txt", "-o", "vectors"], cwd=tmp_path)
    assert "copy" in run([udever, "search", "duplicate a directory", "vectors", "-m", "seedling"], cwd=tmp_path)


def test_every_extra_is_tried():
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"]) - {"all", "dev"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_it_imports(extra, installed, tmp_path):
    try:
        link(closure(PROJECT["optional-dependencies"][extra]), tmp_path)
    except PackageNotFoundError as error:
        pytest.skip(f"{error} is not installed here")
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import " + ", ".join(EXTRAS[extra])
    run([installed, "-W", "ignore", "-c", code], cwd=tmp_path)
