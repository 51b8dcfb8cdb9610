"""`udever train` and `udever plan`: recipes."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Threads, app, console
from udever.terminal import quiet_transformers

RecipeFile = Annotated[Path, typer.Argument(help="Recipe in TOML.", show_default=False)]


@app.command()
def train(
    recipe: RecipeFile,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint, if there is one.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Delete the checkpoints and begin anew.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Resume though the recipe or the data changed.")
    ] = False,
    _threads: Threads = None,
) -> None:
    """Finetune a backbone into an embedder as a recipe says; start it with torchrun to use many processes."""
    from udever.training import Recipe
    from udever.training import train as run

    quiet_transformers()
    read = Recipe.read(recipe)
    history = run(read, resume=resume, restart=restart, allow_changes=allow_changes, tell=console().print)
    if history.stopped:
        last = history.steps[-1].number if history.steps else 0
        console().print(f"stopped after step {last:,}; go on with: udever train {recipe} --resume")
        raise typer.Exit(130)
    console().print(
        f"{read.output.folder}: {len(history.steps):,} steps, {history.moved}"
        + (f", last loss {history.steps[-1].loss:.3f}" if history.steps else "")
    )
    if (Path(read.output.folder) / "adapter_config.json").is_file():
        whole = f"udever merge -m {read.output.folder} -o {read.output.folder}-whole"
        console().print(f"an adapter over {read.model.base}; whole weights: {whole}")
    if history.outcome:
        console().print(history.outcome)


@app.command()
def plan(recipe: RecipeFile, _threads: Threads = None) -> None:
    """Say what a recipe will do and take, before it runs: tokens, duplicates, memory, time."""
    from udever.training import Recipe
    from udever.training import plan as make

    quiet_transformers()
    for line in make(Recipe.read(recipe)).lines():
        console().print(line)
