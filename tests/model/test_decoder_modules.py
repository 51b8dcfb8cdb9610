"""A decoder that was saved here is read without transformers, and is the model that transformers reads."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel

from udever.embedder import Embedder
from udever.errors import ContractError, ModelError
from udever.exporting.gguf_weights import rotary_factors
from udever.model.attention import attention_over
from udever.model.backbone import choose
from udever.model.configuration import _UNDECIDED, effective, read_config
from udever.model.decoder_config import DecoderConfig
from udever.model.decoder_modules import Decoder
from udever.model.packing import pack
from udever.training import Recipe, train

CHANGES = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {},
    "qwen2": {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    "qwen3": {"attention_bias": True},
    "gemma3_text": {"query_pre_attn_scalar": 20, "layer_types": ["sliding_attention", "full_attention"]},
}


@pytest.fixture(scope="module", params=CHANGES)
def saved(request, make, tmp_path_factory):
    """A folder as this project saves it, and the embedder that it was saved from, of transformers' modules."""
    place = tmp_path_factory.mktemp(request.param)
    embedder = Embedder.load(make.decoder(request.param, place / "theirs", **CHANGES[request.param]), dtype="float32")
    assert not isinstance(embedder.backbone.model, Decoder), "a stranger's model is compared with transformers"
    embedder.save(place / "ours")
    return place / "ours", embedder


def test_its_configuration_is_the_one_that_transformers_reads(saved, tmp_path):
    raw = json.loads((saved[0] / "config.json").read_text())
    ours, theirs = read_config(saved[0]), CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
    assert isinstance(ours, DecoderConfig)
    assert effective(ours) == effective(theirs)
    for place, config in (("ours", ours), ("theirs", theirs)):
        config.dtype = torch.bfloat16
        (tmp_path / place).mkdir()
        config.save_pretrained(tmp_path / place)
    assert (tmp_path / "ours/config.json").read_bytes() == (tmp_path / "theirs/config.json").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_hidden_states_are_those_of_transformers_modules(saved, dtype):
    ours = Embedder.load(saved[0], dtype=dtype).backbone
    theirs = choose(AutoModel.from_pretrained(saved[0], dtype=dtype).eval(), attention="causal")
    assert isinstance(ours.model, Decoder) and type(ours) is type(theirs) and not isinstance(theirs.model, Decoder)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    packed = pack([list(range(3, 40)), [7], [9, 8, 300, 3]])  # texts longer than the window
    with torch.inference_mode():
        ours, theirs = (backbone(attention_over(packed, causal=True)) for backbone in (ours, theirs))
    assert torch.equal(ours, theirs)


def test_it_is_saved_and_loaded_as_the_same_model(saved, tmp_path):
    again = Embedder.load(saved[0], dtype="float32")
    assert again.fingerprint == saved[1].fingerprint
    assert (again.encode(["a text", "b"]) == saved[1].encode(["a text", "b"])).all()
    again.save(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (saved[0] / name).read_bytes(), name


def test_it_can_be_put_into_eight_bits(saved, tmp_path):
    Embedder.load(saved[0], dtype="int8").save(tmp_path / "int8")
    loaded = Embedder.load(tmp_path / "int8")
    assert isinstance(loaded.backbone.model, Decoder)
    assert loaded.encode(["a text"]) @ saved[1].encode(["a text"]).T > 0.97


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_it_trains_to_the_same_weights(saved, tuning, tmp_path, monkeypatch):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"anchor": f"q {n}", "positive": f"text {n}"}) + "\n" for n in range(8)))
    found = []
    for name in ("ours", "theirs"):
        if name == "theirs":
            monkeypatch.setattr(DecoderConfig, "of", lambda *_: None)
        recipe = Recipe.model_validate(
            {
                "model": {"base": str(saved[0])},
                "data": {"datasets": [{"path": str(pairs)}]},
                "training": {"tuning": tuning, "max_steps": 2, "batch_size": 4, "learning_rate": 1e-2},
                "output": {"folder": str(tmp_path / name)},
            }
        )
        train(recipe, show_progress=False)
        found.append((tmp_path / name / "model.safetensors").read_bytes())
    assert found[0] == found[1] != (saved[0] / "model.safetensors").read_bytes()


