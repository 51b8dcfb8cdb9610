import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from udever.classify import Filter
from udever.classify.head import probabilities
from udever.errors import ContractError, DataError, OutputError


def make(kind="one", thresholds=(0.5, 0.0, 0.25), **changes):
    rng = np.random.default_rng(0)
    values = {
        "labels": ("a", "b", "ç | d"),
        "kind": kind,
        "weight": rng.normal(size=(3, 5)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
        "thresholds": np.array(thresholds, np.float32),
        "fingerprint": "abc",
        "model": "org/model",
        "precision": 0.9,
    }
    return Filter(**{**values, **changes})


X = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)


@pytest.mark.parametrize("kind", ["one", "several"])
def test_saved_and_loaded_it_is_the_same(tmp_path, kind):
    made = make(kind)
    made.save(tmp_path / "filter", {"report.md": "# hello\n"})
    loaded = Filter.load(tmp_path / "filter")
    np.testing.assert_array_equal(loaded.predict(X), made.predict(X))
    np.testing.assert_array_equal(loaded.decide(loaded.predict(X)), made.decide(made.predict(X)))
    assert (loaded.labels, loaded.kind, loaded.precision, loaded.digest) == (made.labels, kind, 0.9, made.digest)
    assert (tmp_path / "filter" / "report.md").read_text() == "# hello\n"
    make("several").save(tmp_path / "filter")  # an earlier filter may be replaced
    assert not (tmp_path / "filter" / "report.md").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(OutputError, match="not an earlier output"):
        made.save(tmp_path / "other")


def test_nothing_on_disk_is_a_pickle(tmp_path):
    make().save(tmp_path / "filter")
    assert {path.name for path in (tmp_path / "filter").iterdir()} == {
        ".udever-output.json",
        "filter.json",
        "head.safetensors",
    }
    head = (tmp_path / "filter" / "head.safetensors").read_bytes()
    assert set(json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])) == {"weight", "bias"}


def test_another_embedder_is_refused():
    make().check("abc")
    with pytest.raises(ContractError, match=r"with fingerprint abc \(org/model\), the model given has d"):
        make().check("def")
    for wrong in (X[:, :4], X[0], np.full((1, 5), np.nan)):
        with pytest.raises(ContractError, match=r"embeddings have shape|not finite"):
            make().predict(wrong)


@given(scores=arrays(np.float64, (4, 3), elements=st.floats(-500, 500)))
def test_probabilities_against_their_definition(scores):
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(probabilities(scores, "several"), 1 / (1 + np.exp(-scores)), atol=1e-12)
    one = probabilities(scores, "one")
    np.testing.assert_allclose(one.sum(axis=1), 1)
    order = np.take_along_axis(one, scores.argsort(axis=1), axis=1)
    assert (np.diff(order, axis=1) >= 0).all()


def test_decisions():
    one = make("one").decide(np.array([[0.6, 0.3, 0.1], [0.45, 0.3, 0.25], [0.3, 0.4, 0.3]], np.float32))
    np.testing.assert_array_equal(one, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    several = make("several").decide(np.array([[0.6, 0.3, 0.1], [0.4, 0.0, 0.25]], np.float32))
    np.testing.assert_array_equal(several, [[1, 1, 0], [0, 1, 1]])
    assert make().names(several) == [["a", "b"], ["b", "ç | d"]]


def test_columns_for_a_corpus():
    made = make("several")
    rows = made.records(X)
    np.testing.assert_array_equal(rows["probabilities"], made.predict(X))
    assert made.show(rows)["labels"].to_pylist() == made.names(made.decide(made.predict(X)))
    assert json.loads(made.identity["udever.labels"]) == ["a", "b", "ç | d"]
    changed = make("several", weight=made.weight + 1)
    assert changed.identity["udever.filter"] != made.identity["udever.filter"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "head.safetensors").unlink(),
        lambda folder: (folder / "head.safetensors").write_bytes(b"rubbish"),
        lambda folder: (folder / "filter.json").write_text("{"),
        lambda folder: (folder / "filter.json").write_text("[]"),
        lambda folder: (folder / "filter.json").write_text(
            (folder / "filter.json").read_text().replace('"a",', '"a", "x",')
        ),
        lambda folder: (folder / "filter.json").write_text(
            (folder / "filter.json").read_text().replace('"one"', '"two"')
        ),
        lambda folder: (folder / "filter.json").unlink(),
    ],
)
def test_a_damaged_filter_is_named(tmp_path, damage):
    make().save(tmp_path / "filter")
    damage(tmp_path / "filter")
    with pytest.raises(DataError, match=r"filter (cannot be read|holds no)|fit the filter again"):
        Filter.load(tmp_path / "filter")
