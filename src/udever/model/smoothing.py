"""Which channels of activations are large, and by how much they are shrunk before they are rounded to eight bits.

What a channel's activations are divided by its weights are multiplied by (SmoothQuant, arXiv 2211.10438). Where that
costs the weights more than it gives the activations, as behind GELU, it is left out: each way is tried on inputs seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from udever.model.eight_bits import EightBitLinear, quantise_weight
from udever.model.products import FusedLinear

PLAIN = (nn.Linear, FusedLinear)
"""Layers that can be put into eight bits; a subclass of others may compute something else."""
SAMPLE = (
    "The committee will publish its final report in March, three months later than planned.",
    "SELECT name, COUNT(*) FROM orders WHERE total > 100 GROUP BY name ORDER BY 2 DESC;",
    "for (int i = 0; i < n; ++i) {\n    sum += values[i];  // no overflow below 2^31\n}",
    "Die Bibliothek ist montags geschlossen; Bücher können am Automaten zurückgegeben werden.",
    "La recette demande 250 g de farine, 3 œufs et un peu de sel.",
    "Температура ночью опустится до минус пяти градусов.",
    "请在提交之前运行所有测试，并更新文档。",
    "このパッケージはオフラインでも動作します。",
    "تم تحديث سياسة الخصوصية هذا الأسبوع.",
    '{"id": 17, "tags": ["new", "sale"], "price": 9.99, "url": "https://example.org/a?b=c"}',
)
"""Texts whose activations are looked at; none of the reference texts, which judge."""
_MOST = 7
_SHARES = (0.5, 0.75)
_ROWS_PER_TEXT = 6


@dataclass
class Seen:
    """Inputs of a linear layer: by channel the largest in multiples of its token's usual, and some rows [rows, in]."""

    peaks: Tensor
    rows: list[Tensor] = field(default_factory=list)


def watch(model: nn.Module, embed_sample: Callable[[], object]) -> dict[str, Seen]:
    """The inputs of each linear layer by name while `embed_sample` runs the model."""
    found: dict[str, Seen] = {}

    def see(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].flatten(0, -2)
        size = x.abs()
        usual = size.median(-1, keepdim=True).values.clamp_min(torch.finfo(x.dtype).tiny)
        peaks = (size / usual).amax(0)
        seen = found.setdefault(name, Seen(peaks))
        seen.peaks = torch.maximum(seen.peaks, peaks)
        seen.rows.append(x[:: max(1, len(x) // _ROWS_PER_TEXT)].clone())

    layers = [(name, module) for name, module in model.named_modules() if type(module) in PLAIN]
    handles = [module.register_forward_pre_hook(partial(see, name)) for name, module in layers]
    try:
        embed_sample()
    finally:
        for handle in handles:
            handle.remove()
    return found


def best(layers: Sequence[nn.Linear], seen: Seen | None) -> list[EightBitLinear]:
    """Layers that take the same input in eight bits, their channels shrunk alike in the way that loses least."""
    plain = [_made(layer, None) for layer in layers]
    if seen is None:
        return plain
    rows = torch.cat(seen.rows)
    outputs = [layer(rows) for layer in layers]
    tries = [plain]
    for share in _SHARES:
        shrink = _shrink(seen.peaks, share)
        if shrink.any():
            tries.append([_made(layer, shrink) for layer in layers])
    if len(tries) == 1:
        return plain
    return min(tries, key=lambda made: _loss(made, rows, outputs))


def _made(layer: nn.Linear, shrink: Tensor | None) -> EightBitLinear:
    weight = layer.weight if shrink is None else layer.weight * shrink.float().exp2()
    made = EightBitLinear(*quantise_weight(weight), layer.bias, None if shrink is None else shrink.clone())
    made.shrink()
    return made


def _loss(made: list[EightBitLinear], rows: Tensor, outputs: list[Tensor]) -> float:
    """What the outputs lose, each in multiples of its own size."""
    losses = (
        (new(rows) - output).norm() / output.norm().clamp_min(torch.finfo(output.dtype).tiny)
        for new, output in zip(made, outputs, strict=True)
    )
    return sum(map(float, losses))


def _shrink(peaks: Tensor, share: float) -> Tensor:
    """Powers of two, int8 [in]: `share` of those by which a channel's peak is over four times the usual."""
    above = (peaks / (4 * peaks.median())).log2()
    return (share * above).round().nan_to_num(0).clamp(0, _MOST).to(torch.int8)
