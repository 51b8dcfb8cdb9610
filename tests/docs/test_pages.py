"""The pages for people keep what they promise: their Python runs, their recipes are read, what they name exists."""

import ast
import importlib
import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from udever.cli import app
from udever.training import Recipe

_spec = importlib.util.spec_from_file_location("docs_commands", Path(__file__).with_name("commands.py"))
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)

ROOT = written.ROOT
DOCS = ROOT / "docs"
QUESTIONS = [f"what does {word} mean" for word in ("cat", "dog", "house", "tree", "river", "cloud", "stone", "bread")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def udever(*arguments):
    if arguments[0] == "quantize":
        arguments += ("--no-suite",)  # tests/evaluation/test_loss.py scores it
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.output


def run(page, names=None):
    """Run every Python block of a page, one after the other, in one set of names."""
    names = {} if names is None else names
    for block in written.fenced(DOCS / page, "python"):
        exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.parametrize("page", written.PAGES, ids=lambda page: page.name)
def test_blocks_are_python_and_toml(page):
    for block in written.fenced(page, "python"):
        compile(block, page.name, "exec")
    for block in written.fenced(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("page", written.PAGES, ids=lambda page: page.name)
def test_what_blocks_import_is_there(page):
    for block in written.fenced(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("udever"):
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_every_key_of_a_recipe_is_on_its_page():
    text = "\n".join(written.fenced(DOCS / "recipe.md", "toml"))
    for section, field in Recipe.model_fields.items():
        for key in field.annotation.model_fields:
            assert re.search(rf"(^|[#\s.(\[]){key}\b", text, re.MULTILINE), f"{section}.{key}"


@pytest.mark.parametrize("page", written.PAGES, ids=lambda page: page.name)
def test_relative_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s:]+)[)#]", page.read_text(encoding="utf-8"))
    made = {"reference.md", "command-line.md"}  # by dev/site.py
    assert [link for link in links if link not in made and not (page.parent / link).exists()] == []


def test_the_tests_and_files_that_pages_name_exist():
    there = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in written.PAGES)
    functions = set(re.findall(r"`(test_\w+)`", text))
    paths = set(re.findall(r"`((?:tests|src|dev|bench)/[\w./-]*|docs/[\w.-]+)`", text))
    assert len(functions) > 20 and len(paths) > 40
    assert [name for name in sorted(functions) if f"def {name}(" not in there] == []
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_readme_is_short_and_its_results_name_their_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    results = text.partition("\n## Results")[2].partition("\n## ")[0]
    rows = [line for line in results.splitlines() if line.startswith("| ")][1:]
    assert 6 <= len(rows) <= 10
    for row in rows:
        command = row.split("|")[-2].strip().strip("`")
        assert command == "make demo" or (ROOT / command).is_file(), row


def test_the_python_page_runs(here, capsys):
    corpus = {"id": ["a", "b", "c", "d"], "text": ["copy a folder", "parse a date", "bake bread", "delete a file"]}
    pq.write_table(pa.table(corpus), "corpus.parquet")
    for command in written.commands(DOCS / "python.md"):
        if not command.inline:
            udever(*command.arguments)
    names = run("python.md")
    assert capsys.readouterr().out.startswith("[0 1]\n['a', ")
    names |= {"texts": ["a cat", "a dog"], "a": names["queries"], "b": names["documents"], "name": "seedling"}
    written_calls = calls((DOCS / "python.md").read_text(encoding="utf-8"))
    assert len(written_calls) > 20
    for call in written_calls:
        exec(compile(call.replace('"name"', '"seedling"'), call, "exec"), names)


def calls(text):
    """The calls that stand in the last column of a page's tables; an option alone is one of `encode`."""
    cells = [line.rstrip("| ").rpartition(" | ")[2] for line in text.splitlines() if line.startswith("| ")]
    codes = {code for cell in cells for code in re.findall(r"`([^`]+)`", cell)}
    found = [code for code in codes if re.match(r"(embedder|udever|Embedder)\.", code)]
    found += [f"embedder.{code}" for code in codes if code.startswith("encode_")]
    return sorted(found + [f"embedder.encode(texts, {code})" for code in codes if re.match(r"\w+=", code)])


def test_own_pairs_from_a_csv_to_scores(here):
    """docs/your-own-pairs.md as it stands: its scripts, its recipe (of two passes), its commands."""
    rows = "".join(f"{question} {n},it is number {n} of {question}\n" for n in range(12) for question in QUESTIONS)
    Path("qa.csv").write_text("question,answer\n" + rows)
    (task,) = written.fenced(DOCS / "your-own-pairs.md", "python")
    recipe = written.fenced(DOCS / "your-own-pairs.md", "toml")[0]
    assert "epochs = 3.0" in recipe
    Path("recipe.toml").write_text(recipe.replace("epochs = 3.0", "max_steps = 2").replace("= 64", "= 8"))
    ran = []
    printed = {}
    for command in written.commands(DOCS / "your-own-pairs.md"):
        if not command.inline and command.arguments[0] in ("plan", "train", "pairs", "eval"):
            ran.append(command.arguments[0])
            printed[ran[-1]] = udever(*command.arguments)
        if ran[-1:] == ["pairs"]:
            exec(compile(task, "task.py", "exec"), {})
    assert ran == ["plan", "train", "train", "pairs", "eval"]
    assert "seedling" in printed["eval"] and "bm25" in printed["eval"]
    assert "rows held out" in printed["plan"] and "held-out queries among" in printed["train"].splitlines()[-1]
    assert (here / "runs/own/training.svg").exists()


def test_the_tutorials_pairs_are_columns_of_what_adapt_writes(here):
    Path("runs/mine").mkdir(parents=True)
    Path("project").mkdir()
    functions = (
        f'def word{n}():\n    """Return the number {n} and {w}."""\n    x = {n}\n    return x\n'
        for n, w in enumerate(QUESTIONS)
    )
    Path("project/numbers.py").write_text("\n\n".join(functions))
    udever("pairs", "project", "-o", "runs/mine/pairs.parquet")
    run("tutorial.md")


def numbers(text):
    return [float(found) for found in re.findall(r"-?\d+\.\d*", text)]


def test_the_notebook_runs_top_to_bottom_and_prints_what_it_shows(capsys):
    names = {}
    cells = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    for cell in code:
        exec(compile("".join(cell["source"]), "notebook.ipynb", "exec"), names)
        printed = capsys.readouterr().out
        shown = "".join("".join(output["text"]) for output in cell["outputs"])
        assert re.sub(r"[\d.\s-]+", "#", printed) == re.sub(r"[\d.\s-]+", "#", shown)
        assert numbers(printed) == pytest.approx(numbers(shown), abs=0.02)
