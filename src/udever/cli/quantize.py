"""`udever quantize`: a model in eight bits as a folder."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Model, Threads, app, console
from udever.terminal import quiet_transformers


@app.command()
def quantize(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    _threads: Threads = None,
) -> None:
    """Write a model in eight bits, a quarter of its size in float32, or refuse it where that loses too much."""
    from udever.embedder import Embedder
    from udever.model.weights import EIGHT_BIT_NAME
    from udever.storage import check_replaceable

    quiet_transformers()
    check_replaceable(output, "model", [model])
    embedder = Embedder.load(model, dtype="int8", device="cpu")
    embedder.save(output, base=model)
    size_mb = (output / EIGHT_BIT_NAME).stat().st_size / 1e6
    console().print(f"{output}: {size_mb:,.1f} MB of weights, fingerprint {embedder.fingerprint}")
