"""`udever quantize`: a model in eight bits as a folder."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Model, Threads, app, console
from udever.model_process import load_quietly
from udever.terminal import quiet_mteb


@app.command()
def quantize(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    suite: Annotated[bool, typer.Option(help="Score the universal suite in float32 and in eight bits.")] = True,
    _threads: Threads = None,
) -> None:
    """Write a model in eight bits, a quarter of its size in float32, or refuse it where that loses too much."""
    from udever.model.weights import EIGHT_BIT_NAME
    from udever.storage import check_replaceable

    check_replaceable(output, "model", [model])
    quiet_mteb()
    embedder = load_quietly(model, "int8", "cpu")
    told = notes = ""
    if suite:
        from udever.evaluation.loss import check_loss, mean, score_suite

        after = score_suite(embedder, show_progress=True)
        before = score_suite(load_quietly(model, "float32", "cpu"), show_progress=True)
        check_loss(model, before, after)
        told = f"{100 * mean(before):.2f} points of the universal suite in float32, {100 * mean(after):.2f} in int8"
        notes = f"\n## Eight bits\n\n{told} (mean of {len(before)} tasks).\n"
    embedder.save(output, base=model, notes=notes)
    size_mb = (output / EIGHT_BIT_NAME).stat().st_size / 1e6
    out = console()
    out.print(f"{output}: {size_mb:,.1f} MB of weights, fingerprint {embedder.fingerprint}")
    if told:
        out.print(f"  {told}")
