"""`udever merge`: several models averaged into one."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from udever.cli.app import Models, app, console
from udever.terminal import quiet_transformers


@app.command()
def merge(
    model: Models,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    method: Annotated[Literal["linear", "slerp"], typer.Option(help="Straight mean, or along the arc.")] = "linear",
    weights: Annotated[str | None, typer.Option(help="A number for each model: 2,1. All alike if left out.")] = None,
) -> None:
    """Average finetuned models of one architecture into one; adapters are folded in first."""
    from udever.merge import merge_models

    quiet_transformers()
    merged = merge_models(model, output, method=method, weights=_numbers(weights))
    console().print(f"{output}: {len(model)} models, fingerprint {merged.fingerprint}")


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"weights is {text!r}; expected numbers such as 2,1") from error
