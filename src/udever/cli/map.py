"""`udever map`: vectors as a picture in one file."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Method, app, console


@app.command(name="map")
def map_(
    vectors: Annotated[
        str, typer.Argument(help="Folder of `udever embed`, an embeddings file, or an index.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    before: Annotated[
        str | None, typer.Option(help="The same texts embedded by another model: the map shows before and after.")
    ] = None,
    rows: Annotated[
        list[str] | None, typer.Option(help="Where the texts' other columns are, if the embedded files have moved.")
    ] = None,
    colour: Annotated[
        list[str] | None, typer.Option(help="Column to colour by; language, kind and label if left out.")
    ] = None,
    group_column: Annotated[str, typer.Option(help="Column equal for texts that are joined by lines.")] = "group",
    limit: Annotated[int, typer.Option(min=1, help="Most points; more rows are thinned evenly.")] = 50_000,
    text_length: Annotated[int, typer.Option(min=1, help="Characters kept of each text.")] = 400,
    method: Annotated[Method, typer.Option(help="How vectors are laid on the plane.")] = "pca",
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
) -> None:
    """Draw vectors as a map in one HTML file that needs no server and loads nothing."""
    from udever.report.vectors_map import MapSettings, draw_map

    settings = MapSettings(colour or (), group_column, rows or (), limit, text_length, method, title)
    drawn = draw_map(vectors, output, settings, before)
    out = console()
    out.print(
        f"{output}: {drawn.num_texts:,} of {drawn.num_rows:,} texts, {drawn.num_cut:,} of them cut to {text_length} "
        f"characters; {output.stat().st_size / 1e6:,.1f} MB"
    )
    for note in drawn.notes:
        out.print(f"  {note}")
