import pytest
import torch
import torch.nn.functional as F
from torch import nn

from udever.model import blocks, kept, products
from udever.model.llama import halves, rotate
from udever.model.norms import RmsNorm
from udever.model.products import FusedLinear, linear, linear_add, linear_mul, use_fused_products

TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.bfloat16: {"rtol": 3e-2, "atol": 3e-2}}
OPERATIONS = {
    "none": (lambda layer, x, other: linear(layer, x), lambda y, other: y),
    "gelu_tanh": (
        lambda layer, x, other: linear(layer, x, "gelu_tanh"),
        lambda y, other: F.gelu(y, approximate="tanh"),
    ),
    "silu": (lambda layer, x, other: linear(layer, x, "silu"), lambda y, other: F.silu(y)),
    "mul": (linear_mul, lambda y, other: y * other),
    "add": (linear_add, lambda y, other: y + other),
}


def layer_and_inputs(dtype, *, bias=True, rows=7, kind=nn.Linear):
    torch.manual_seed(0)
    layer = kind(12, 20, bias=bias, dtype=dtype)
    return layer, torch.randn(rows, 12, dtype=dtype), torch.randn(rows, 20, dtype=dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", [nn.Linear, FusedLinear])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_fused_is_plain(operation, dtype, kind, bias):
    layer, x, other = layer_and_inputs(dtype, bias=bias, kind=kind)
    ours, then = OPERATIONS[operation]
    with torch.inference_mode():
        actual = ours(layer, x, other)
        expected = then(layer.double()(x.double()), other.double())
    assert actual.dtype is dtype
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradients_flow_when_they_are_on(operation):
    layer, x, other = layer_and_inputs(torch.float32)
    x.requires_grad_()
    OPERATIONS[operation][0](layer, x, other).sum().backward()
    grads = [x.grad, layer.weight.grad, layer.bias.grad]
    layer.zero_grad()
    x.grad = None
    OPERATIONS[operation][1](F.linear(x, layer.weight, layer.bias), other).sum().backward()
    for ours, plain in zip(grads, [x.grad, layer.weight.grad, layer.bias.grad], strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("padding_idx", [None, 3])
def test_rows_of_a_table_and_their_gradient_are_those_of_an_embedding(padding_idx):
    torch.manual_seed(0)
    table = nn.Embedding(11, 5, padding_idx=padding_idx)
    tokens, asked = torch.tensor([3, 0, 3, 10, 7, 0, 3]), torch.randn(7, 5)
    rows = products.look_up(table, tokens)
    rows.backward(asked)
    by_rows, table.weight.grad = table.weight.grad, None
    plain = table(tokens)
    plain.backward(asked)
    assert torch.equal(rows, plain)
    torch.testing.assert_close(by_rows, table.weight.grad)
    assert ("IndexSelect" in type(rows.grad_fn).__name__) == (padding_idx is None)


@pytest.mark.skipif(not kept.onednn_works(torch.float32), reason="this torch has no fused products")
def test_the_fused_operation_is_what_runs(monkeypatch):
    """Without this, every comparison above could pass by comparing plain with plain."""
    layer, x, other = layer_and_inputs(torch.float32)
    assert not products._fusable(layer, x)
    with torch.inference_mode():
        assert products._fusable(layer, x)
        assert not products._fusable(layer, x.double())
        assert not products._fusable(layer, x.T)
        assert not products._fusable(nn.Sequential(layer), x)
        monkeypatch.setattr(F, "linear", None)  # plain products would fail
        linear_add(layer, x, other)


def test_a_processor_without_products_in_bfloat16_takes_torchs_own(monkeypatch):
    """oneDNN without AVX-512: it refuses the precision, and only when it is asked for a product."""
    real = torch.ops.mkldnn._linear_pointwise

    def refusing(operation):
        def call(x, *rest):
            if x.dtype is torch.bfloat16:
                raise RuntimeError("could not create a primitive descriptor")
            return operation(x, *rest)

        return call

    fused = refusing(real)
    fused.binary = refusing(real.binary)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", fused)
    kept.onednn_works.cache_clear()
    try:
        layer, x, other = layer_and_inputs(torch.bfloat16)
        with torch.inference_mode():
            found = [linear_add(layer, x, other), linear_mul(layer, x, other), linear(layer, x, "silu")]
        x.requires_grad_(True)
        linear(layer, x).sum().backward()
        assert not kept.onednn_works(torch.bfloat16)
    finally:
        kept.onednn_works.cache_clear()
    product = F.linear(x.detach().float(), layer.weight.detach().float(), layer.bias.detach().float())
    expected = [product + other, product * other, F.silu(product)]
    for one, wanted in zip(found, expected, strict=True):
        assert torch.allclose(one.float(), wanted.float(), **TOLERANCE[torch.bfloat16])
    assert x.grad is not None and x.grad.isfinite().all()


def test_inputs_the_fused_operation_does_not_take():
    layer, x, other = layer_and_inputs(torch.float32)
    strided = torch.randn(12, 7).T
    with torch.inference_mode():
        torch.testing.assert_close(linear(layer, strided), layer(strided))
        assert linear(layer, x[:0]).shape == (0, 20)
        assert linear_add(layer, x[:0], other[:0]).shape == (0, 20)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(layer, x).dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rms_norm_is_torchs(dtype):
    x = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.linspace(0.5, 2, 16, dtype=dtype)
    expected = F.rms_norm(x.double(), (16,), weight.double(), 1e-6).to(dtype)
    tolerance = {"rtol": 2e-2, "atol": 1e-2} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(RmsNorm(weight, 1e-6)(x), expected, **tolerance)


def test_rms_norm_of_nothing_is_nothing_and_has_a_gradient():
    x = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(RmsNorm(torch.ones(8, dtype=torch.float64), 1e-2), x, atol=1e-3)
    assert RmsNorm(torch.ones(8), 1e-6)(torch.zeros(2, 8)).abs().sum() == 0


def test_use_fused_products_changes_no_result_and_plain_layers_alone():
    class Own(nn.Linear):
        """Somebody's subclass, whose forward pass may differ."""

    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Own(4, 4))
    x = torch.randn(3, 4)
    before = model(x)
    use_fused_products(model)
    assert [type(module) for module in model] == [FusedLinear, nn.ReLU, Own]
    torch.testing.assert_close(model(x), before)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), before)
        torch.testing.assert_close(model(x[None]), before[None])


