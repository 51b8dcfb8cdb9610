"""`udever search`."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Device, Dtype, Model, app, console, quiet_transformers


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

    quiet_transformers()
    embedder = Embedder.load(model, dtype=dtype, device=device)
    hits = run(embedder, path, query, top_k, instruction=instruction, show_progress=True)
    out = console()
    for hit in hits:
        if json:
            import json as encoder
            from dataclasses import asdict

            typer.echo(encoder.dumps(asdict(hit), ensure_ascii=False))
        else:
            out.print(f"{hit.score:.3f}  {hit.source or hit.id}", highlight=False, markup=False)
            out.print(f"       {' '.join(hit.text.split())[:100]}", highlight=False, markup=False)
