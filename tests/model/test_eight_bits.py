"""Eight bits: what rounding may cost, the product against float64, the gate, and the way to a file and back."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from udever import Embedder
from udever.errors import ContractError, ModelError, TextError
from udever.model import backbone, blocks, eight_bits, products, quantising, smoothing
from udever.model.eight_bits import (
    EightBitEmbedding,
    EightBitLinear,
    EightBitWarning,
    quantise_rows,
    quantise_weight,
)
from udever.model.norms import RmsNorm

TEXTS = ["add two numbers", "hello world", "def f(): return 1", "numbers " * 40]


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 99), st.integers(-30, 30), st.sampled_from([torch.float32, torch.bfloat16]))
def test_rounding_moves_no_number_by_more_than_half_a_step_of_its_row(seed, power, dtype):
    x = (drawn(seed, 5, 33) * 2.0**power * torch.tensor([1, 1e-3, 1e3, 1, 0])[:, None]).to(dtype)
    rows = quantise_rows(x)
    back = (rows.values.double() - 128) * rows.scale.double()
    step = x.double().abs().amax(1, keepdim=True) / 127
    slack = 1.3 if dtype is torch.bfloat16 else 1.001  # the scale itself is rounded: up to a quarter step at the end
    assert ((back - x.double()).abs() <= slack * step / 2 + 1e-30).all()
    whole, scale = quantise_weight(x.float())
    error = (whole.double() * scale[:, None] - x.double()).abs()
    assert (error <= 0.5001 * step).all()
    assert whole.abs().max() == 127


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_rounded_to_the_nearest_of_their_row(dtype):
    x = torch.cat([drawn(3, 40, 256), torch.linspace(-127, 127, 2 * 254 + 1, dtype=torch.float64)[None, :256]]).to(
        dtype
    )
    rows = quantise_rows(x)
    expected = (x.float() * rows.scale.float().reciprocal()).round() + 128
    assert torch.equal(rows.values.float(), expected)


def test_a_table_gives_its_rows_times_their_scales():
    whole, scale = quantise_weight(drawn(4, 50, 24).float())
    table, tokens = EightBitEmbedding(whole, scale), torch.tensor([[3, 49, 3], [0, 1, 2]])
    assert torch.equal(table(tokens), (whole * scale[:, None])[tokens])
    assert table(tokens[0, :0]).shape == (0, 24)
    table.out = torch.bfloat16
    assert torch.equal(table(tokens[0]), (whole * scale[:, None])[tokens[0]].bfloat16())


@pytest.mark.parametrize("factors", [None, torch.arange(1.0, 34.0)])
def test_rows_brought_into_eight_bits_in_parts_are_those_of_the_whole(factors, monkeypatch):
    x = drawn(0, 11, 33).float()
    whole = quantise_rows(x, factors)
    monkeypatch.setattr(blocks, "_BLOCK", 100 // torch.get_num_threads())  # three rows
    parts = quantise_rows(x, factors)
    assert torch.equal(parts.values, whole.values)
    assert torch.equal(parts.scale, whole.scale)


HELD = 0.30
"""Of the bytes that a model has in float32."""


def test_a_model_in_eight_bits_holds_less_than_a_third_of_its_bytes(make, tmp_path):
    shape = {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 4, "head_dim": 64}
    folder = make.decoder("qwen3", tmp_path / "model", **shape)
    bytes_held = {}
    for dtype in ("float32", "int8"):
        model = Embedder.load(folder, dtype=dtype, device="cpu").backbone
        held = {id(tensor): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
        for layer in model.modules():
            packed = (getattr(layer, name, None) for name in ("_packed", "_zeros", "factors"))
            held.update((id(tensor), tensor.nbytes) for tensor in packed if tensor is not None)
        bytes_held[dtype] = sum(held.values())
    assert bytes_held["int8"] <= HELD * bytes_held["float32"]


def test_a_folder_in_eight_bits_is_let_go_once_it_is_loaded(loaded, tmp_path):
    maps = Path("/proc/self/maps")
    if not maps.is_file() or not eight_bits._multiplies_eight_bits():
        pytest.skip("weights are not packed here, or the system does not tell what is mapped")
    loaded("qwen3")[1].save(tmp_path / "out")
    ours = Embedder.load(tmp_path / "out")
    assert str(tmp_path / "out") not in maps.read_text()
    assert ours.encode(TEXTS).shape == (4, 32)


RESIDENT = """
import torch
from udever.allocator import keep_temporaries, resident_bytes
from udever.model.eight_bits import EightBitLinear, quantise_weight
from udever.model.quantising import settle
keep_temporaries()  # as loading does
layers = torch.nn.ModuleList(EightBitLinear(*quantise_weight(torch.randn(1024, 1024)), None) for _ in range(64))
settle(layers[:1], torch.bfloat16)  # brings what a product needs
before = resident_bytes()[0]
settle(layers, torch.bfloat16)
print(resident_bytes()[0] - before)
"""


def test_what_weights_held_before_they_were_packed_goes_back_to_the_system():
    if not Path("/proc/self/status").is_file() or not eight_bits._multiplies_eight_bits():
        pytest.skip("weights are not packed here, or the system does not tell what is resident")
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 << 20


def layer_of(linear, dtype):
    layer = EightBitLinear(*quantise_weight(linear.weight), None if linear.bias is None else linear.bias.to(dtype))
    layer.pack()
    return layer


OPERATIONS = {
    "none": (products.linear, lambda y, other: y),
    "gelu_tanh": (
        lambda layer, x, other: products.linear(layer, x, "gelu_tanh"),
        lambda y, other: F.gelu(y, approximate="tanh"),
    ),
    "mul": (products.linear_mul, lambda y, other: y * other),
    "add": (products.linear_add, lambda y, other: y + other),
}


@pytest.fixture(params=["own", "without"])
def product(request, monkeypatch):
    """The product of this processor, and that of one without VNNI."""
    if request.param == "without":
        monkeypatch.setattr(eight_bits, "_multiplies_eight_bits", lambda: False)
    return request.param


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_product_is_that_of_the_rounded_numbers_in_float64(operation, dtype, bias, product):
    torch.manual_seed(0)
    linear = nn.Linear(70, 20, bias=bias)
    layer = layer_of(linear, dtype)
    x, other = drawn(1, 7, 70).to(dtype), drawn(2, 7, 20).to(dtype)
    ours, then = OPERATIONS[operation]
    with torch.inference_mode():
        actual = ours(layer, x, other) if operation != "none" else ours(layer, x)
        shared = products.shared(x, layer, layer)
        assert torch.equal(products.linear(layer, shared[torch.tensor([3, 1])]), products.linear(layer, x)[[3, 1]])
        assert layer(x[:0]).shape == (0, 20)
        assert torch.equal(layer(x[None]), layer(x)[None])
        rows = quantise_rows(x)
        weight, scale = quantise_weight(linear.weight)
        exact = ((rows.values.double() - 128) * rows.scale.double()) @ (weight.double() * scale.double()[:, None]).T
        expected = then(exact + (layer.bias.double() if bias else 0), other.double())
    assert actual.dtype is dtype
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(actual.double(), expected, **tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("activation", "gated"), [("silu", True), ("gelu_tanh", True), ("gelu_tanh", False)])
def test_a_feed_forward_block_in_eight_bits_is_near_the_precise_one(activation, gated, dtype, product, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(blocks, "_BLOCK", 100)
    wide, up, narrow = nn.Linear(64, 96, bias=not gated), nn.Linear(64, 96), nn.Linear(96, 64, bias=False)
    x, norm = torch.randn(9, 64).to(dtype), RmsNorm(torch.rand(64).to(dtype), 1e-6)
    layers = [layer_of(layer, dtype) for layer in (wide, narrow, up)]
    layers[1].factors = torch.full((96,), 0.5)  # as though its weights were twice the layer's
    with torch.no_grad():
        found = products.feed_forward(x, activation, *layers[:2], layers[2] if gated else None, norm)
        added = products.feed_forward(x, activation, *layers[:2], layers[2] if gated else None, norm, x)
        precise = products.feed_forward(norm(x).float(), activation, wide, narrow, up if gated else None) / 2
    assert found.dtype is dtype
    assert ((found - precise).norm() / precise.norm()) < 0.03
    torch.testing.assert_close(added, found + x, rtol=2e-2, atol=2e-2)


def test_the_largest_numbers_do_not_saturate(product):
    layer = EightBitLinear(*quantise_weight(torch.ones(8, 64)), None)
    layer.pack()
    found = layer(torch.full((3, 64), 1e4))
    torch.testing.assert_close(found, torch.full((3, 8), 64e4))


@pytest.mark.parametrize("worst", [float("inf"), float("-inf"), float("nan")])
def test_activations_that_are_not_finite_make_no_finite_row(worst, product):
    layer = layer_of(nn.Linear(16, 8), torch.float32)
    x = torch.ones(3, 16)
    x[1, 5] = worst
    found = layer(x)
    assert not found[1].isfinite().any()
    assert found[[0, 2]].isfinite().all()


@pytest.fixture(scope="module")
def loaded(decoders):
    """family -> its float32 and its int8 embedder."""
    made = {}

    def load(family):
        if family not in made:
            own = {"attention": "bidirectional", "pooling": "mean"} if family == "bert" else {}
            folder = decoders(family)
            made[family] = [Embedder.load(folder, dtype=dtype, device="cpu", **own) for dtype in ("float32", "int8")]
        return made[family]

    return load


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gemma3_text", "bert", "gpt_neox", "opt"])
def test_a_model_in_eight_bits_is_nearly_the_same_and_says_so(family, loaded):
    precise, ours = loaded(family)
    assert ours.precision == "int8"
    assert precise.precision == "float32"
    assert ours.fingerprint != precise.fingerprint
    kinds = {type(module) for module in ours.backbone.modules()}
    assert {EightBitLinear, EightBitEmbedding} <= kinds
    assert not any(isinstance(module, nn.Linear) for module in ours.backbone.modules())
    expected, actual = precise.encode(TEXTS), ours.encode(TEXTS)
    assert 0.99 < (expected * actual).sum(1).min() < 1 - 1e-7
    for text, vector in zip(TEXTS, actual, strict=True):
        assert ours.encode(text) @ vector > 0.9999  # alone as in a batch
    ids = ours.tokenize(TEXTS, "symmetric").ids
    assert not ours.embed_tokens(ids).requires_grad  # with gradients on, as a caller may have them


@pytest.mark.parametrize("family", ["bloom", "qwen3", "gemma3_text", "bert"])
def test_a_folder_in_eight_bits_is_small_and_gives_equal_vectors(family, loaded, decoders, tmp_path):
    _, ours = loaded(family)
    expected, fingerprint = ours.encode(TEXTS), ours.fingerprint
    ours.save(tmp_path / "out")
    assert ours.fingerprint == fingerprint
    for dtype in ("auto", "int8"):
        again = Embedder.load(tmp_path / "out", dtype=dtype)
        assert again.precision == "int8"
        assert again.fingerprint == fingerprint
        np.testing.assert_array_equal(again.encode(TEXTS), expected)
    size = (tmp_path / "out" / "int8.safetensors").stat().st_size
    assert size < 0.5 * (decoders(family) / "model.safetensors").stat().st_size  # scales weigh more in a tiny model


def test_where_all_else_runs_in_float32_a_folder_gives_equal_vectors_too(decoders, tmp_path, monkeypatch):
    monkeypatch.setattr(backbone, "_cpu_multiplies_bfloat16", lambda: False)
    ours = Embedder.load(decoders("qwen3"), dtype="int8", device="cpu")
    expected = ours.encode(TEXTS)
    ours.save(tmp_path / "out")
    np.testing.assert_array_equal(Embedder.load(tmp_path / "out").encode(TEXTS), expected)


def changed(name, change):
    def spoil(folder):

        state = load_file(folder / "int8.safetensors")
        key = next(key for key in state if key.endswith(name))
        change(state, key)
        save_file(state, folder / "int8.safetensors")

    return spoil


SPOILED = {
    "a byte": (changed("q_proj.weight", lambda s, k: s[k].flatten()[:1].neg_()), True, "was changed after saving"),
    "a shape": (changed("q_proj.weight", lambda s, k: s.update({k: s[k][:8].clone()})), False, "has another shape"),
    "a scale": (changed("weight_scale", lambda s, k: s.update({k: s[k][:8].clone()})), False, "scale for each row"),
    "a layer": (changed("q_proj.weight_scale", lambda s, k: s.pop(k)), False, "another shape|of no layer|other shapes"),
    "a norm": (changed("norm.weight", lambda s, k: s.pop(k)), False, "is missing"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_folder_in_eight_bits_that_was_changed_is_refused(what, loaded, tmp_path):
    loaded("qwen3")[1].save(tmp_path / "out")
    spoil, verify, message = SPOILED[what]
    spoil(tmp_path / "out")
    with pytest.raises(ModelError, match=message) as caught:
        Embedder.load(tmp_path / "out", verify=verify)
    assert "\n" not in str(caught.value)


def test_eight_bits_are_not_given_out_as_another_precision(loaded, tmp_path):
    ours = loaded("qwen3")[1]
    ours.save(tmp_path / "out")
    with pytest.raises(ModelError, match="holds int8 weights and float32 is asked for"):
        Embedder.load(tmp_path / "out", dtype="float32")
    with pytest.raises(ModelError, match=r"cannot be saved in torch\.float32"):
        ours.save(tmp_path / "float", dtype=torch.float32)
    with pytest.raises(ModelError, match="no adapter to save"):
        ours.save(tmp_path / "adapter", merged=False)
    assert not (tmp_path / "float").exists()


def with_weights(folder, target, change):
    """A copy of a model folder whose weights `change` has changed."""

    shutil.copytree(folder, target)
    state = load_file(target / "model.safetensors")
    change(state)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return target


def outliers(size):
    """One channel of activations `size` times as large, and weights that let it do as little as before."""

    def change(state):
        for name, tensor in state.items():
            if name.endswith("layernorm.weight"):
                tensor[7] *= size
            elif name.endswith(
                ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
            ):
                tensor[:, 7] /= size

    return change


def test_large_channels_are_shrunk_and_so_lose_little(decoders, tmp_path, monkeypatch):
    folder = with_weights(decoders("qwen3"), tmp_path / "model", outliers(40))
    ours = Embedder.load(folder, dtype="int8")
    layers = [module for module in ours.backbone.modules() if isinstance(module, EightBitLinear)]
    assert {int(layer.input_shrink[7]) for layer in layers if layer.input_shrink is not None} & {2, 3, 4}
    first = ours.backbone.model.layers[0]
    x = torch.randn(3, 32)
    group = (first.self_attn.q_proj, first.self_attn.k_proj, first.self_attn.v_proj)
    assert isinstance(products.shared(x, *group), eight_bits.EightBitRows)
    assert products.shared(x, first.self_attn.q_proj, first.mlp.down_proj) is x
    ours.save(tmp_path / "out")
    np.testing.assert_array_equal(Embedder.load(tmp_path / "out").encode(TEXTS), ours.encode(TEXTS))
    monkeypatch.setattr(smoothing, "_SHARES", ())
    with pytest.raises(ContractError, match="loses too much in int8"):
        Embedder.load(folder, dtype="int8")


def test_a_model_with_outliers_is_refused_with_the_number(decoders, tmp_path):
    folder = with_weights(decoders("qwen3"), tmp_path / "model", outliers(1e6))
    Embedder.load(folder, dtype="float32")
    with pytest.raises(ContractError, match=r"loses too much in int8: cosine .* 0\.\d{4} at worst") as caught:
        Embedder.load(folder, dtype="int8")
    assert "\n" not in str(caught.value)
    worst, mean = map(float, re.findall(r"-?\d\.\d{4}", str(caught.value))[:2])
    assert worst < 0.99
    assert worst <= mean < 1


def test_activations_that_overflow_are_refused(decoders, tmp_path):
    def huge(state):
        name = next(name for name in state if name.endswith("up_proj.weight"))
        state[name] *= 1e38

    folder = with_weights(decoders("qwen3"), tmp_path / "model", huge)
    with pytest.raises((ModelError, TextError)):
        Embedder.load(folder, dtype="int8")


def test_a_processor_without_vnni_gives_the_same_vectors_and_is_told_once(loaded, decoders, monkeypatch):
    expected = loaded("qwen3")[1]
    fingerprint = expected.fingerprint
    eight_bits._multiplies_eight_bits.cache_clear()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    try:
        with pytest.warns(EightBitWarning) as told:
            slow = Embedder.load(decoders("qwen3"), dtype="int8")
        assert len(told) == 1
    finally:
        eight_bits._multiplies_eight_bits.cache_clear()
    assert slow.fingerprint == fingerprint
    assert (slow.encode(TEXTS) * expected.encode(TEXTS)).sum(1).min() > 0.999


def test_a_processor_without_bfloat16_gives_the_same_space(loaded, decoders, tmp_path, monkeypatch):
    expected = loaded("bloom")[1]
    expected.save(tmp_path / "out")
    vectors = expected.encode(TEXTS)
    monkeypatch.setattr(backbone, "_cpu_multiplies_bfloat16", lambda: False)
    for folder in (decoders("bloom"), tmp_path / "out"):
        ours = Embedder.load(folder, dtype="int8")
        assert next(ours.backbone.parameters()).dtype is torch.float32
        assert ours.fingerprint == expected.fingerprint
        assert (ours.encode(TEXTS) * vectors).sum(1).min() > 0.999


def test_an_adapter_is_folded_in_before(embedders, decoders, tmp_path):
    from udever.model.adapters import apply_tuning

    base = Embedder.load(decoders("qwen3"), dtype="float32", device="cpu")
    apply_tuning(base.backbone, "lora")
    with torch.no_grad():
        for name, parameter in base.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    expected = base.encode(TEXTS)
    base.save(tmp_path / "adapter", merged=False, base=str(decoders("qwen3")))
    actual = Embedder.load(tmp_path / "adapter", dtype="int8").encode(TEXTS)
    assert (expected * actual).sum(1).min() > 0.99
    assert (expected * embedders("qwen3").encode(TEXTS)).sum(1).min() < 0.99
    with pytest.raises(ModelError, match="an adapter that is not merged cannot be put into int8"):
        quantising.quantise(base.backbone, lambda: None)


def test_int8_is_for_processors_and_a_mistyped_precision_names_it(decoders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ModelError, match="int8 is for processors"):
        Embedder.load(decoders("bloom"), dtype="int8", device="cuda")
    with pytest.raises(ModelError, match="did you mean 'int8'"):
        Embedder.load(decoders("bloom"), dtype="int-8", device="cpu")


def test_training_asks_for_float32(loaded):
    from udever.training.loop import Trainer

    with pytest.raises(ModelError, match="training needs float32 weights"):
        Trainer.prepare(loaded("qwen3")[1], *[None] * 3)


def test_others_do_not_take_a_folder_in_eight_bits_for_floats(loaded, tmp_path):
    from transformers import AutoModel

    loaded("qwen3")[1].save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    with pytest.raises(Exception, match=r"model\.safetensors"):
        AutoModel.from_pretrained(tmp_path / "out")


def run(monkeypatch, *arguments):
    from udever.cli import main

    monkeypatch.setattr("sys.argv", ["udever", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def test_quantize_writes_what_embed_reads(loaded, decoders, tmp_path, monkeypatch, capsys):
    import pyarrow.parquet

    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    assert run(monkeypatch, "quantize", "-m", decoders("qwen3"), "-o", "small", "--no-suite") == 0
    assert loaded("qwen3")[1].fingerprint in capsys.readouterr().out
    for model, dtype, out in (("small", "auto", "a"), (decoders("qwen3"), "int8", "b")):
        assert run(monkeypatch, "embed", "texts.txt", "-m", model, "--dtype", dtype, "-o", out) == 0
    tables = [pyarrow.parquet.read_table(tmp_path / out / "shards") for out in ("a", "b")]
    assert tables[0].column("embedding").equals(tables[1].column("embedding"))
    assert tables[0].schema.metadata[b"udever.precision"] == b"int8"
    assert run(monkeypatch, "audit", "a", "--sample", "4", "-m", "small") == 0


def test_quantize_refuses_below_the_gate_and_leaves_nothing(decoders, tmp_path, monkeypatch, capsys):
    folder = with_weights(decoders("qwen3"), tmp_path / "model", outliers(1e6))
    assert run(monkeypatch, "quantize", "-m", folder, "-o", tmp_path / "small") == 2
    error = capsys.readouterr().err
    assert "loses too much in int8" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("lost", "code"), [(0.004, 0), (0.006, 2)])
def test_quantize_scores_the_suite_before_and_after(lost, code, decoders, tmp_path, monkeypatch, capsys):
    from udever.evaluation import loss

    def score(embedder, **_):
        return {"one": 0.5, "two": 0.25 - (2 * lost if embedder.precision == "int8" else 0)}

    monkeypatch.setattr(loss, "score_suite", score)
    assert run(monkeypatch, "quantize", "-m", decoders("qwen3"), "-o", tmp_path / "small") == code
    told = capsys.readouterr()
    if code == 0:
        assert "37.50 points of the universal suite in float32, 37.10 in int8" in told.out
        assert "37.50 points of the universal suite in float32" in (tmp_path / "small" / "README.md").read_text()
    else:
        assert f"loses {100 * lost:.2f} points of the suite's mean in int8 (37.50 before), most in two" in told.err
        assert told.err.count("\n") == 1
        assert not (tmp_path / "small").exists()


def test_quantize_silences_the_bars_of_the_suite_before_anything_is_imported_that_reads_it(monkeypatch, tmp_path):
    from udever.cli import quantize

    def load(*_):
        raise ModelError(f"bars: {os.environ.get('TQDM_DISABLE')}")

    monkeypatch.setenv("TQDM_DISABLE", "")
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setattr(quantize, "load_quietly", load)
    with pytest.raises(ModelError, match="bars: 1"):
        quantize.quantize("seedling", tmp_path / "small")


def test_an_index_in_eight_bits_knows_its_model_again(embedders, tmp_path, monkeypatch, capsys):
    embedders("qwen3").save(tmp_path / "model")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Numbers\n\nadd two numbers\n")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(monkeypatch, "index", "docs", "-m", "model", "--dtype", "int8") == 0
    assert run(monkeypatch, "index", "docs", "-m", "model") == 0
    capsys.readouterr()
    assert run(monkeypatch, "search", "numbers", "docs", "--dtype", "float32") == 2
    assert "model is loaded in float32; load it with --dtype int8" in capsys.readouterr().err
