"""What every command shares: the application, options, the console, and errors as one line.

Imports sit inside the commands, so that `udever --help` loads no torch. A `UdeverError` is printed as one
line and the exit code is 2.
"""

import sys
import tempfile
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from udever.cli.usage import Group
from udever.errors import OutputError, UdeverError
from udever.nearest import path_suggestion
from udever.processors import OthersLoad, use_threads, wait_gently
from udever.storage import OUT_OF_SPACE
from udever.terminal import printable

app = typer.Typer(
    name="udever",
    help="Turn any decoder-only language model into a universal embedder, and put it to use.\n\n"
    "Inputs are given as arguments, the model with -m, the output with -o.",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Kind(StrEnum):
    """What to mine; a list of Literals typer does not take."""

    code = "code"
    docs = "docs"
    translations = "translations"
    names = "names"
    comments = "comments"
    mentions = "mentions"
    tests = "tests"
    messages = "messages"
    commits = "commits"


Role = Literal["query", "document", "symmetric"]
Mode = Literal["meaning", "words", "both"]
Method = Literal["pca", "umap"]

MODEL = "Model: a folder, a .gguf file, a hub name, or seedling (bundled)"
Paths = Annotated[list[Path], typer.Argument(help="Files, folders, tables of pairs, data sets.", show_default=False)]
Kinds = Annotated[list[Kind] | None, typer.Option("--kind", help="What to mine; all but tests, commits if left out.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave out paths matching this .gitignore pattern.")]


def _language(name: str | None) -> str | None:
    from udever.source.languages import named_language

    return None if name is None else named_language(name)


Language = Annotated[
    str | None,
    typer.Option(
        callback=_language,
        help="Language of docstrings, and of documents whose path names none: eng-Latn as mteb writes it, or en.",
    ),
]
HeldOut = Annotated[float, typer.Option(help="Share of the files, or of a table's rows, held out for scoring.")]
ChooseFrom = Annotated[
    Literal["train", "held_out"],
    typer.Option(help="Which files' questions select the result; held_out if the base was trained on the others."),
]
HeldOutBy = Annotated[str, typer.Option(help="Keep rows together by text, file, anchor, positive, group or label.")]
Anchor = Annotated[str | None, typer.Option(help="Column of a table that holds the anchors, such as question.")]
Positive = Annotated[str | None, typer.Option(help="Column of a table that holds the positives, such as answer.")]
SkipEmpty = Annotated[bool, typer.Option("--skip-empty", help="Leave out rows that lack an anchor or a positive.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random choice.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def _use_threads(count: int | None) -> int | None:
    if count is not None:
        use_threads(count)
    return count


Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, callback=_use_threads, help="Threads that compute; all processors if left out."),
]
Model = Annotated[str, typer.Option("--model", "-m", help=f"{MODEL}.", show_default=False)]
Models = Annotated[list[str], typer.Option("--model", "-m", help=f"{MODEL}; once for each.", show_default=False)]


def named_columns(anchor: str | None, positive: str | None) -> dict[str, str]:
    """What `--anchor` and `--positive` say."""
    given = {"anchor": anchor, "positive": positive}
    return {name: there for name, there in given.items() if there is not None}


def console() -> Any:
    """Where results are printed, as they are: a bracket is no style, and one line stays one line when piped."""
    from rich.console import Console

    class Escaping(Console):
        """Shows names and contents of files as text, whatever is in them, those in tables too."""

        def render(self, renderable: Any, options: Any = None) -> Any:
            """As rich's; every piece of text is made printable."""
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable(segment.text))

    return Escaping(soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False)


def complain(message: str) -> None:
    """A line on standard error."""
    typer.echo(printable(message, one_line=True), err=True)


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"udever: warning: {printable(str(message))}", file=sys.stderr)  # noqa: T201 # a command line speaks here


def _print_version(asked: bool) -> None:
    if asked:
        from udever import __version__

        typer.echo(f"udever {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """As `help` above says."""


def main(others: OthersLoad | None = None) -> None:
    """Run the command that `sys.argv` names; `others` has looked at the processors since it began."""
    warnings.showwarning = _show_warning
    wait_gently(others)
    try:
        app()
    except UdeverError as error:
        _fail(error)
    except OSError as error:
        if error.filename is None and error.errno not in OUT_OF_SPACE:
            raise
        _fail(OutputError(_refusal(error)))
    except KeyboardInterrupt:
        sys.exit(130)


def _refusal(error: OSError) -> str:
    """What the system refused, and what to do; a lack of space often comes without the file that it was met at."""
    if error.errno in OUT_OF_SPACE:
        told = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        return f"{told}; free some space where the output goes and in {tempfile.gettempdir()} (TMPDIR)"
    otherwise = "check the path, its permissions and free space"
    hint = path_suggestion(error.filename, otherwise) if isinstance(error, FileNotFoundError) else otherwise
    return f"{error.filename}: {error.strerror}; {hint}"


def _fail(error: UdeverError) -> None:
    complain(f"udever: error: {error}")
    sys.exit(2)
