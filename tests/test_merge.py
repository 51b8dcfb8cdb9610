"""`udever merge`: means and arcs of weights, adapters folded in, and what may not be mixed."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from udever import Embedder
from udever.errors import ModelError, OutputError
from udever.merge import merge_models
from udever.model import merging
from udever.model.adapters import apply_tuning
from udever.model.artefact import trained_on
from udever.model.merging import blend, lerp, slerp

TEXTS = ["add two numbers", "hello world", "def f(): return 1"]


@pytest.fixture(scope="module")
def models(make, tmp_path_factory):
    """Folders of two models of one kind, as this project saves them."""
    root = tmp_path_factory.mktemp("merge")
    for seed, name in enumerate("ab"):
        make.decoder("qwen3", root / f"raw-{name}", seed=seed)
        Embedder.load(root / f"raw-{name}", dtype="float32").save(root / name)
    return root


def with_settings(folder, other, **changes):
    """A copy of a model's folder with entries of its configuration changed."""
    path = shutil.copytree(folder, other) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return other


def weights(folder):
    return Embedder.load(folder, dtype="float32").backbone.state_dict()


@pytest.mark.parametrize(("given_weights", "share"), [(None, 0.5), ([3.0, 1.0], 0.25), ([1.0, 0.0], 0.0)])
def test_linear_is_the_weighted_mean(models, tmp_path, given_weights, share):
    merged = merge_models([str(models / "a"), str(models / "b")], tmp_path / "out", weights=given_weights)
    left, right, out = weights(models / "a"), weights(models / "b"), weights(tmp_path / "out")
    for name, tensor in out.items():
        expected = left[name].double() * (1 - share) + right[name].double() * share
        torch.testing.assert_close(tensor.double(), expected, rtol=0, atol=1e-6)
    loaded = Embedder.load(tmp_path / "out", dtype="float32")
    np.testing.assert_allclose(loaded.encode_query(TEXTS), merged.encode_query(TEXTS), atol=1e-6)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"| `{models / 'a'}` | {1 - share:.4g} |" in card and f"| `{models / 'b'}` | {share:.4g} |" in card
    assert Embedder.load(models / "a").fingerprint in card


def test_three_models_in_any_order(models, tmp_path, make):
    make.decoder("qwen3", tmp_path / "raw", seed=7)
    Embedder.load(tmp_path / "raw", dtype="float32").save(tmp_path / "c")
    parts = [str(models / "a"), str(models / "b"), str(tmp_path / "c")]
    merge_models(parts, tmp_path / "out")
    merge_models(parts[::-1], tmp_path / "back")
    states = [weights(part) for part in parts]
    back = weights(tmp_path / "back")
    for name, tensor in weights(tmp_path / "out").items():
        torch.testing.assert_close(tensor, torch.stack([state[name] for state in states]).mean(0), rtol=0, atol=1e-6)
        torch.testing.assert_close(tensor, back[name], rtol=0, atol=1e-6)


def test_slerp_of_models_lies_on_the_arc(models, tmp_path):
    merge_models([str(models / "a"), str(models / "b")], tmp_path / "out", method="slerp", weights=[3, 1])
    left, right, out = weights(models / "a"), weights(models / "b"), weights(tmp_path / "out")
    for name, tensor in out.items():
        torch.testing.assert_close(tensor, slerp(left[name], right[name], 0.25), rtol=0, atol=1e-6)
    assert any(not torch.allclose(out[name], lerp(left[name], right[name], 0.25), atol=1e-4) for name in out)


@given(
    st.integers(1, 6).flatmap(lambda size: st.tuples(*[st.lists(st.floats(-3, 3), min_size=size, max_size=size)] * 2))
)
def test_slerp_has_its_ends_and_is_finite(pair):
    left, right = (torch.tensor(values, dtype=torch.float64) for values in pair)
    torch.testing.assert_close(slerp(left, right, 0.0), left, rtol=0, atol=1e-8)
    torch.testing.assert_close(slerp(left, right, 1.0), right, rtol=0, atol=1e-8)
    assert slerp(left, right, 0.3).isfinite().all()


@given(st.floats(0.01, math.pi - 0.01), st.floats(0, 1))
def test_slerp_of_unit_vectors_turns_evenly(angle, share):
    right = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    out = slerp(torch.tensor([1.0, 0.0], dtype=torch.float64), right, share)
    expected = [math.cos(share * angle), math.sin(share * angle)]
    torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("family", "tuning"), [("qwen3", "lora"), ("bloom", "bitfit")])
