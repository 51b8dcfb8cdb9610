"""Columns that stand beside the texts in a job's input: its languages, kinds, groups."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from udever.corpus.folder import MANIFEST, read_manifest
from udever.corpus.inputs import BadRow, Columns, find_sources, read_records, read_rows
from udever.errors import DataError
from udever.records import Broken


def columns_beside(
    folder: Path, wanted: Sequence[str], ids: Sequence[str], inputs: list[str] | None = None
) -> dict[str, list[str]]:
    """The columns of `wanted` that the input of the job in `folder` has, for the rows `ids`; "" where one is empty.

    `inputs` says where the input is, else the job's manifest does. Without both, or where the input is a
    dataset on a hub, there are no columns. Raises DataError where the input cannot be read, or has none of the ids.
    """
    columns, split = Columns(), None
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder)
        columns, split = Columns(**manifest.columns), manifest.split
        inputs = inputs or manifest.inputs
    if not inputs or not wanted:
        return {}
    sources = find_sources(inputs, split)
    if any(source.is_hub for source in sources):
        return {}
    left = set(ids)
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        # Two readers side by side: one knows the rows' ids, the other the columns.
        records = read_records(source, [columns.text, *wanted])
        for row, (_, record) in zip(read_rows(source, columns), records, strict=False):
            if not left:
                break
            if not isinstance(row, BadRow) and not isinstance(record, Broken) and row.id in left:
                left.remove(row.id)
                found[row.id] = {name: record[name] for name in wanted if name in record}
    if ids and not found:
        raise DataError(f"{inputs[0]} has none of the rows of {folder}; name the file it was made from (--rows)")
    present = [name for name in wanted if any(name in record for record in found.values())]
    return {name: [_show(found.get(row, {}).get(name)) for row in ids] for name in present}


def _show(value: Any) -> str:
    return "" if value is None else str(value)
