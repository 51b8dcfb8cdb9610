import os
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.errors import DataError, MissingExtra
from udever.search.projection import project


@given(rows=st.integers(1, 30), columns=st.integers(1, 12), seed=st.integers(0, 100))
def test_pca_is_scikit_learns_up_to_the_sign(rows, columns, seed):
    x = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    points = project(x)
    assert points.shape == (rows, 2) and points.dtype == np.float32
    assert np.array_equal(points, project(x))
    kept = min(rows, columns, 2)
    from sklearn.decomposition import PCA

    if rows > 1:
        expected = np.abs(PCA(kept, svd_solver="full").fit_transform(x.astype(np.float64)))
        np.testing.assert_allclose(np.abs(points[:, :kept]), expected, atol=2e-4)
    assert np.all(points[:, kept:] == 0)


def test_the_sign_of_pca_does_not_depend_on_the_library():
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    for points in (project(x), project(x[:3])):
        largest = np.abs(points).argmax(axis=0)
        assert np.all(points[largest, [0, 1]] > 0)


def test_many_rows_and_few_rows_take_the_same_directions():
    x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    wide = np.concatenate([x, np.zeros((40, 100), np.float32)], axis=1)  # now fewer rows than columns
    np.testing.assert_allclose(project(x), project(wide), atol=1e-4)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (4, 0), (2, 2, 2)])
def test_what_is_no_table_is_refused(shape):
    with pytest.raises(DataError, match="shape"):
        project(np.zeros(shape, np.float32))


def test_a_number_that_is_not_finite_is_refused_by_its_row():
    x = np.zeros((4, 3), np.float32)
    x[2, 1] = np.nan
    with pytest.raises(DataError, match="row 2 "):
        project(x)


def test_an_unknown_method_is_refused():
    with pytest.raises(DataError, match="tsne"):
        project(np.zeros((4, 3), np.float32), method="tsne")


def test_umap_is_called_for_the_same_picture_every_time(monkeypatch):
    seen = {}

    class Fake:
        def __init__(self, **options):
            seen.update(options)

        def fit_transform(self, x):
            return x[:, :2].astype(np.float64)

    module = ModuleType("umap")
    module.UMAP = Fake
    monkeypatch.setitem(sys.modules, "umap", module)
    points = project(np.ones((6, 3), np.float32), method="umap", seed=7)
    assert points.dtype == np.float32 and points.shape == (6, 2)
    assert SimpleNamespace(**seen).random_state == 7 and seen["n_jobs"] == 1 and seen["n_neighbors"] == 5
    with pytest.raises(DataError, match="3 rows"):
        project(np.ones((3, 3), np.float32), method="umap")


def test_without_umap_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"pip install 'udever\[umap\]'"):
        project(np.ones((6, 3), np.float32), method="umap")


def test_umap_itself():
    # Compiling takes umap half a minute; interpreted, a picture of six points takes a moment.
    code = (
        "import numpy as np; from udever.search.projection import project;"
        "x = np.random.default_rng(0).normal(size=(6, 4)).astype('f4'); a = project(x, method='umap', seed=1);"
        "print(a.shape, np.isfinite(a).all(), np.array_equal(a, project(x, method='umap', seed=1)))"
    )
    if find_spec("umap") is None:
        pytest.skip("umap-learn is not installed: pip install 'udever[umap]'")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "(6, 2) True True"
