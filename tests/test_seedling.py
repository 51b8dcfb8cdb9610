"""The bundled model: found by its name, offline, small, and what its card says."""

import numpy as np
import pytest

import udever.packaged
from udever import Embedder
from udever.errors import ModelError
from udever.evaluation.models_under_test import ModelOptions, model_under_test
from udever.training.recipe import ModelSettings
from udever.training.run import load_base

FOLDER = udever.packaged.MODELS / "seedling"
MOST_BYTES = 36_000_000

bundled = pytest.mark.skipif(not (FOLDER / "udever.json").is_file(), reason="the seedling is not trained yet")


def test_an_installation_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(udever.packaged, "MODELS", tmp_path / "none")
    with pytest.raises(ModelError, match="seedling is bundled with udever, and this installation lacks it"):
        Embedder.load("seedling")


def test_its_name_is_looked_up_beside_the_package(embedders, tmp_path, monkeypatch):
    saved = tmp_path / "package" / "seedling"
    embedders("bloom").save(saved)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(udever.packaged, "MODELS", tmp_path / "package")
    assert Embedder.load("seedling", dtype="float32").fingerprint == embedders("bloom").fingerprint


def test_a_folder_of_that_name_goes_first(embedders, tmp_path, monkeypatch):
    embedders("bloom").save(tmp_path / "seedling")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(udever.packaged, "MODELS", tmp_path / "none")
    assert Embedder.load("seedling", dtype="float32").fingerprint == embedders("bloom").fingerprint


@bundled
def test_it_is_small_and_carries_its_card():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MOST_BYTES
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for heading in ("## Data and licences", "## Training", "## Scores", "## Limits"):
        assert heading in card


@bundled
def test_meaning_goes_before_language():
    seedling = Embedder.load("seedling", dtype="float32")
    texts = ["The weather is nice today.", "Das Wetter ist heute schön.", "Save the file to the disk."]
    vectors = seedling.encode(texts)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.3 + vectors[0] @ vectors[2]


@bundled
def test_sentence_transformers_gives_its_vectors(tmp_path):
    """By our module, for the table is packed; once saved plain by its own, without a word about precision."""
    from sentence_transformers import SentenceTransformer

    texts = ["The weather is nice today.", "def add(a, b): return a + b"]
    seedling = Embedder.load("seedling", dtype="float32")
    seedling.save(tmp_path / "plain")
    ours = seedling.encode(texts)
    for folder, trust in ((FOLDER, True), (tmp_path / "plain", False)):
        theirs = SentenceTransformer(str(folder), device="cpu", trust_remote_code=trust).encode(texts)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@bundled
def test_hostile_texts_give_vectors():
    seedling = Embedder.load("seedling", dtype="float32")
    texts = ["", " ", "\x00", "XMLHttpRequest2JSON", "ÅÄÖ ẞ ﬀ ①", "👨‍👩‍👧‍👦", "\u202eabc", "a" * 5000, "</s>[BOQ]"]
    with pytest.warns(UserWarning, match="were cut"):
        assert np.isfinite(seedling.encode(texts, allow_empty=True)).all()


@bundled
def test_as_a_base_it_keeps_its_closing_token():
    base, seedling = load_base(ModelSettings(base="seedling", max_length=300)), Embedder.load("seedling")
    assert base.contract == seedling.contract.model_copy(update={"max_length": 300})


@bundled
def test_it_is_a_candidate_that_is_known_without_loading():
    found = model_under_test("seedling", ModelOptions())
    assert found.key is not None and found.name == "seedling"


@bundled
def test_code_is_found_from_other_languages():
    seedling = Embedder.load("seedling")
    functions = seedling.encode_document(
        [
            "def write_file(path, text):\n    open(path, 'w').write(text)",
            "def sort_numbers(values):\n    return sorted(values)",
        ]
    )
    questions = seedling.encode_query(
        ["Text in eine Datei schreiben", "trier une liste de nombres", "数値を並べ替える"]
    )
    assert (questions @ functions.T).argmax(1).tolist() == [0, 1, 1]