def doubles(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("around_one", [False, True])
def test_rms_norms_gradients(around_one):
    x, weight = doubles((3, 2, 6), (6,))
    assert torch.autograd.gradcheck(lambda x, w: RmsNorm(w, 1e-6, around_one)(x), (x, weight))
    assert torch.autograd.gradcheck(RmsNorm(weight.detach(), 1e-6, around_one), (x,))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_norm_around_one_without_gradients(dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(5, 16, dtype=dtype), torch.randn(16, dtype=dtype)
    with torch.inference_mode():
        actual = RmsNorm(weight, 1e-6, around_one=True)(x)
    assert actual.dtype is dtype
    expected = F.rms_norm(x.double(), (16,), eps=1e-6) * (1 + weight.double())
    torch.testing.assert_close(actual.double(), expected, **TOLERANCE[dtype])


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, the last smaller than the others."""
    monkeypatch.setattr(blocks, "_BLOCK", 32 // torch.get_num_threads())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("around_one", [False, True])
def test_a_norm_by_blocks_is_that_with_gradients_and_leaves_its_input(dtype, around_one, small_blocks):
    torch.manual_seed(0)
    x, weight, other = (torch.randn(*shape, dtype=dtype) for shape in ((7, 12), (12,), (7, 12)))
    norm, before = RmsNorm(weight, 1e-6, around_one), x.clone()
    expected = norm(x), norm.plus(x, other)
    with torch.no_grad():
        for found, wanted in zip((norm(x), norm.plus(x, other)), expected, strict=True):
            assert found.dtype is dtype
            torch.testing.assert_close(found, wanted.detach(), **TOLERANCE[dtype])
    assert torch.equal(x, before)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("normed", [False, True])
def test_a_rotation_by_blocks_is_that_with_gradients_and_leaves_its_input(dtype, normed, small_blocks):
    torch.manual_seed(0)
    x, angle = torch.randn(7, 3, 8, dtype=dtype), torch.randn(7, 1, 4)
    rotary, before = (angle.cos().to(dtype), angle.sin().to(dtype)), x.clone()
    norm = RmsNorm(torch.randn(8, dtype=dtype), 1e-6) if normed else None
    expected = rotate(x, rotary, norm).detach()
    with torch.no_grad():
        found = rotate(x, rotary, norm)
    assert found.dtype is dtype
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])
    assert torch.equal(x, before)


@pytest.mark.parametrize("positions", [[0, 1, 2, 0, 1, 0], [3, 4, 3, 4, 3, 4, 3, 4, 3, 4], [0, 1, 2]])
def test_angles_are_computed_once_for_each_position_and_are_those_of_each_token(positions):
    positions, sizes = torch.tensor(positions), []

    def turn(asked):
        sizes.append(asked.shape[1])
        angle = (asked[..., None] * torch.tensor([0.5, 0.1])).repeat(1, 1, 2)
        return angle.cos(), angle.sin()

    expected = halves(turn, positions)
    with torch.no_grad():
        found = halves(turn, positions)
    assert found[0].shape == (len(positions), 1, 2)
    for ours, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, wanted)
    most = int(positions.max()) + 1
    assert sizes == [len(positions), most if 2 * most <= len(positions) else len(positions)]
