"""Products with gradients: the same numbers as torch's and peft's own, and little kept for the backward pass."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from udever.model import kept, products
from udever.training.memory import saved_bytes

ROWS, WIDTH, INNER = 64, 16, 48


class Block(nn.Module):
    """A feed-forward block with a gate, and one without."""

    def __init__(self, *, bias=False, **adapter):
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.up = nn.Linear(WIDTH, INNER, bias=bias), nn.Linear(WIDTH, INNER, bias=bias)
        self.down = nn.Linear(INNER, WIDTH, bias=bias)
        products.use_fused_products(self)
        if adapter:
            self.requires_grad_(False)
            inject_adapter_in_model(LoraConfig(r=4, target_modules=["gate", "up", "down"], **adapter), self)
            for name, parameter in self.named_parameters():
                if "lora_" in name:
                    nn.init.normal_(parameter, std=0.3)

    def ours(self, x, activation, gated):
        """Through `products`."""
        return products.feed_forward(x, activation, self.gate, self.down, self.up if gated else None)

    def theirs(self, x, activation, gated):
        """Through the layers' own forward pass."""
        active = products.activate(own(self.gate, x), activation)
        return own(self.down, active * own(self.up, x) if gated else active)


def own(layer, x):
    base = layer.get_base_layer() if hasattr(layer, "lora_A") else layer
    base.__class__ = nn.Linear
    out = layer(x)
    base.__class__ = products.FusedLinear
    return out


def results(block, run, x, *args):
    block.zero_grad()
    leaf = x.clone().requires_grad_()
    out = run(leaf, *args)
    (out.double() * torch.linspace(-1, 1, WIDTH)).sum().backward()
    grads = {name: p.grad for name, p in block.named_parameters() if p.grad is not None}
    assert all(p.grad is None for p in block.parameters() if not p.requires_grad)
    return {"out": out, "x": leaf.grad, **grads}


def agree(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, msg=lambda text, name=name: f"{name}: {text}")


KINDS = {"full": {}, "bias": {"bias": True}, "lora": {"lora_alpha": 8}, "dropout": {"lora_dropout": 0.5}}


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_blocks_value_and_gradients(kind, activation, gated):
    block = Block(**KINDS[kind]).double()
    x = torch.randn(ROWS, WIDTH, dtype=torch.float64)
    torch.manual_seed(1)
    ours = results(block, block.ours, x, activation, gated)
    torch.manual_seed(1)  # LoRA's dropout; the gate's is drawn first in both
    agree(ours, results(block, block.theirs, x, activation, gated))


@pytest.mark.parametrize("kind", ["full", "bias", "lora"])
def test_a_block_under_autocast(kind):
    block, x = Block(**KINDS[kind]), torch.randn(ROWS, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = results(block, block.ours, x, "gelu_tanh", True)
        theirs = results(block, block.theirs, x, "gelu_tanh", True)
    assert ours["out"].dtype is torch.bfloat16
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype, name
        assert (ours[name] - value).norm() < 0.02 * value.norm(), name


def test_frozen_weights_with_biases_that_move():
    block = Block(bias=True)
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    x = torch.randn(ROWS, WIDTH)
    agree(results(block, block.ours, x, "silu", True), results(block, block.theirs, x, "silu", True))


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_nothing_is_kept_twice(kind):
    """Of a block in half precision: its input, gate and up; with LoRA the few numbers between its matrices."""
    block, x = Block(**KINDS[kind]), torch.randn(ROWS, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = saved_bytes(lambda: block.ours(x, "gelu_tanh", True))
    low = 3 * 4 if kind == "lora" else 0
    assert found == 2 * ROWS * (WIDTH + 2 * INNER + low)


def test_one_input_is_kept_for_all_that_take_it():
    block, x = Block(), torch.randn(ROWS, WIDTH)

    def both():
        rows = products.shared(x, block.gate, block.up)
        return products.linear(block.gate, rows), products.linear(block.up, rows)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert saved_bytes(both) == 2 * ROWS * WIDTH


def test_other_adapters_run_as_they_are():
    plain = (products.FusedLinear,)
    assert kept.weights_of(Block(use_dora=True).gate, plain) is None
    assert kept.weights_of(Block(lora_dropout=0.1).gate, plain) is None
    assert kept.weights_of(nn.Sequential(), plain) is None
    block = Block(lora_alpha=8)
    assert kept.weights_of(block.gate, plain) is not None
    block.gate.merge()
    assert kept.weights_of(block.gate, plain) is None


def test_strided_rows():
    layer, x = Block().gate, torch.randn(WIDTH, ROWS).T
    torch.testing.assert_close(products.linear(layer, x), F.linear(x, layer.weight))
