import json

import numpy as np
import pytest

from udever import Embedder
from udever.errors import DataError, ModelError
from udever.evaluation.endpoint import EndpointOptions
from udever.evaluation.models_under_test import ModelOptions, model_under_test, recipe_of, trained_on, training_of

OPTIONS = ModelOptions(dtype="float32", device="cpu")


@pytest.fixture
def folder(make, tmp_path):
    return make.decoder("llama", tmp_path / "model")


def key(folder, **options):
    return model_under_test(str(folder), ModelOptions(**{"dtype": "float32", **options})).key


def test_the_key_follows_files_and_options(folder):
    first = key(folder)
    assert key(folder) == first
    seen = {first}
    seen |= {key(folder, **{name: value}) for name, value in (
        ("dtype", "auto"), ("dimensions", 8), ("instructions", True), ("prompts", {"STS": "a"}), ("name", "b"),
    )}  # fmt: skip
    (folder / "udever.json").write_text(json.dumps({"base": None}))
    seen.add(key(folder))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    seen.add(key(folder))
    seen.add(model_under_test(f"st:{folder}", OPTIONS).key)
    assert len(seen) == 9


def test_the_card_alone_does_not_change_the_key(folder):
    before = key(folder)
    (folder / "README.md").write_text("hello")
    assert key(folder) == before


@pytest.mark.parametrize("link", ["udever.json", "adapter_config.json"])
def test_an_adapter_counts_its_base_whoever_wrote_it(link, folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()

    def of(base):
        named = {"base": {"name": base}} if link == "udever.json" else {"base_model_name_or_path": base}
        (adapter / link).write_text(json.dumps(named))
        return key(adapter)

    before = of(str(folder))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert of(str(folder)) != before
    assert of("org/on-the-hub") is None  # which may be another one tomorrow
    assert of("seedling") is not None


def test_a_model_in_a_hidden_folder_is_read(folder, tmp_path):
    hidden = folder.rename(tmp_path / ".best")
    before = key(hidden)
    (hidden / "config.json").write_text((hidden / "config.json").read_text() + " ")
    assert key(hidden) != before
    before = key(hidden)
    (hidden / ".cache").mkdir()
    (hidden / ".cache" / "download.json").write_text("{}")
    assert key(hidden) == before


def test_ours_is_loaded_with_its_name(folder):
    model = model_under_test(str(folder), OPTIONS).load()
    assert model.mteb_model_meta.name == "local/model" and len(model.mteb_model_meta.revision) == 32
    assert (
        model_under_test(str(folder), ModelOptions(name="org/x", dtype="float32")).load().mteb_model_meta.name
        == "org/x"
    )


def test_an_embedder_says_what_it_was_trained_on_as_its_folder_does(folder):
    (folder / "README.md").write_text("---\ntrained_on: [sts13]\n---\n# A model")
    for model in (str(folder), Embedder.load(folder, dtype="float32")):
        assert model_under_test(model, OPTIONS).load().trained_on == {"sts13"}


def test_a_sentence_transformers_folder_gives_its_own_vectors(embedders, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "model"
    embedders("llama").save(folder)
    ours, theirs = (model_under_test(f"{kind}{folder}", OPTIONS).load() for kind in ("", "st:"))
    words = ["hello world", "a", "sum of numbers"]
    expected = SentenceTransformer(str(folder), device="cpu").encode(words)
    for model in (ours, theirs):
        np.testing.assert_allclose(model.embed(words, "symmetric", None, "x"), expected, atol=2e-5)
    assert ours.mteb_model_meta.revision != theirs.mteb_model_meta.revision
    assert theirs.mteb_model_meta.n_parameters == ours.mteb_model_meta.n_parameters


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "st:/nowhere"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(ModelError, match="is not a folder"):
        model_under_test(name, OPTIONS)


def test_a_folder_that_sentence_transformers_cannot_use(tmp_path):
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(ModelError, match="no sentence-transformers model"):
        model_under_test(f"st:{tmp_path}", OPTIONS).load()


def test_an_endpoint_is_told_apart_by_address_model_and_options():
    revisions = {
        model_under_test(model, options, EndpointOptions(url, model)).key
        for url in ("https://a.example", "https://b.example")
        for model in ("m", "n")
        for options in (OPTIONS, ModelOptions(dimensions=3))
    }
    assert len(revisions) == 8


def test_what_a_card_and_a_recipe_say_of_training(tmp_path):
    assert trained_on(tmp_path) == frozenset()
    (tmp_path / "README.md").write_text(
        "---\nlicense: mit\ntrained_on:\n- sts13\n- STS12\n---\n# Card\ntrained_on: [no]\n"
    )
    (tmp_path / "recipe.toml").write_text('[data]\npairs = ["a"]\ntrained_on = ["xnli"]\n')
    assert trained_on(tmp_path) == {"sts13", "STS12", "xnli"}
    assert recipe_of(tmp_path) == {"data": {"pairs": ["a"], "trained_on": ["xnli"]}}
    (tmp_path / "recipe.toml").write_text('[data]\ntrained_on = "xnli"\n')
    with pytest.raises(DataError, match=r"recipe\.toml: trained_on is 'xnli'; expected a list"):
        trained_on(tmp_path)
    (tmp_path / "recipe.toml").write_text("[data")
    with pytest.raises(DataError, match=r"recipe\.toml cannot be read"):
        trained_on(tmp_path)


def test_what_training_left_is_read(tmp_path):
    assert training_of(tmp_path) is None
    (tmp_path / "training.json").write_text('{"tuning": "lora"}')
    assert training_of(tmp_path) == {"tuning": "lora"}
    for content, told in (("{", "cannot be read"), ("[1]", r"holds '\[1\]'; expected an object")):
        (tmp_path / "training.json").write_text(content)
        with pytest.raises(DataError, match=rf"training\.json {told}"):
            training_of(tmp_path)
