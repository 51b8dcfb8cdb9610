"""The command line: each command parses its arguments and calls one function.

Imports sit inside the commands, so that `udever --help` loads no torch. A `UdeverError` is printed as one
line and the exit code is 2.
"""

import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from udever.errors import OutputError, UdeverError

app = typer.Typer(
    name="udever",
    help="Turn any decoder-only language model into a universal embedder, and put it to use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Paths = Annotated[list[Path], typer.Argument(help="Files or folders.", show_default=False)]


class Kind(StrEnum):
    """What to mine."""

    code = "code"
    docs = "docs"
    translations = "translations"


class RoleOption(StrEnum):
    """Which side of a search the texts are on."""

    query = "query"
    document = "document"
    symmetric = "symmetric"


class TuningOption(StrEnum):
    """What training moves."""

    auto = "auto"
    full = "full"
    bitfit = "bitfit"
    lora = "lora"


Kinds = Annotated[list[Kind] | None, typer.Option("--kind", help="What to mine; all kinds if left out.")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave out paths matching this .gitignore pattern.")]
Language = Annotated[
    str | None, typer.Option(help="Language of docstrings and documents as mteb writes it, such as eng-Latn.")
]
HeldOut = Annotated[float, typer.Option(help="Share of files kept for scoring.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Model = Annotated[str, typer.Argument(help="Model folder or hub name.", show_default=False)]


@app.command()
def adapt(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model, table and report.")],
    base: Annotated[str, typer.Option(help="Backbone: folder, hub name, or 'fresh' (made on the spot).")] = "fresh",
    kind: Kinds = None,
    exclude: Exclude = None,
    language: Language = None,
    held_out: HeldOut = 0.1,
    tuning: Annotated[TuningOption | None, typer.Option(help="What training moves.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training pairs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    max_length: Annotated[int, typer.Option(help="Longest text in tokens, markers included.")] = 300,
    ask: Annotated[list[str] | None, typer.Option(help="A question to answer at the end.")] = None,
    seed: Seed = 0,
) -> None:
    """Mine pairs from your own files, finetune an embedder on them, and show what it is worth."""
    from udever.adapt import Job, default_training
    from udever.adapt import adapt as run
    from udever.config import training_settings
    from udever.mine import KINDS

    _quiet_transformers()
    given = {"tuning": tuning, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = training_settings(**{**default_training(base).model_dump(), **chosen})
    job = Job(
        paths=paths,
        output=output,
        base=base,
        exclude=exclude or (),
        language=language,
        held_out=held_out,
        settings=settings,
        max_length=max_length,
        questions=ask or (),
        seed=seed,
        kinds=[str(k) for k in kind] if kind else KINDS,
    )
    run(job, _console())


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the result.")] = Path("runs/demo"),
    base: Annotated[str, typer.Option(help="Backbone: folder, hub name, or 'fresh'.")] = "fresh",
) -> None:
    """Run `adapt` on Python's own standard library: docstring -> function."""
    from udever.adapt import adapt as run
    from udever.adapt import demo_job

    _quiet_transformers()
    run(demo_job(output, base), _console())


@app.command()
def pairs(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    kind: Kinds = None,
    exclude: Exclude = None,
    language: Language = None,
    held_out: HeldOut = 0.1,
    seed: Seed = 0,
) -> None:
    """Mine training pairs: docstring -> function, heading -> section, source -> translation."""
    from udever.data.pairs import write_pairs
    from udever.mine import KINDS, mine

    kinds = [str(k) for k in kind] if kind else KINDS
    mined = mine(paths, kinds=kinds, exclude=exclude or (), held_out=held_out, seed=seed, language=language)
    write_pairs(mined.pairs, output)
    console = _console()
    num_held_out = sum(pair.split == "held_out" for pair in mined.pairs)
    console.print(f"{output}: {len(mined.pairs):,} pairs from {mined.num_files:,} files, {num_held_out:,} held out")
    for reason, count in mined.skipped.items():
        console.print(f"  left out {count:,}  {reason}", highlight=False, markup=False)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML.", show_default=False)],
) -> None:
    """Finetune a backbone into an embedder as a recipe says."""
    from udever.config import read_recipe
    from udever.train import run_recipe

    _quiet_transformers()
    read = read_recipe(recipe)
    history = run_recipe(read)
    _console().print(
        f"{read.output.folder}: {len(history.steps):,} steps, {history.num_trainable:,} parameters moved, "
        f"last loss {history.steps[-1].loss:.3f}"
    )


@app.command()
def embed(
    model: Model,
    texts: Annotated[Path, typer.Argument(help="JSONL, Parquet or text file (a text a line).", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    role: Annotated[RoleOption, typer.Option(help="Side the texts are on.")] = RoleOption.document,
    column: Annotated[str, typer.Option(help="Column or key that holds the text.")] = "text",
    dimensions: Annotated[int | None, typer.Option(help="Keep the first ones of each vector.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Most tokens in one forward pass.")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Embed every text of a file."""
    from udever.corpus import embed_file
    from udever.embedder import Embedder

    _quiet_transformers()
    embedder = Embedder.load(model, dtype=dtype, device=device)
    options: dict[str, Any] = {"role": str(role), "dimensions": dimensions, "batch_tokens": batch_tokens}
    summary = embed_file(embedder, texts, output, column=column, **options)
    _console().print(
        f"{output}: {summary.num_rows:,} texts, {summary.num_tokens:,} tokens, {summary.num_truncated:,} cut, "
        f"{summary.num_tokens / max(summary.seconds, 1e-9):,.0f} tokens/s"
    )


@app.command()
def search(
    model: Model,
    path: Annotated[Path, typer.Argument(help="Parquet file of `udever embed`, or a folder.", show_default=False)],
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many hits.")] = 10,
    instruction: Annotated[str | None, typer.Option(help="What kind of answer is wanted.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Search embeddings, or the text files of a folder, by meaning."""
    from udever.embedder import Embedder
    from udever.index import search as run

    _quiet_transformers()
    embedder = Embedder.load(model, dtype=dtype, device=device)
    hits = run(embedder, path, query, top_k, instruction=instruction, show_progress=True)
    console = _console()
    for hit in hits:
        if json:
            import json as encoder
            from dataclasses import asdict

            typer.echo(encoder.dumps(asdict(hit), ensure_ascii=False))
        else:
            console.print(f"{hit.score:.3f}  {hit.source or hit.id}", highlight=False, markup=False)
            console.print(f"       {' '.join(hit.text.split())[:100]}", highlight=False, markup=False)


def _console() -> Any:
    from rich.console import Console

    return Console(soft_wrap=not sys.stdout.isatty())


def _quiet_transformers() -> None:
    """transformers' own bars and notices would come between ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _show_warning(message: Warning | str, *_: Any) -> None:
    print(f"udever: warning: {message}", file=sys.stderr)  # noqa: T201 # a command line speaks here


def main() -> None:
    """Entry point of `udever`."""
    warnings.showwarning = _show_warning
    try:
        app()
    except UdeverError as error:
        _fail(error)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(OutputError(f"{error.filename}: {error.strerror}; check the path, its permissions and free space"))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(error: UdeverError) -> None:
    typer.echo(f"udever: error: {error}", err=True)
    sys.exit(2)
