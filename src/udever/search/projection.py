"""Embeddings on a plane, to be looked at: the same points every time for the same input."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from udever.errors import DataError, needs

Method = Literal["pca", "umap"]

_UMAP_LEAST = 4
_UMAP_NEIGHBOURS = 15


def project(embeddings: NDArray[np.float32], *, method: Method = "pca", seed: int = 0) -> NDArray[np.float32]:
    """Coordinates on a plane for each row: float32 [n, d] -> float32 [n, 2], equal for equal input and seed.

    "pca" keeps the two directions of greatest variance, the greater first, each pointing to where its largest
    coordinate is positive; it is linear and uses no randomness. "umap" keeps neighbourhoods by cosine and no
    distances. Raises DataError for what is no table of finite numbers or has too few rows, MissingExtra where
    umap-learn is not installed.
    """
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise DataError(f"embeddings have shape {embeddings.shape}; expected rows by dimensions, at least one of each")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise DataError(f"row {bad[0]} ({len(bad)} in all) holds a number that is not finite; embed it again")
    if method == "pca":
        return _pca(embeddings)
    if method == "umap":
        return _umap(embeddings, seed)
    raise DataError(f"method is {method!r}; expected 'pca' or 'umap'")


def align(points: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """`points` [n, 2] moved, turned or mirrored, and scaled to the spread of `target` [n, 2], as near to it as it gets.

    For two pictures of the same rows: orthogonal Procrustes. Distances among the points keep their proportions.
    """
    assert points.shape == target.shape
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    middle = target.mean(axis=0, dtype=np.float64)
    wanted = target.astype(np.float64) - middle
    left, _, right = np.linalg.svd(centred.T @ wanted)
    size = np.linalg.norm(centred)
    scale = np.linalg.norm(wanted) / size if size else 1.0
    return (centred @ left @ right * scale + middle).astype(np.float32)


def _pca(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = embeddings.astype(np.float64)
    centred -= centred.mean(axis=0)
    rows, columns = centred.shape
    if rows > columns:
        # The same directions from the small matrix, at a tenth of the cost for many rows.
        directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    else:
        directions = np.linalg.svd(centred, full_matrices=False)[2][:2].T
    points = np.zeros((rows, 2))
    points[:, : directions.shape[1]] = centred @ directions
    # A direction and its opposite are equally good; without a choice the picture would flip between machines.
    largest = points[np.abs(points).argmax(axis=0), [0, 1]]
    return (points * np.where(largest < 0, -1, 1)).astype(np.float32)


def _umap(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    import warnings

    rows = len(embeddings)
    if rows < _UMAP_LEAST:
        raise DataError(f"umap was given {rows} rows and needs at least {_UMAP_LEAST}; take method 'pca'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler below it, about itself
        with needs("umap-learn", "umap", "method umap"):
            from umap import UMAP  # pyright: ignore[reportMissingImports]  # an extra that "all" leaves out
        neighbours = min(_UMAP_NEIGHBOURS, rows - 1)
        start = "spectral" if rows > 10 else "random"  # the spectral start needs more rows than its vectors
        reducer = UMAP(n_neighbors=neighbours, metric="cosine", init=start, random_state=seed, n_jobs=1)
        return np.asarray(reducer.fit_transform(embeddings), dtype=np.float32)
