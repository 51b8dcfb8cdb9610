"""`udever embed`: files of texts to vectors."""

from pathlib import Path
from typing import Annotated, Any

import typer

from udever.cli.app import Device, Dtype, Model, RoleOption, app, console, quiet_transformers


@app.command()
def embed(
    model: Model,
    texts: Annotated[Path, typer.Argument(help="JSONL, Parquet or text file (a text a line).", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    role: Annotated[RoleOption, typer.Option(help="Side the texts are on.")] = RoleOption.document,
    column: Annotated[str, typer.Option(help="Column or key that holds the text.")] = "text",
    dimensions: Annotated[int | None, typer.Option(help="Keep the first ones of each vector.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Most tokens in one forward pass.")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Embed every text of a file."""
    from udever.corpus import embed_file
    from udever.embedder import Embedder

    quiet_transformers()
    embedder = Embedder.load(model, dtype=dtype, device=device)
    options: dict[str, Any] = {"role": str(role), "dimensions": dimensions, "batch_tokens": batch_tokens}
    summary = embed_file(embedder, texts, output, column=column, **options)
    console().print(
        f"{output}: {summary.num_rows:,} texts, {summary.num_tokens:,} tokens, {summary.num_truncated:,} cut, "
        f"{summary.num_tokens / max(summary.seconds, 1e-9):,.0f} tokens/s"
    )
