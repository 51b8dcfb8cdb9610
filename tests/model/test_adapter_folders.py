"""Adapters of peft as they lie on disk: beside whole weights, alone, over a base that has one itself."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from udever import Embedder
from udever.errors import ContractError, ModelError
from udever.loading import AdapterWarning
from udever.model import adapters

TEXTS = ["hello world", "def add(a, b)", "sum of numbers"]
TARGETS = {"bloom": ["query_key_value", "dense"], "qwen3": ["q_proj", "v_proj"]}
TABLES = {"bloom": "word_embeddings", "qwen3": "embed_tokens"}

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks


def load(folder, **changes):
    return Embedder.load(folder, dtype="float32", device="cpu", **changes)


def peft_adapter(base, folder, family, *, head=False, table=False, **settings):
    """Write an adapter made by peft itself over `base`, with a language model's `head` on where asked, and the plain
    `table` of tokens; return the adapted model.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel, AutoModelForCausalLM

    settings = {"target_modules": TARGETS[family], "r": 4, **settings}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = (AutoModelForCausalLM if head else AutoModel).from_pretrained(base, dtype=torch.float32)
        model = get_peft_model(plain, LoraConfig(**settings)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, save_embedding_layers=table)
    return model.base_model.model.base_model if head else model


def by_peft(model, embedder):
    """Unit vectors of the closing tokens by the peft model itself."""
    rows = []
    for ids in embedder.tokenize(TEXTS, "symmetric").ids:
        tokens = torch.tensor([ids])
        with torch.inference_mode():
            hidden = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0, -1]
        rows.append(torch.nn.functional.normalize(hidden, dim=0).numpy())
    return np.stack(rows)


@pytest.fixture
def base(decoders, tmp_path):
    """family -> a folder with its decoder that a test may change."""

    def make(family):
        return shutil.copytree(decoders(family), tmp_path / f"base-{family}")

    return make


@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_an_adapter_beside_whole_weights_is_applied_told_and_named(family, base):
    folder = base(family)
    plain = load(folder)
    model = peft_adapter(folder, folder, family)
    with pytest.warns(AdapterWarning, match="beside its weights"):
        adapted = load(folder)
    np.testing.assert_allclose(adapted.encode(TEXTS), by_peft(model, adapted), atol=1e-4)
    assert abs(adapted.encode(TEXTS) - plain.encode(TEXTS)).max() > 1e-3
    assert adapted.fingerprint != plain.fingerprint


@pytest.mark.parametrize("modules", [False, True])
@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_an_adapter_alone_is_applied_to_the_base_it_names(family, modules, base, tmp_path):
    folder = base(family)
    settings = {"modules_to_save": [TABLES[family]]} if modules else {}
    model = peft_adapter(folder, tmp_path / "adapter", family, **settings)
    adapted = load(tmp_path / "adapter")
    np.testing.assert_allclose(adapted.encode(TEXTS), by_peft(model, adapted), atol=1e-4)
    assert adapted.fingerprint != load(folder).fingerprint


def test_biases_that_an_adapter_brings_are_applied(base, tmp_path):
    model = peft_adapter(base("bloom"), tmp_path / "adapter", "bloom", bias="all")
    adapted = load(tmp_path / "adapter")
    np.testing.assert_allclose(adapted.encode(TEXTS), by_peft(model, adapted), atol=1e-4)


@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_an_adapted_table_keeps_its_update_beside_the_plain_table(family, base, tmp_path):
    """peft saves the table that the update belongs to; it may be another one than the base's."""
    folder = base(family)
    targets = [TABLES[family], *TARGETS[family]]
    model = peft_adapter(folder, tmp_path / "adapter", family, table=True, target_modules=targets)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    state = load_file(path)
    [name] = [name for name in state if name.endswith(f"{TABLES[family]}.base_layer.weight")]
    np.testing.assert_allclose(load(tmp_path / "adapter").encode(TEXTS), by_peft(model, load(folder)), atol=1e-4)
    with torch.no_grad():
        model.get_parameter(name).add_(0.3)
    save_file({**state, name: state[name] + 0.3}, path)
    np.testing.assert_allclose(load(tmp_path / "adapter").encode(TEXTS), by_peft(model, load(folder)), atol=1e-4)


NAMES = {"bloom": "transformer.h.0.self_attention.query_key_value", "qwen3": "model.layers.0.self_attn.q_proj"}
OUTER = {
    "scale": lambda name: {"alpha_pattern": {name: 64}},
    "scale by a pattern": lambda name: {"alpha_pattern": {"^" + name.replace(".", r"\."): 64}},
    "rank": lambda name: {"rank_pattern": {name: 8}},
    "full names": lambda name: {"target_modules": [name, name.replace(".0.", ".1.")]},
    "left out": lambda name: {"exclude_modules": [name]},
    "left out by a pattern": lambda name: {"exclude_modules": name.replace("0", r"\d+")},
    "layers": lambda name: {"layers_to_transform": [1]},
    "layers of a list": lambda name: {"layers_to_transform": [1], "layers_pattern": name.partition(".0")[0]},
}


@pytest.mark.parametrize("what", OUTER)
@pytest.mark.parametrize("family", ["bloom", "qwen3"])
def test_settings_of_an_adapter_trained_with_a_head_on_reach_their_modules(what, family, base, tmp_path):
    folder = base(family)
    model = peft_adapter(folder, tmp_path / "adapter", family, head=True, **OUTER[what](NAMES[family]))
    np.testing.assert_allclose(load(tmp_path / "adapter").encode(TEXTS), by_peft(model, load(folder)), atol=1e-4)


