"""The main job and the command line, end to end on a small folder."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from udever.cli import app
from udever.errors import DataError
from udever.evaluation.held_out import read_held_out
from udever.evaluation.results import paired_intervals, read_scores
from udever.evaluation.tasks import find_tasks

VERBS = ["copy", "parse", "split", "read", "sort", "hash", "open", "join", "close", "merge", "fetch", "store"]
NOUNS = ["tree", "date", "line", "key", "file", "socket", "path", "table"]


@pytest.fixture(scope="module")
def project(documented):
    return documented(VERBS, NOUNS)


@pytest.fixture(scope="module")
def adapted(project, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "out"
    arguments = ["adapt", str(project), "-o", str(output), "--base", "fresh", "--epochs", "2", "--batch-size", "16"]
    result = CliRunner().invoke(
        app, [*arguments, "--held-out", "0.25", "--ask", "merge two tables?"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return output, result.output


def test_adapt_writes_model_table_report_and_answers(adapted):
    output, printed = adapted
    (task,) = find_tasks(output / "held_out")
    assert len(task.read("pairs", "corpus")["id"]) == len(NOUNS) * len(VERBS)  # trained functions are searched too
    assert 0 < len(task.read("pairs", "queries")["id"]) < len(NOUNS) * len(VERBS) / 2
    found = {model.name: model for model in read_scores([output / "results"])}
    assert set(found) == {
        "baseline/bm25", "local/base", "local/adapted", "local/base + words", "local/adapted + words"
    }  # fmt: skip
    assert all(0 <= model.scores[0].value <= 1 for model in found.values())
    paired_intervals(found["local/adapted"], found["local/base"])
    table = read_held_out(output / "results", [task], {"words": "baseline/bm25", "it": "adapted"})
    assert table["it"].means["mrr@10"] == pytest.approx(found["local/adapted"].scores[0].value, abs=1e-5)
    with pytest.raises(DataError, match="no scores of 'nobody'"):
        read_held_out(output / "results", [task], {"it": "nobody"})
    for row in ("words", "base", "adapted", "base + words", "adapted + words"):
        assert f" {row} " in printed
    report = (output / "report.html").read_text()
    assert "merge two tables?\n" in printed and "merge two tables?" in report
    assert "Questions that got better" in report
    assert f"written: {output}/model, report.html, results, held_out, pairs.parquet, studied.parquet\n" in printed
    assert (output / "pairs.parquet").is_file()
    assert not [path for path in output.parent.iterdir() if path.name.endswith(".tmp")]


def test_the_model_loads_with_its_recipe_and_says_no_temporary_path(adapted):
    from udever import Embedder
    from udever.training.recipe import Recipe

    output, _ = adapted
    embedder = Embedder.load(output / "model")
    assert embedder.encode_query(["merge the table"]).shape == (1, embedder.dimensions)
    recipe = Recipe.read(output / "model" / "recipe.toml")
    assert recipe.model.base == "fresh" and recipe.training.epochs == 2  # as was asked for, few pairs or many
    assert recipe.output.folder == str(output / "model")
    card = (output / "model" / "README.md").read_text()
    assert "## Held-out questions" in card and "| base | " in card and "| adapted | " in card
    scored = read_held_out(output / "results", find_tasks(output / "held_out"), {"adapted": "adapted"})["adapted"]
    hubs = {found.metric_type: found.metric_value for found in ModelCard(card).data.eval_results}
    assert hubs["mrr_at_10"] == round(scored.means["mrr@10"], 4) and hubs.keys() >= {"recall_at_1", "recall_at_20"}
    training = json.loads((output / "model" / "training.json").read_text())
    assert [dataset["name"] for dataset in training["datasets"]] == ["pairs", "studied"]
    assert training["tuning"] == "full" and training["datasets"][0]["kinds"].keys() == {"asymmetric"}
    assert training["datasets"][0]["languages"].keys() == {"? -> python-Code"}
    assert "/tmp/" not in card.replace(str(output), "")


def test_a_csv_of_questions_and_answers_is_enough(adapted, tmp_path, udever, monkeypatch):
    model = adapted[0] / "model"
    rows = [f"how do I {v} a {n},call {v}_{n} and then {n} is {v}ed" for v in VERBS for n in NOUNS]
    (tmp_path / "qa.csv").write_text("\n".join(["question,answer", *rows, "nothing,"]))
    monkeypatch.chdir(tmp_path)
    arguments = ["adapt", "qa.csv", "-o", "runs/qa", "--base", model, "--epochs", "1", "--batch-size", "16"]
    code, _, err = udever(*arguments)
    assert code == 2 and "'positive' is empty in 1 of 97 rows (row 96)" in err and "--skip-empty" in err
    code, out, err = udever(*arguments, "--skip-empty")
    assert code == 0, err
    assert "qa.csv: question -> answer" in out
    (task,) = find_tasks(tmp_path / "runs/qa/held_out")
    assert len(task.read("pairs", "corpus")["id"]) == len(VERBS) * len(NOUNS)
    assert "written: runs/qa/model, report.html, results, held_out, pairs.parquet\n" in out
    assert "row: no anchor or positive" in (tmp_path / "runs/qa/report.html").read_text()
    assert (tmp_path / "runs/qa/model/model.safetensors").is_file()
    code, out, _ = udever("pairs", "qa.csv", "-o", "pairs.parquet", "--skip-empty")
    assert code == 0 and "96 pairs from 1 file," in out


def test_embed_and_search(adapted, tmp_path, udever):
    output, _ = adapted
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"id": f"n{i}", "text": f"{v} it"}) + "\n" for i, v in enumerate(VERBS)))
    vectors = tmp_path / "vectors.parquet"
    code, _, err = udever("embed", texts, "-m", output / "model", "-o", vectors)
    assert code == 0, err
    code, out, _ = udever("search", "hash it", vectors, "-m", output / "model", "--json", "-k", "3")
    hits = [json.loads(line) for line in out.splitlines()]
    assert (code, len(hits)) == (0, 3)
    assert hits[0]["score"] >= hits[1]["score"] >= hits[2]["score"]


def test_train_from_a_recipe_and_another_models_vectors_are_refused(adapted, tmp_path, udever):
    output, _ = adapted
    recipe = tmp_path / "recipe.toml"
    model = tmp_path / "model"
    recipe.write_text(
        f'[model]\nbase = "{output / "model"}"\nmarkers = "keep"\n[data]\npairs = ["{output / "pairs.parquet"}"]\n'
        f'[training]\nmax_steps = 2\nbatch_size = 8\n[output]\nfolder = "{model}"\n'
    )
    code, out, err = udever("train", recipe)
    assert code == 0, err
    assert "2 steps" in out
    texts = tmp_path / "texts.txt"
    texts.write_text("one line\nanother line\n")
    assert udever("embed", texts, "-m", output / "model", "-o", tmp_path / "v.parquet")[0] == 0
    code, _, err = udever("search", "line", tmp_path / "v.parquet", "-m", model)
    assert code == 2
    assert "fingerprint" in err


def test_what_a_run_would_write_over_in_its_folder_is_refused(project, tmp_path, udever):
    theirs = tmp_path / "out-checkpoints" / "results" / "thesis.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    for more in ([], ["--resume"], ["--restart"]):
        code, _, err = udever("adapt", project, "-o", tmp_path / "out", *more)
        assert (code, "was not written by a run of udever" in err) == (2, True)
    assert theirs.read_text() == "mine"


def test_what_others_wrote_where_a_run_would_live_is_refused_before_any_work(project, tmp_path, udever):
    kept = tmp_path / "out-checkpoints"
    kept.mkdir()
    theirs = {"adapt.json": '{"my":1}', "corpus.parquet": "{}", "log.jsonl": "keep", "notes.txt": "mine"}
    for name, text in theirs.items():
        (kept / name).write_text(text)
    rows = "\n".join(["question,answer", *(f"how to {v} a {n},call {v}_{n}" for v in VERBS for n in NOUNS)])
    (kept / "pairs.csv").write_text(rows)
    for paths, told in (([project], "adapt.json was not written by a run"), ([kept / "pairs.csv"], "lies in it")):
        for more in ([], ["--resume"], ["--restart"], ["--plan"]):
            code, out, err = udever("adapt", *paths, "-o", tmp_path / "out", *more)
            assert (code, out, err.count("\n")) == (2, "", 1) and told in err, err
    assert {path.name: path.read_text() for path in kept.iterdir()} == {**theirs, "pairs.csv": rows}


@pytest.mark.parametrize("base", ["./nosuch", "empty"])
def test_a_base_that_is_none_is_refused_before_any_work(project, tmp_path, udever, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for command in (["adapt", project], ["adapt", project, "--plan"], ["demo"]):
        code, out, err = udever(*command, "-o", "out", "--base", base)
        assert (code, out, err.count("\n")) == (2, "", 1) and base.strip("./") in err, err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def one_line_error(code, err):
    assert code == 2
    *before, last = err.splitlines()  # progress bars may stand above it
    assert last.startswith("udever: error: ")
    assert not any("Traceback" in line or "error" in line for line in before)


@pytest.mark.parametrize(
    "arguments",
    [
        ["pairs", "nowhere", "-o", "x.parquet"],
        ["pairs", "empty", "-o", "x.parquet"],
        ["pairs", "nothing", "-o", "x.parquet"],
        ["adapt", "nowhere", "-o", "out"],
        ["adapt", "nothing", "-o", "full"],
        ["train", "none.toml"],
        ["train", "bad.toml"],
        ["embed", "texts.txt", "-m", "nothing", "-o", "v.parquet"],
        ["embed", "texts.txt", "-m", "./no/such/model", "-o", "v.parquet"],
        ["search", "query", "texts.txt", "-m", "nothing"],
        ["plan", "bad.toml"],
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, tmp_path, udever, monkeypatch):
    for name in ("empty", "nothing", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "nothing" / "a.py").write_text("x = 1\n")
    (tmp_path / "full" / "mine.txt").write_text("not to be deleted")
    (tmp_path / "texts.txt").write_text("one\n")
    (tmp_path / "bad.toml").write_text("[model]\nbas = 'x'\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = udever(*arguments)
    one_line_error(code, err)
    assert sorted(tmp_path.rglob("*")) == before


def test_help_is_quick_to_load_and_names_every_command():
    code = "import sys; sys.argv = ['udever', '--help']\nfrom udever.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "print('HEAVY', [m for m in ('torch', 'numpy', 'pyarrow', 'pydantic') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in printed
    assert all(name in printed for name in ("adapt", "demo", "pairs", "train", "embed", "search"))


README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_example_runs(adapted, capsys):
    block = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    code = block[1].replace("runs/demo/model", str(adapted[0] / "model"))
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "[[" in printed
    assert "[False False]" in printed


def test_the_readme_names_the_commands_there_are():
    cells = re.findall(r"^\| (`udever [^|]*)", README.read_text(), re.MULTILINE)
    named = {*(name for cell in cells for name in re.findall(r"`udever ([\w-]+)", cell)), "demo"}
    there = {command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands}
    groups = {group.name or group.typer_instance.info.name for group in app.registered_groups}
    assert named == there | groups
