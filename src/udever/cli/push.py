"""`udever push`: a finetuned model onto the model hub."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import app, console
from udever.model_process import load_quietly


@app.command()
def push(
    name: Annotated[str, typer.Argument(help="Where to: org/model.", show_default=False)],
    model: Annotated[Path, typer.Option("--model", "-m", help="Folder of the model.", show_default=False)],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; else it is private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, made if missing.")] = None,
    message: Annotated[str, typer.Option(help="Commit message.")] = "",
) -> None:
    """Check a model and publish it on the hub, with HF_TOKEN or the login of `hf auth login`."""
    from udever.hub import publish

    load_quietly(str(model))
    address = publish(model, name, private=not public, revision=revision, message=message)
    console().print(f"{name}: {address}")