def test_the_adapters_settings_are_in_the_fingerprint(base, tmp_path):
    peft_adapter(base("bloom"), tmp_path / "adapter", "bloom")
    before = load(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora_alpha": 1}))
    after = load(tmp_path / "adapter")
    assert abs(after.encode(TEXTS) - before.encode(TEXTS)).max() > 1e-4
    assert after.fingerprint != before.fingerprint


@pytest.mark.parametrize("family", ["bloom", "qwen3"])
@pytest.mark.filterwarnings("ignore::udever.loading.AdapterWarning")
def test_an_adapter_beside_the_bases_weights_is_in_the_digests(family, base, tmp_path):
    """Such an adapter decides vectors of the adapter over it: without it both are other models."""
    folder = base(family)
    peft_adapter(folder, tmp_path / "adapter", family, target_modules=TARGETS[family][:1])
    peft_adapter(folder, folder, family)
    both = load(tmp_path / "adapter")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).rename(tmp_path / name)
    without = load(tmp_path / "adapter")
    assert abs(both.encode(TEXTS) - without.encode(TEXTS)).max() > 1e-3
    assert both.fingerprint != without.fingerprint


@pytest.mark.filterwarnings("ignore::udever.loading.AdapterWarning")
def test_a_saved_adapter_whose_base_lost_its_own_is_refused(base, tmp_path):
    folder = base("bloom")
    peft_adapter(folder, folder, "bloom")
    embedder = load(folder)
    adapters.apply_tuning(embedder.backbone, "bitfit")
    embedder.save(tmp_path / "saved", merged=False)
    np.testing.assert_allclose(load(tmp_path / "saved").encode(TEXTS), embedder.encode(TEXTS), atol=1e-6)
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ContractError, match="is not the one it was trained on"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("tuning", ["bitfit", "lora"])
def test_an_adapter_over_a_saved_adapter_loads(tuning, base, tmp_path):
    embedder = load(base("bloom"))
    for name in ("first", "second"):
        adapters.apply_tuning(embedder.backbone, tuning)
        with torch.no_grad():
            for parameter in embedder.backbone.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        embedder.weights_changed()
        embedder.save(tmp_path / name, merged=False)
        vectors = embedder.encode(TEXTS)
        embedder = load(tmp_path / name)
        np.testing.assert_allclose(embedder.encode(TEXTS), vectors, atol=1e-5)


def test_an_adapter_alone_over_a_saved_model_has_its_contract(base, tmp_path):
    load(base("bloom"), max_length=77, pooling="mean").save(tmp_path / "saved")
    peft_adapter(tmp_path / "saved", tmp_path / "adapter", "bloom")
    adapted, plain = load(tmp_path / "adapter"), load(tmp_path / "saved")
    assert adapted.contract == plain.contract
    assert adapted.fingerprint != plain.fingerprint
    assert abs(adapted.encode(TEXTS) - plain.encode(TEXTS)).max() > 1e-3


def setting(**changes):
    def spoil(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


REFUSED = {
    "half of it": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "without adapter_model"),
    "a pickle": (
        lambda folder: (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin"),
        "without adapter_model.safetensors",
    ),
    "broken settings": (lambda folder: (folder / "adapter_config.json").write_text("{"), "cannot be read"),
    "broken weights": (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "safetensors"),
    "another kind": (setting(peft_type="IA3"), "'IA3'; expected LORA"),
    "a pattern": (setting(target_modules=".*query.*"), "expected a list of names"),
    "a changed base": (setting(init_lora_weights="pissa_niter_4"), "convert the adapter"),
    "no base": (setting(base_model_name_or_path=None), "names no base_model_name_or_path"),
    "a base that is gone": (setting(base_model_name_or_path="./nothing-here"), "nothing-here is not a folder"),
    "another shape": (setting(r=8), "fit"),
    "other modules": (setting(target_modules=["dense_h_to_4h"]), "fit"),
    "no modules": (setting(target_modules=["q_proj"]), "adapter_config.json do not fit the base: Target modules"),
    "a scale of no module": (setting(alpha_pattern={"h.7.dense": 64}), "'h.7.dense', which is no module"),
    "a rank of no module": (setting(rank_pattern={"dense_h_to_4h": 4}), "rank_pattern names 'dense_h_to_4h'"),
    "a scale by no pattern": (setting(alpha_pattern={"h.(dense": 64}), "which is no pattern"),
    "scales in a list": (setting(alpha_pattern=["dense"]), "expected an object"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_adapter_that_cannot_be_applied_is_refused_in_one_line(what, base, tmp_path):
    peft_adapter(base("bloom"), tmp_path / "adapter", "bloom")
    spoil, message = REFUSED[what]
    spoil(tmp_path / "adapter")
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path / "adapter")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_is_its_own_base_is_refused(base, tmp_path):
    for name, other in (("one", "two"), ("two", "one")):
        peft_adapter(base("bloom") if name == "one" else tmp_path / "base-bloom", tmp_path / name, "bloom")
        setting(base_model_name_or_path=str(tmp_path / other))(tmp_path / name)
    with pytest.raises(ModelError, match="names itself"):
        load(tmp_path / "one")
