"""Vectors of an embedding job, a file or an index, with what else is known of their texts, as a map in one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from udever.corpus.folder import MANIFEST, read_manifest
from udever.corpus.side_columns import columns_beside
from udever.errors import DataError, OutputError
from udever.nearest import suggestion
from udever.search.index import open_searchable
from udever.search.points import map_points, shared
from udever.search.projection import Method
from udever.search.searchable import COLOURS, Vectors
from udever.server.map import MapPage, write_map
from udever.storage import check_file


@dataclass(frozen=True)
class MapSettings:
    """What a map shows.

    `colour` names columns to colour by (none: COLOURS, where they are there), `group_column` that of texts that lines
    join, `rows` where the texts' other columns are if the embedded files have moved. Of more than `limit` vectors some
    are left out evenly, of each text what is beyond `text_length` characters.
    """

    colour: Sequence[str] = ()
    group_column: str = "group"
    rows: Sequence[str] = ()
    limit: int = 50_000
    text_length: int = 400
    method: Method = "pca"
    title: str | None = None


@dataclass(frozen=True)
class Drawn:
    """How many of all texts are on a map, how many were cut, and what is missing, in words."""

    num_texts: int
    num_rows: int
    num_cut: int
    notes: list[str]


def draw_map(vectors: str, output: Path, settings: MapSettings = MapSettings(), before: str | None = None) -> Drawn:
    """Write the map of `vectors` to `output`; with `before` that of the same texts by another model beside it.

    Raises DataError for a column that the texts do not have, OutputError where the file cannot be written or is read.
    """
    if output.is_dir():  # before long work
        raise OutputError(f"cannot write {output}: it is a folder; give a file name, such as {output / 'map.html'}")
    check_file(output, _read_for(vectors, settings, before), own=(".html",))
    after, notes = _with_columns(vectors, settings)
    earlier = None
    if before is not None:
        num_points = len(after.ids)
        after, earlier = shared(after, open_searchable(before).vectors(settings.limit, after.ids))
        if len(after.ids) < num_points:
            notes.append(f"left out {num_points - len(after.ids):,} texts that {before} does not have")
    points = map_points(after, earlier, settings.method)
    sides = [after] if earlier is None else [earlier, after]
    facts = [*(f"{side.name}: fingerprint {side.fingerprint}" for side in sides), f"laid out by {settings.method}"]
    title = settings.title or Path(vectors).resolve().name
    num_cut = write_map(output, points, MapPage(title, after.texts, after.num_rows, facts, settings.text_length))
    return Drawn(len(after.ids), after.num_rows, num_cut, notes)


def _read_for(vectors: str, settings: MapSettings, before: str | None) -> list[str]:
    """The files and folders that a map is made from."""
    embedded = read_manifest(Path(vectors)).inputs if (Path(vectors) / MANIFEST).is_file() else []
    return [vectors, *([before] if before else []), *(settings.rows or embedded)]


def _with_columns(place: str, settings: MapSettings) -> tuple[Vectors, list[str]]:
    """The vectors with the columns to colour and join by, and a note where those that nobody named are not there."""
    found = open_searchable(place).vectors(settings.limit)
    wanted = settings.colour or COLOURS
    notes: list[str] = []
    if settings.rows or "lines" not in found.columns:  # an index knows its own columns
        columns = [*wanted, settings.group_column]
        try:
            beside = columns_beside(Path(place), columns, found.ids, list(settings.rows))
            found = found.beside(beside, wanted, settings.group_column)
        except DataError as error:
            if settings.rows or settings.colour:
                raise
            notes.append(f"without {', '.join(wanted)} and {settings.group_column}: {error}")
    missing = [name for name in settings.colour if name not in found.columns]
    if missing:
        hint = suggestion(missing[0], found.columns, "give --rows, or another --colour:")
        raise DataError(f"the texts have no column {missing[0]!r} with values; {hint}")
    return found, notes
