"""`udever train`: recipes."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import app, console, quiet_transformers


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML.", show_default=False)],
) -> None:
    """Finetune a backbone into an embedder as a recipe says."""
    from udever.config import read_recipe
    from udever.train import run_recipe

    quiet_transformers()
    read = read_recipe(recipe)
    history = run_recipe(read)
    console().print(
        f"{read.output.folder}: {len(history.steps):,} steps, {history.num_trainable:,} parameters moved, "
        f"last loss {history.steps[-1].loss:.3f}"
    )
