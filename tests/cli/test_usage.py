"""One grammar for all commands; what is typed wrongly is answered in one line with what to write."""

import errno
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from udever.cli import app
from udever.cli.app import console

COMMANDS = typer.main.get_command(app).commands


@pytest.fixture
def refused(udever, monkeypatch, tmp_path):
    """What a command says of itself in an empty folder: its exit code, and what it prints as errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code, _, error = udever(*arguments)
        return code, error

    return run


def walk(commands, name=""):
    for word, command in commands.items():
        if hasattr(command, "commands"):
            yield from walk(command.commands, f"{name}{word} ")
        else:
            yield f"{name}{word}", command


EVERY = dict(walk(COMMANDS))


def test_the_model_is_m_in_every_command_and_stands_nowhere_by_its_place():
    short = {name: option for name, command in EVERY.items() for option in command.params if "-m" in option.opts}
    assert short.keys() == {
        *(
            "adapt",
            "demo",
            "audit",
            "bits",
            "classify apply",
            "classify fit",
            "embed",
            "eval",
            "export",
            "index",
            "index-tune",
            "mcp",
        ),
        *("merge", "negatives", "plane", "push", "quantize", "search", "serve"),
    }
    assert {max(option.opts, key=len) for option in short.values()} == {"--model", "--base"}
    for name, command in EVERY.items():
        assert not [p.name for p in command.params if p.param_type_name == "argument" and "model" in p.name], name


def test_a_short_option_means_one_thing_everywhere():
    meanings = {}
    for command in EVERY.values():
        for parameter in command.params:
            for word in parameter.opts:
                if len(word) == 2 and word.startswith("-"):
                    meanings.setdefault(word, set()).add(max(parameter.opts, key=len))
    assert meanings == {
        "-m": {"--model", "--base"},
        "-o": {"--output"},
        "-k": {"--top-k"},
        "-n": {"--num-negatives"},
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["embed", "seedling", "corpus", "-o", "v"],
            "embed takes the model as an option; write udever embed INPUTS... -m seedling -o OUTPUT",
        ),
        (["serve", "seedling"], "serve takes the model as an option; write udever serve -m seedling"),
        (["eval", "seedling", "bm25"], "eval takes the model as an option; write udever eval -m seedling"),
        (
            ["negatives", "seedling", "p.csv", "-o", "h.parquet"],
            "the model as an option; write udever negatives PAIRS -o OUTPUT -m seedling",
        ),
        (["merge", "a.gguf", "b.gguf", "-o", "c"], "the model as an option; write udever merge -m a.gguf -o OUTPUT"),
        (["search", "seedling", "vectors", "q"], "the model as an option; write udever search QUERY INDEX -m seedling"),
        (["index", "seedling"], "seedling is a model and stands where a path is expected; write -m seedling"),
        (["search", "q", "seedling"], "seedling is a model and stands where a path is expected; write -m seedling"),
        (["embed", "corpus", "-o", "v"], "embed lacks -m MODEL; write udever embed INPUTS... -m MODEL -o OUTPUT"),
        (["embed", "-m", "seedling", "-o", "v"], "embed lacks INPUTS; write udever embed INPUTS..."),
        (["embed", "corpus", "-m", "seedling"], "embed lacks -o OUTPUT; write udever embed"),
        (["classify", "fit", "x.csv", "-o", "f"], "classify fit lacks -m MODEL; write udever classify fit EXAMPLES..."),
        (["embed", "c", "--colum", "x"], "embed has no option --colum; did you mean --column?"),
        (["serve", "--treads", "2"], "serve has no option --treads; did you mean --threads?"),
        (["train", "r.toml", "-m", "seedling"], "train has no option -m; udever train --help lists them"),
        (["classify", "fit", "--labl", "x"], "classify fit has no option --labl; did you mean --label-column?"),
        (["pairs", "corpus", "-o", "p.parqet"], "p.parqet is no name for pairs; give one that ends in .parquet"),
        (
            ["negatives", "corpus", "-o", "n.parquet", "--mode", "words"],
            "corpus is a folder; give a table of pairs, such as udever pairs",
        ),
        (["classify", "fit", "--modle", "x"], "classify fit has no option --modle; did you mean --model?"),
        (["embd"], "there is no command 'embd'; did you mean 'embed'?"),
        (["serach", "x"], "there is no command 'serach'; did you mean 'search'?"),
        (["classify", "aply"], "there is no command 'aply'; did you mean 'apply'?"),
        (["frobnicate"], "there is no command 'frobnicate'; udever --help lists them"),
        (["--verson"], "udever has no option --verson; did you mean --version?"),
        (["search", "x", "--mode", "word"], "search: --mode is 'word'; did you mean 'words'?"),
        (["search", "x", "-k", "many"], "search: --top-k: input should be a valid integer"),
        (["search", "x", "-k", "0"], "search: --top-k: input should be greater than or equal to 1"),
        (["search", "x", "-k"], "search: option '-k' requires an argument"),
        (["report", "r", "-o", "x", "--labels", "lables.toml"], "did you mean labels.toml?"),
        (["index", "corpsu", "-m", "seedling"], "corpsu does not exist; did you mean corpus?"),
        (["pairs", "corpsu", "-o", "p.parquet"], "corpsu does not exist; did you mean corpus?"),
        (["pairs", "corpus", "-o", "p.parquet", "--language", "eng-Ltn"], "did you mean 'eng-Latn'?"),
        (["audit", "corpsu"], "did you mean corpus?"),
        (["plan", "lables.toml"], "lables.toml is not a file; did you mean labels.toml?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_typed_wrongly_is_answered_in_one_line(arguments, says, refused, tmp_path):
    for name in ("a.gguf", "b.gguf", "labels.toml"):
        (tmp_path / name).touch()
    (tmp_path / "corpus").mkdir()
    before = sorted(tmp_path.rglob("*"))
    code, told = refused(*arguments)
    assert code == 2 and told.startswith("udever: error: ") and told.count("\n") == 1
    assert says in told
    assert sorted(tmp_path.rglob("*")) == before


def test_no_command_shows_the_help(refused):
    done = CliRunner().invoke(app, [])
    assert "Usage:" in done.output and "embed" in done.output


def test_a_model_folder_by_its_place_is_known_as_one(refused, tmp_path, decoders):
    code, told = refused("embed", str(decoders("bloom")), "x.txt", "-o", "v")
    assert code == 2 and f"-m {decoders('bloom')} -o OUTPUT" in told


def test_completion_is_installed_as_typer_does_it_and_knows_the_commands():
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output
    variables = {"_UDEVER_COMPLETE": "complete_bash", "COMP_WORDS": "udever embed --vec", "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['udever']; from udever.cli import main; main()"
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["--vector-type"]


def test_a_name_with_brackets_is_printed_as_it_is(capsys):
    console().print("runs/[b]/pairs.parquet: 3 pairs")
    assert capsys.readouterr().out == "runs/[b]/pairs.parquet: 3 pairs\n"


def test_a_full_disk_is_told_in_one_line_also_where_the_system_names_no_file(refused, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("udever.search.locate.index_at", full)
    code, error = refused("audit", "vectors")
    assert code == 2 and error.count("\n") == 1
    assert "No space left on device; free some space where the output goes and in " in error and "(TMPDIR)" in error


@pytest.mark.parametrize(("seed", "expected"), [("-1", "than or equal to 0"), ("9" * 20, "equal to 4294967295")])
@pytest.mark.parametrize(
    "command",
    [("adapt", "p", "-o", "x"), ("adapt", "p", "-o", "x", "--plan"), ("pairs", "p", "-o", "x"),
     ("negatives", "p", "-o", "x", "--mode", "words")],
)  # fmt: skip
def test_a_seed_that_is_none_is_refused_at_once(udever, command, seed, expected):
    code, out, err = udever(*command, "--seed", seed)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--seed: input should be " in err and expected in err
