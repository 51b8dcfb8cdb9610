"""`udever embed` and `udever audit`: a corpus to vectors, and the proof that none is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from udever.cli.app import Device, Dtype, Model, Role, Seed, Threads, app, complain, console
from udever.model_process import load_quietly

if TYPE_CHECKING:
    from udever.corpus import EmbedStep, JobSummary, VectorStep
    from udever.embedder import Embedder


Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Files (Parquet, JSONL, CSV, TSV, a text a line; also .gz, .zst), folders, globs, a saved dataset "
        "or the hub name of one.",
        show_default=False,
    ),
]
Column = Annotated[str, typer.Option(help="Column or key that holds the text.")]
IdColumn = Annotated[str, typer.Option(help="Column or key that names the row; row numbers where there is none.")]
Split = Annotated[str | None, typer.Option(help="Split of a dataset.")]
WindowRows = Annotated[int, typer.Option(help="Rows of a shard, sorted by length together.")]
BatchTokens = Annotated[int | None, typer.Option(help="Most tokens in one forward pass.")]
RayAddress = Annotated[str | None, typer.Option("--ray", help="Run on Ray: 'local', 'auto' or an address.")]
Workers = Annotated[
    int, typer.Option(help="Processes or Ray actors, each with a model; several use 1 thread each without --threads.")
]


def settled(model: str) -> str:
    """A model's name that means the same in every working folder."""
    is_path = Path(model).is_dir() or Path(model).suffix.lower() == ".gguf"
    return str(Path(model).absolute()) if is_path else model


def load_step(
    model: str, dtype: str, device: str, options: dict[str, Any], fingerprint: Callable[[str], None] | None = None
) -> "EmbedStep":
    """The step of `udever embed`; also what a Ray actor makes for itself. `fingerprint` may refuse the model."""
    from udever.corpus import EmbedStep

    embedder = load_quietly(model, dtype, device)
    if fingerprint is not None:
        fingerprint(embedder.fingerprint)
    return EmbedStep(embedder, **options)


def load_label_step(folder: Path, model: str | None, dtype: str, device: str, batch_tokens: int | None) -> "VectorStep":
    """The step of `udever classify apply`; also what a Ray actor makes for itself."""
    from udever.classify import Filter
    from udever.corpus import VectorStep

    made = Filter.load(folder)
    options = {"role": made.role, "batch_tokens": batch_tokens, "dimensions": made.dimensions}
    inner = load_step(model or made.model, dtype, device, options, made.check)
    return VectorStep(inner, made.made, made.identity, made.records, made.show)


def report(output: Path, summary: "JobSummary", what: str) -> None:
    """Print what a job did; exit with 1 where rows failed or share an id."""
    out = console()
    rate = summary.num_tokens / max(summary.seconds, 1e-9)
    out.print(
        f"{output}: {summary.num_rows:,} rows, {summary.num_truncated:,} cut; this run: {summary.num_texts:,} texts "
        f"{what}, {summary.num_tokens:,} tokens, {rate:,.0f} tokens/s, {summary.num_shards_made:,} shards written",
    )
    for reason, count in sorted(summary.skipped.items()):
        out.print(f"  left out {count:,}  {reason}")
    if summary.num_failed:
        complain(f"{summary.num_failed:,} rows failed: {output / '_failed.parquet'} says which and why")
    if summary.duplicate_ids:
        shown = ", ".join(map(repr, summary.examples))
        complain(f"{summary.duplicate_ids:,} ids have several rows, such as {shown}")
    if not summary.whole:
        raise typer.Exit(1)


@app.command()
def embed(
    inputs: Inputs,
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; an unfinished run is continued.")],
    role: Annotated[Role, typer.Option(help="Role of the texts: query, document or symmetric.")] = "document",
    column: Column = "text",
    id_column: IdColumn = "id",
    split: Split = None,
    dimensions: Annotated[int | None, typer.Option(help="Keep the first ones of each vector.")] = None,
    vector_type: Annotated[Literal["float32", "float16"], typer.Option(help="Type of the stored numbers.")] = "float32",
    batch_tokens: BatchTokens = None,
    window_rows: WindowRows = 8192,
    ray: RayAddress = None,
    workers: Workers = 1,
    threads: Threads = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Embed a corpus; run again after a stop or a change, it does only what is missing.

    Exit code 1: some rows failed (_failed.parquet) or share an id; the others are there.
    """
    from functools import partial

    from udever.corpus import Columns, Reading, check_place, run_job, runner_for

    options = {"role": role, "dimensions": dimensions, "vector_type": vector_type, "batch_tokens": batch_tokens}
    reading = Reading(inputs, Columns(column, id_column), split, window_rows)
    reading.check()  # a wrong path is told before the model is loaded
    check_place(output, reading.choice, inputs)
    load = partial(load_step, settled(model), dtype, device, options)
    step = load()
    runner = runner_for(load, ray, workers, threads or 1, gpus=step.num_gpus)
    report(output, run_job(step, reading, output, runner=runner), "embedded")


@app.command()
def audit(
    place: Annotated[
        str, typer.Argument(help="Output folder of `embed` or `classify apply`, or an index.", show_default=False)
    ],
    inputs: Annotated[list[str] | None, typer.Argument(help="The input, where it has moved.")] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Embed this many rows again and compare; needs --model, except for an index.")
    ] = 0,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model that made it, or the filter.", show_default=False)
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Prove that an output or an index is whole, as it was written, and fits its input; exit code 1 where not."""
    from udever.errors import RecipeError
    from udever.search.locate import index_at

    index = index_at(place)
    if sample and model is None and index is None:
        raise RecipeError("--sample embeds again; name the model that made the vectors: -m MODEL")
    if index is not None:
        _audit_index(index, sample, model, seed, device)
        return
    from udever.corpus import Again
    from udever.corpus import audit as run

    folder = Path(place)
    again = Again(_step_of(folder, str(model), device), sample, seed) if sample else None
    result = run(folder, inputs, again=again, show_progress=True)
    counts = f"{result.num_rows:,} rows, {result.num_results:,} results, {result.num_failed:,} failed"
    _tell(place, result.findings, result.more, f"{counts}, {result.num_sampled:,} embedded again")


def _step_of(folder: Path, model: str, device: str) -> Any:
    """The step that made an output, as its manifest says, with this model; a filter's folder makes labels."""
    from udever.corpus.folder import read_manifest

    identity = read_manifest(folder).identity
    precision = identity.get("udever.precision", "auto")
    if (Path(model) / "filter.json").is_file():
        return load_label_step(Path(model).absolute(), None, precision, device, None)
    dimensions, vector_type = int(identity["udever.dimensions"]), identity.get("udever.vector_type", "float32")
    options = {"role": identity["udever.role"], "dimensions": dimensions, "vector_type": vector_type}
    return load_step(settled(model), precision, device, options)


def _audit_index(place: str, sample: int, model: str | None, seed: int, device: str) -> None:
    from udever.search.audit import audit as run

    def load(name: str, precision: str) -> "Embedder":
        return load_quietly(model or name, precision, device)

    result = run(place, load, sample=sample, seed=seed)
    counts = f"{result.num_files:,} files, {result.num_chunks:,} chunks, {result.num_sampled:,} embedded again"
    _tell(place, result.findings, result.more, counts)


def _tell(place: str, findings: list[str], more: int, counts: str) -> None:
    for finding in findings:
        complain(f"{place}: {finding}")
    if more:
        complain(f"{place}: and {more} more findings")
    if findings:
        complain(f"{place}: not whole: {counts}")
        raise typer.Exit(1)
    console().print(f"{place}: whole: {counts}")
