"""`udever report`, `plane` and `bits`: results as a page, and parallel texts before and after finetuning."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Device, Dtype, Method, Model, Seed, Threads, app, console
from udever.model_process import load_quietly
from udever.terminal import quiet_transformers


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Folders written by `udever eval`.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.html, figures and tables.")],
    labels: Annotated[
        Path | None, typer.Option(help="TOML or CSV: model -> name, family, train_language, kind, tuning, size.")
    ] = None,
    shares: Annotated[
        Path | None,
        typer.Option(help="CSV language,percent of pre-training, or what udever bits wrote; BLOOM's if left out."),
    ] = None,
    plane: Annotated[Path | None, typer.Option(help="Folder written by `udever plane`, to be shown too.")] = None,
    against: Annotated[str | None, typer.Option(help="Model that the others are compared with.")] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Evaluation report",
) -> None:
    """Turn results of one or many models into tables and figures on one page."""
    from udever.evaluation.results import read_scores
    from udever.report.labels import read_labels
    from udever.report.page import ReportOptions, write_benchmark_report
    from udever.report.plane import read_plane
    from udever.report.shares import read_shares
    from udever.storage import check_replaceable

    check_replaceable(output, "report", [*results, *(path for path in (labels, shares, plane) if path is not None)])
    options = ReportOptions(
        title=title,
        labels=read_labels(labels) if labels else {},
        shares=read_shares(shares) if shares else None,
        plane=read_plane(plane) if plane else None,
        against=against,
    )
    models = read_scores(results)
    sections = write_benchmark_report(models, output, options, show_progress=True)
    out = console()
    out.print(f"{output / 'report.html'}: {len(models)} models")
    for section in sections:
        if section.missing:
            out.print(f"  without {section.title}: {section.missing}")


@app.command()
def plane(
    texts: Annotated[Path, typer.Argument(help="A table with a column per language (eng-Latn).", show_default=False)],
    model: Model,
    before: Annotated[str, typer.Option(help="The same model before finetuning.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the figure and its number.")],
    language: Annotated[
        list[str] | None, typer.Option(help="Column to take; or what sentence1 and sentence2 are.")
    ] = None,
    limit: Annotated[int, typer.Option(min=2, help="Most texts in each language.")] = 300,
    method: Annotated[Method, typer.Option(help="How to lay them on a plane.")] = "pca",
    seed: Seed = 0,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Show how close translations are before and after finetuning: a figure and a number."""
    from udever.report.parallel import read_parallel
    from udever.report.plane import make_plane, write_plane
    from udever.storage import check_replaceable

    check_replaceable(output, "plane", [before, model, texts])
    parallel = read_parallel(texts, language or (), limit=limit, seed=seed)
    flat = [text for name in parallel.languages for text in parallel.texts[name]]
    sides = [(name, load_quietly(name, dtype, device).encode(flat, show_progress_bar=True)) for name in (before, model)]
    found = make_plane(parallel, sides[0], sides[1], method=method, seed=seed)
    write_plane(found, output, num_repeated=parallel.num_repeated)
    out = console()
    out.print(f"{output / 'plane.html'}: {parallel.num_rows} texts in {', '.join(parallel.languages)}")
    if parallel.num_repeated:
        out.print(f"  left out {parallel.num_repeated} rows that repeat a text")
    out.print(found.sentence())


@app.command()
def bits(
    texts: Annotated[Path, typer.Argument(help="A table with a column per language (eng-Latn).", show_default=False)],
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV to write.")],
    language: Annotated[list[str] | None, typer.Option(help="Column to take.")] = None,
    limit: Annotated[int, typer.Option(min=2, help="Most texts in each language.")] = 300,
    seed: Seed = 0,
    _threads: Threads = None,
) -> None:
    """Measure how well a decoder knows languages before finetuning: bits for a byte of parallel texts."""
    from udever.evaluation.bits import bits_per_byte, write_bits
    from udever.report.parallel import read_parallel
    from udever.storage import check_file

    check_file(output, [texts, model], own=(".csv",))
    quiet_transformers()
    parallel = read_parallel(texts, language or (), limit=limit, seed=seed)
    found = bits_per_byte(model, parallel.texts, show_progress=True)
    write_bits(output, found)
    out = console()
    out.print(f"{output}: {parallel.num_rows} texts in {len(found)} languages", highlight=False)
    for name, (a_byte, a_text) in sorted(found.items(), key=lambda item: item[1]):
        out.print(f"  {name}  {a_byte:.3f} bits a byte, {a_text:,.0f} a text", highlight=False)
