import importlib.util
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from udever.cli import app

_spec = importlib.util.spec_from_file_location("docs_commands", Path(__file__).with_name("commands.py"))
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)

CASES = [(page.name, command) for page in written.PAGES for command in written.commands(page)]


def parse(arguments: list[str]) -> None:
    """Parse as `udever ARGUMENTS` does, and run nothing."""
    group = typer.main.get_command(app)
    context = group.make_context("udever", list(arguments))
    while hasattr(group, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, group, rest = group.resolve_command(context, rest)
        context = group.make_context(name, rest, parent=context)


def test_the_pages_have_commands():
    assert len(CASES) > 50
    assert {"README.md", "search.md", "corpus.md", "training.md", "serving.md"} <= {page for page, _ in CASES}


@pytest.mark.parametrize(
    ("page", "command"), CASES, ids=lambda case: case if isinstance(case, str) else " ".join(case.arguments)
)
def test_a_written_command_parses(page, command):
    try:
        parse(command.arguments)
    except Exception as error:
        # A mention in running text, such as `udever search --json`, may leave the arguments out.
        if type(error).__name__ != "MissingParameter" or not command.inline:
            raise


@pytest.mark.parametrize(
    "wrong",
    [["search", "MODEL", "vectors/", "q"], ["merge", "-m", "a", "-m", "b", "-o", "c", "--slow"], ["embd"]],
    ids=" ".join,
)
def test_a_wrong_command_does_not(wrong):
    with pytest.raises(Exception, match=r"(?i)unexpected|no such"):
        parse(wrong)


def test_documented_commands_that_need_no_download_run(tmp_path, monkeypatch):
    """corpus.md's first three and search.md's first two, as they stand, with the seedling as MODEL."""
    monkeypatch.chdir(tmp_path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a question", "an answer about copying files"]}), "corpus.parquet")
    project = Path("path/to/project")
    project.mkdir(parents=True)
    (project / "limits.py").write_text("RETRY_LIMIT = 3\n\n\ndef retry():\n    return RETRY_LIMIT\n")
    runner = CliRunner()
    for name, count in (("corpus.md", 3), ("search.md", 2)):
        page = next(page for page in written.PAGES if page.name == name)
        fenced = [command.arguments for command in written.commands(page) if not command.inline]
        for command in fenced[:count]:
            if command[:1] == ["search"] and name == "search.md":
                monkeypatch.chdir(tmp_path / project)
            done = runner.invoke(app, ["seedling" if word == "MODEL" else word for word in command])
            assert done.exit_code == 0, (command, done.output, done.exception)
            assert command[0] != "search" or "no hits" not in done.output
