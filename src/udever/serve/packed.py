"""Numbers and columns as JSON carries them: base64 of their bytes, and codes for words that repeat."""

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udever.serve.ports import MapPoints


def base64_of(array: NDArray[Any]) -> str:
    """The array's bytes, little-endian, in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return binascii.b2a_base64(little.data, newline=False).decode("ascii")


def coded(values: Sequence[str]) -> dict[str, Any]:
    """A column of few distinct values: their names, and for each row which one, as base64 of int32."""
    names, codes = np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)
    return {"names": names.tolist(), "codes": base64_of(codes.astype(np.int32))}


def packed_map(points: MapPoints, num_rows: int) -> dict[str, Any]:
    """The points as `/v1/map` answers and as a map file holds them, out of `num_rows` rows in all."""

    def side(xy: NDArray[np.float32] | None, axis: int) -> str | None:
        return None if xy is None else base64_of(np.asarray(xy, dtype=np.float32)[:, axis])

    return {
        "num_points": len(points.xy),
        "num_rows": num_rows,
        "x": side(points.xy, 0),
        "y": side(points.xy, 1),
        "before_x": side(points.before, 0),
        "before_y": side(points.before, 1),
        "models": list(points.models),
        "ids": list(points.ids),
        "columns": {name: coded(values) for name, values in points.columns.items()},
        "links": base64_of(np.asarray(points.links, dtype=np.int32)),
    }
