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
    from udever.corpus.side_columns import columns_beside
    from udever.errors import DataError, OutputError
    from udever.nearest import suggestion
    from udever.search.index import open_searchable
    from udever.search.points import map_points, shared
    from udever.search.searchable import COLOURS
    from udever.server.map import MapPage, write_map

    if output.is_dir():  # before long work
        raise OutputError(f"cannot write {output}: it is a folder; give a file name, such as {output / 'map.html'}")
    out = console()
    after = open_searchable(vectors).vectors(limit)
    wanted = colour or COLOURS
    notes: list[str] = []
    if rows or "lines" not in after.columns:  # an index knows its own columns
        try:
            beside = columns_beside(Path(vectors), [*wanted, group_column], after.ids, rows)
            after = after.beside(beside, wanted, group_column)
        except DataError as error:
            if rows or colour:
                raise
            notes.append(f"without {', '.join(wanted)} and {group_column}: {error}")
    missing = [name for name in colour or () if name not in after.columns]
    if missing:
        hint = suggestion(missing[0], after.columns, "give --rows, or another --colour:")
        raise DataError(f"the texts have no column {missing[0]!r} with values; {hint}")
    earlier = None
    if before is not None:
        num_points = len(after.ids)
        after, earlier = shared(after, open_searchable(before).vectors(limit, after.ids))
        if len(after.ids) < num_points:
            notes.append(f"left out {num_points - len(after.ids):,} texts that {before} does not have")
    points = map_points(after, earlier, method)
    sides = [after] if earlier is None else [earlier, after]
    facts = [f"{side.name}: fingerprint {side.fingerprint}" for side in sides]
    name = title or Path(vectors).resolve().name
    page = MapPage(name, after.texts, after.num_rows, [*facts, f"laid out by {method}"], text_length)
    num_cut = write_map(output, points, page)
    out.print(
        f"{output}: {len(after.ids):,} of {after.num_rows:,} texts, {num_cut:,} of them cut to {text_length} "
        f"characters; {output.stat().st_size / 1e6:,.1f} MB"
    )
    for note in notes:
        out.print(f"  {note}")