def test_a_merged_adapter_is_the_unmerged_one(decoders, tmp_path, family, tuning):
    embedder = Embedder.load(decoders(family), dtype="float32")
    apply_tuning(embedder.backbone, tuning, lora_rank=4)
    with torch.no_grad():
        for parameter in embedder.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    embedder.weights_changed()
    expected = embedder.encode_query(TEXTS)
    embedder.save(tmp_path / "adapter", merged=False, base=str(decoders(family)))
    merge_models([str(tmp_path / "adapter")], tmp_path / "whole")
    assert not list((tmp_path / "whole").glob("adapter*")) and not list((tmp_path / "whole").glob("bitfit*"))
    whole = Embedder.load(tmp_path / "whole", dtype="float32")
    np.testing.assert_allclose(whole.encode_query(TEXTS), expected, atol=1e-5)
    # an adapter and its own base: half of what training moved
    merge_models([str(decoders(family)), str(tmp_path / "adapter")], tmp_path / "half")
    base, moved, half = (weights(folder) for folder in (decoders(family), tmp_path / "whole", tmp_path / "half"))
    for name, tensor in half.items():
        torch.testing.assert_close(tensor, (base[name] + moved[name]) / 2, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_refused_in_one_line(models, make, decoders, tmp_path):
    one = str(models / "a")
    make.decoder("qwen3", tmp_path / "wide", intermediate_size=64)
    make.decoder("qwen3", tmp_path / "deep", num_hidden_layers=3)
    tokenizer = make.tokenizer()
    tokenizer.add_tokens(["<new>"])
    make.decoder("qwen3", tmp_path / "words", tokenizer=tokenizer)
    Embedder.load(models / "a", max_length=77, dtype="float32").save(tmp_path / "short")
    for parts, options, says in [
        (
            [one, str(tmp_path / "wide")],
            {},
            "differ in intermediate_size: 48 and 64; merge",
        ),
        ([one, str(tmp_path / "deep")], {}, "differ in layer_types"),
        ([one, str(tmp_path / "words")], {}, "differ in the tokenizer"),
        ([one, str(decoders("bloom"))], {}, "is qwen3, .* bloom"),
        ([one, str(tmp_path / "short")], {}, "differ in max_length: 512 and 77"),
        ([one, one], {"weights": [1.0]}, "1 weights for 2 models"),
        ([one, one], {"weights": [1.0, -1.0]}, "at least 0"),
        ([one, one], {"weights": [1.0, math.nan]}, "at least 0"),
        ([], {}, "name at least one"),
        ([one, str(tmp_path / "none")], {}, "none is not a folder"),
    ]:
        with pytest.raises(ModelError, match=says) as caught:
            merge_models(parts, tmp_path / "out", **options)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError):
        merge_models([one], tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
        {"rms_norm_eps": 1e-3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    ],
)
def test_models_that_compute_otherwise_with_weights_of_one_shape_are_refused(changes, decoders, tmp_path):
    """Which the weights do not tell."""
    other = with_settings(decoders("llama"), tmp_path / "other", **changes)
    with pytest.raises(ModelError, match=f"differ in ({'|'.join(changes)}): .*; merge models of one configuration"):
        merge_models([str(decoders("llama")), str(other)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_that_decide_no_vector_may_differ(decoders, tmp_path):
    changes = {"dtype": "bfloat16", "attention_dropout": 0.5, "_name_or_path": "mine", "use_cache": False}
    other = with_settings(decoders("llama"), tmp_path / "other", **changes)
    Embedder.load(decoders("llama"), dtype="float32").save(tmp_path / "saved")  # read without transformers
    merge_models([str(decoders("llama")), str(other), str(tmp_path / "saved")], tmp_path / "out")
    vectors = [Embedder.load(folder, dtype="float32").encode(TEXTS) for folder in (decoders("llama"), tmp_path / "out")]
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_a_merged_model_was_trained_on_what_its_parts_were(models, tmp_path):
    parts = []
    for name, task in (("a", "sts13"), ("b", "xnli")):
        parts.append(str(tmp_path / name))
        recipe = {"recipe.toml": f'[data]\ntrained_on = ["{task}"]\n'}
        Embedder.load(models / name, dtype="float32").save(parts[-1], extra_files=recipe)
    merge_models(parts, tmp_path / "out")
    assert trained_on(tmp_path / "out") == {"sts13", "xnli"}
    merge_models(parts, tmp_path / "first", weights=[1.0, 0.0])
    assert trained_on(tmp_path / "first") == {"sts13"}


def test_tensors_of_other_names_or_shapes_are_not_averaged():
    for other, says in (({"w": torch.ones(3)}, "has the shapes"), ({"v": torch.ones(2)}, "only one of the models")):
        with pytest.raises(ModelError, match=says):
            blend({"w": torch.zeros(2)}, other, 0.5, "linear")


def test_whole_numbers_are_never_averaged():
    state = {"steps": torch.tensor([1, 2]), "x": torch.zeros(2)}
    blend(state, {"steps": torch.tensor([1, 2]), "x": torch.ones(2)}, 0.5, "linear")
    assert state["steps"].tolist() == [1, 2] and state["x"].tolist() == [0.5, 0.5]
    with pytest.raises(ModelError, match="steps"):
        blend(state, {"steps": torch.tensor([1, 3]), "x": torch.ones(2)}, 0.5, "linear")


SHAPES = {"whole": (50, 7), "number": ()}


def test_a_large_tensor_is_blended_in_parts_that_are_small_in_memory(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    left, right = (
        {"w": torch.randn(50, 7, generator=generator), "s": torch.randn((), generator=generator)} for _ in "ab"
    )
    expected = {name: lerp(left[name], right[name], 0.3) for name in left}
    seen = []
    monkeypatch.setattr(merging, "_NUMBERS", 30)
    monkeypatch.setitem(merging._METHODS, "linear", lambda *given: seen.append(given[0].numel()) or lerp(*given))
    blend(left, right, 0.3, "linear")
    assert all(torch.equal(left[name], expected[name]) for name in left)
    assert max(seen) <= 30 and sum(seen) == 351
