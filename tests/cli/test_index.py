import json
import shutil

import pytest
from typer.testing import CliRunner

from udever.cli import app
from udever.errors import ContractError, DataError, RecipeError, UdeverError
from udever.search.index import Index, open_searchable, sealed

TREE = {
    "src/a.py": "def parse_json(text):\n    return load(text)\n",
    "src/b.go": "package main\n\nfunc send(url string) {\n\tdial(url)\n}\n",
    "docs/guide.md": "# Guide\n\nHow to parse.\n",
}
FLOAT = ["--dtype", "float32", "--device", "cpu"]


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def tree(tmp_path, decoders, monkeypatch):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    run("index", "-m", decoders("llama"), *FLOAT)
    return tmp_path


def test_index_search_and_tune_from_the_command_line(tree, decoders, monkeypatch):
    assert "0 files changed" in run("index", *FLOAT)
    said = run("search", "parse json", "-k", "2", *FLOAT)
    assert len([line for line in said.splitlines() if line.startswith("0.")]) == 2
    (tree / "docs" / "inner").mkdir()
    monkeypatch.chdir(tree / "docs" / "inner")
    lines = run("search", "send", "--mode", "words", "--path", "src/**", "--language", "go", "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["src/b.go:3-5"]
    assert "      3  func send(url string) {" in run("search", "send", tree, "--mode", "words", "--lines", "1")
    (tree / "queries.txt").write_text("how to parse\n")
    said = run("index-tune", tree, "--queries", tree / "queries.txt", "--recall", "0.9", *FLOAT)
    assert "chosen: exact, 32 dimensions" in said
    with pytest.raises(ContractError, match="--rebuild"):
        run("search", "x", tree, "-m", decoders("qwen3"), *FLOAT)
    with pytest.raises(ContractError, match="--rebuild"):
        run("index", tree, "-m", decoders("qwen3"), *FLOAT)
    assert "4 files changed" in run("index", tree, "-m", decoders("qwen3"), "--rebuild", *FLOAT)


def test_the_seal_says_which_model_will_be_needed(tree, monkeypatch):
    found = sealed(None)
    assert found is not None and found.manifest == Index.open().manifest == sealed(str(tree)).manifest
    assert Index.open(tree).manifest == open_searchable(tree).manifest == found.manifest, "a path is a place too"
    assert found.own_model() == Index.open().own_model()
    (tree / ".udever" / "index" / ".seal.json").write_text("{")
    assert sealed(None) is None and sealed(str(tree / "docs")) is None and sealed("memory://x") is None


def test_an_embeddings_file_is_searched_too(tree, decoders):
    from tests.search.embeddings import write_embeddings
    from udever.embedder import Embedder
    from udever.search.embeddings_file import Header

    embedder = Embedder.load(decoders("llama"), dtype="float32", device="cpu")
    texts = ["one thing", "another thing"]
    header, vectors = Header(embedder.fingerprint, 32, "document"), embedder.encode_document(texts)
    write_embeddings(tree / "v.parquet", header, texts, vectors, sources=[None, "x"], ids=["1", "2"])
    said = run("search", "one thing", tree / "v.parquet", "-m", decoders("llama"), "--json", *FLOAT)
    assert {json.loads(line)["id"] for line in said.splitlines()} == {"1", "2"}
    assert "x, row 2\n" in run("search", "another", tree / "v.parquet", "--mode", "words")
    with pytest.raises(RecipeError, match="-m MODEL"):
        run("search", "x", tree / "v.parquet")
    with pytest.raises(DataError, match="compared whole"):
        run("index-tune", tree / "v.parquet")
    with pytest.raises(DataError, match="--root is for an index"):
        run("mcp", tree / "v.parquet", "--root", tree, "-m", "seedling")
    said = run("search", "another", tree / "v.parquet", "--mode", "words", "--json")
    assert [json.loads(line)["id"] for line in said.splitlines()] == ["2"]
    with pytest.raises(DataError, match="stores no kind"):
        run("search", "x", tree / "v.parquet", "--mode", "words", "--kind", "text")


@pytest.mark.parametrize("role", ["document", "query", "symmetric"])
def test_an_embeddings_file_of_any_role_is_searched(role, tmp_path, decoders):
    from tests.search.embeddings import write_embeddings
    from udever.embedder import Embedder
    from udever.search.embeddings_file import Header

    embedder = Embedder.load(decoders("llama"), dtype="float32", device="cpu")
    texts = ["one thing", "another thing"]
    header, vectors = Header(embedder.fingerprint, 32, role), embedder.encode(texts, prompt_name=role)
    write_embeddings(tmp_path / "v.parquet", header, texts, vectors)
    said = run("search", "one thing", tmp_path / "v.parquet", "-m", decoders("llama"), "--json", *FLOAT)
    scores = {json.loads(line)["text"]: json.loads(line)["score"] for line in said.splitlines()}
    asked = embedder.encode("one thing", prompt_name="query" if role == "document" else role)
    assert [scores[text] for text in texts] == pytest.approx((vectors @ asked).tolist(), abs=1e-5)


def test_what_has_gone_and_what_matches_nothing_is_told(tree, decoders):
    run("index", "src", "docs", "-o", "idx", "-m", decoders("llama"), *FLOAT)
    shutil.rmtree("docs")
    said = run("index", "src", "-o", "idx", "--exclude", "scr/a.py", *FLOAT).splitlines()
    assert "  docs: gone" in said
    assert "  pattern: matches nothing (scr/a.py)" in said


def test_mistakes_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no index in"):
        run("search", "x")
    with pytest.raises(DataError, match="-m MODEL"):
        run("index", tmp_path)


@pytest.mark.parametrize(("named", "told"), [(["-m", "seedlinx"], "mean 'seedling'"), ([], "name .* -m MODEL")])
@pytest.mark.parametrize("output", ["new", "tree/.udever/index"])
def test_a_model_that_is_none_leaves_no_index_behind(named, told, output, tmp_path, monkeypatch):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text(TREE["src/a.py"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = sorted(tmp_path.rglob("*"))
    where = ["-o", tmp_path / output] if output == "new" else []
    with pytest.raises(UdeverError, match=told):
        run("index", tmp_path / "tree", *named, *where)
    assert sorted(tmp_path.rglob("*")) == before
