"""`udever classify`: a filter or labeller from examples, and its labels for a corpus."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from udever.cli.app import Device, Dtype, Model, Seed, Threads, app, console
from udever.cli.corpus import (
    BatchTokens,
    Column,
    IdColumn,
    Inputs,
    RayAddress,
    Split,
    WindowRows,
    Workers,
    load_label_step,
    report,
    settled,
)
from udever.model_process import load_quietly

classify = typer.Typer(help="Label texts from a handful of examples.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(classify, name="classify")


def _records(inputs: list[str], split: str | None, wanted: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    from udever.corpus import check_named, check_split, find_sources, read_records
    from udever.errors import DataError
    from udever.records import Broken, undecoded, undecoded_header

    sources = find_sources(inputs, split)
    check_split(sources, split)
    for source in sources:
        check_named(source, wanted)
        for number, record in read_records(source, wanted):
            where = f"{source.name} row {number}"
            if isinstance(record, Broken):
                raise DataError(f"{where}: {record.reason}; fix the row or remove it")
            has_all = record.keys() >= set(wanted)
            unread = undecoded(source.format, record, wanted) if has_all else undecoded_header(source.format, record)
            if unread is not None:
                raise DataError(f"{where}: {unread}")
            yield where, record


@classify.command()
def fit(
    examples: Annotated[list[str], typer.Argument(help="Labelled texts: files as for `embed`.", show_default=False)],
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the filter and its report.")],
    column: Column = "text",
    label_column: Annotated[str, typer.Option(help="Column with the label, or a list of labels.")] = "label",
    language_column: Annotated[str | None, typer.Option(help="Column with the language, for the report.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column that is alike for texts to be left out together (translations).")
    ] = None,
    separator: Annotated[str | None, typer.Option(help="Cut the label column here: several labels a text.")] = None,
    precision: Annotated[float | None, typer.Option(help="Precision wanted of every label given.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Keep the first ones of each vector.")] = None,
    split: Split = None,
    seed: Seed = 0,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Fit a filter on labelled texts and report how good it is on texts it has not seen."""
    from udever.classify import Fields, FitSettings, read_examples
    from udever.classify import fit as run
    from udever.report.filter import filter_markdown
    from udever.storage import check_replaceable

    settings = FitSettings(precision, seed)
    check_replaceable(output, "filter", [*examples, model])
    fields = Fields(column, label_column, language_column, group_column)
    wanted = [name for name in fields if name is not None]
    read = read_examples(_records(examples, split, wanted), fields, separator)
    embedder = load_quietly(model, dtype, device)
    embeddings = embedder.encode(read.texts, truncate_dim=dimensions, show_progress_bar=True)
    made, told = run(embeddings, read, fingerprint=embedder.fingerprint, model=settled(model), settings=settings)
    tables = filter_markdown(told)
    made.save(output, {"report.json": told.json(), "report.md": tables})
    console().print(tables)
    console().print(f"{output}: {len(made.labels):,} labels from {len(read):,} examples")


@classify.command()
def apply(
    folder: Annotated[Path, typer.Argument(metavar="FILTER", help="Folder of `classify fit`.", show_default=False)],
    inputs: Inputs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; an unfinished run is continued.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model, where it has moved.")] = None,
    column: Column = "text",
    id_column: IdColumn = "id",
    split: Split = None,
    batch_tokens: BatchTokens = None,
    window_rows: WindowRows = 8192,
    ray: RayAddress = None,
    workers: Workers = 1,
    threads: Threads = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Label a corpus: shards like those of `udever embed`, with probabilities and labels."""
    from functools import partial

    from udever.corpus import Columns, Reading, check_place, run_job, runner_for

    reading = Reading(inputs, Columns(column, id_column), split, window_rows)
    reading.check()
    check_place(output, reading.choice, [*inputs, folder])
    load = partial(load_label_step, folder.absolute(), model and settled(model), dtype, device, batch_tokens)
    step = load()
    runner = runner_for(load, ray, workers, threads or 1, gpus=step.inner.num_gpus)
    report(output, run_job(step, reading, output, runner=runner), "labelled")