def test_loading_and_embedding_do_not_import_transformers(saved):
    code = (
        "import sys; from udever import Embedder; Embedder.load(sys.argv[1]).encode(['a text']); "
        "print('transformers' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, saved[0]], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"unheard_of": 1}),
        ("llama", {"num_hidden_layers": 2.0}),
        ("llama", {"num_key_value_heads": 3}),
        ("llama", {"rms_norm_eps": True}),
        ("llama", {"rms_norm_eps": 0}),
        ("llama", {"hidden_size": 0}),
        ("llama", {"head_dim": 10**10}),
        ("llama", {"num_attention_heads": 2**62}),
        ("llama", {"head_dim": 7}),
        ("llama", {"pad_token_id": 10_000}),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}}),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
        ("llama", {"rope_parameters": {"rope_type": ["default"], "rope_theta": 1e4}}),
        ("qwen3", {"layer_types": ["full_attention"]}),
        ("qwen3", {"layer_types": ["full_attention", "chunked_attention"]}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}),
        ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}}),
        ("gemma3_text", {"hidden_activation": "silu"}),
    ],
)
def test_a_configuration_that_says_more_or_otherwise_is_left_to_transformers(family, changes, make, tmp_path):
    make.config(family).save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert DecoderConfig.of(raw, _UNDECIDED) is not None
    assert DecoderConfig.of({**raw, **changes}, _UNDECIDED) is None
    assert DecoderConfig.of({name: raw[name] for name in raw if name != "rms_norm_eps"}, _UNDECIDED) is None
    assert not isinstance(read_config(tmp_path), DecoderConfig), "not saved here"


@pytest.mark.parametrize("more", [{"auto_map": {"AutoModel": "own.Model"}}, {"torch_dtype": "float32"}])
def test_a_folder_with_code_of_its_own_or_an_older_entry_is_left_to_transformers(more, saved, tmp_path, monkeypatch):
    raw = json.loads((saved[0] / "config.json").read_text())
    (tmp_path / "udever.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert isinstance(read_config(tmp_path), DecoderConfig)
    (tmp_path / "config.json").write_text(json.dumps({**raw, **more}))
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: "transformers' own")
    assert not isinstance(read_config(tmp_path), DecoderConfig)


def test_a_size_that_no_weights_hold_takes_no_memory(saved, tmp_path):
    saved[1].save(tmp_path / "large")
    raw = json.loads((tmp_path / "large" / "config.json").read_text())
    if "head_dim" not in raw:
        pytest.skip("this family has no such entry")
    (tmp_path / "large" / "config.json").write_text(json.dumps({**raw, "head_dim": 4_000_000}))
    with pytest.raises(ModelError, match="is missing or has another shape"):
        Embedder.load(tmp_path / "large", verify=False)
    assert "frequencies" not in vars(Decoder(read_config(saved[0])).rotary_emb), "made before the shapes are compared"


def test_a_linear_rule_is_that_of_transformers(make, tmp_path):
    rule = {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}
    embedder = Embedder.load(make.decoder("llama", tmp_path / "theirs", rope_parameters=rule), dtype="float32")
    embedder.save(tmp_path / "ours")
    again = Embedder.load(tmp_path / "ours", dtype="float32")
    assert isinstance(again.backbone.model, Decoder)
    assert (again.encode(["a longer text than one"]) == embedder.encode(["a longer text than one"])).all()
    factors = [rotary_factors(model.backbone.model) for model in (embedder, again)]
    assert factors[0] is not None and torch.equal(*factors)


def test_weights_that_do_not_fit_are_one_line(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    saved[1].save(tmp_path / "cut")
    state = load_file(tmp_path / "cut" / "model.safetensors")
    state["norm.weight"] = state["norm.weight"][:-1].clone()
    save_file(state, tmp_path / "cut" / "model.safetensors")
    with pytest.raises(ContractError, match="was changed after saving"):
        Embedder.load(tmp_path / "cut")
    with pytest.raises(ModelError, match=r"'norm\.weight' is missing or has another shape than config\.json says"):
        Embedder.load(tmp_path / "cut", verify=False)
