"""From a model folder to a backbone that is known to be right: load the weights, choose the forward pass, test it."""

import warnings
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from udever.errors import ContractError, ModelError
from udever.model import adapters, bert
from udever.model.attention import Attention, GroupedAttention, Scores, attention_over
from udever.model.decoders import CannotPack, PackedDecoder, PaddedModel
from udever.model.llama import FAMILIES, LlamaShaped
from udever.model.packing import Packed, pack
from udever.model.products import use_fused_products
from udever.model.weights import check_weights, load_bloom, load_transformers

AttentionKind = Literal["causal", "bidirectional"]

_ENCODERS = frozenset(
    [
        "bert",
        "roberta",
        "xlm-roberta",
        "distilbert",
        "mpnet",
        "electra",
        "albert",
        "camembert",
        "deberta-v2",
        "modernbert",
    ]
)
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-5}
_HALF_TOLERANCE = 0.1


class Backbone(Protocol):
    """Packed tokens to hidden states; an nn.Module."""

    config: Any

    def __call__(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """[total, hidden], or [texts, hidden] of the closing tokens where `last_only`."""
        ...


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Resolve "auto": bfloat16 on CUDA and on processors that multiply it, float32 elsewhere.

    Raises ModelError for float16 on a CPU (ten times slower than bfloat16, and it overflows).
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" or _cpu_multiplies_bfloat16() else torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ModelError(f"dtype is {dtype!r}; expected auto, float32 or bfloat16")
    if chosen is torch.float16 and device.type == "cpu":
        raise ModelError("dtype is float16 on a CPU, where it is slow and overflows; use bfloat16 or float32")
    return chosen


def _cpu_multiplies_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def load_backbone(
    folder: Path,
    config: Any,
    *,
    attention: AttentionKind,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load the weights in `folder`, apply the adapter beside them, choose the fastest forward pass that is right.

    The backbone is in eval mode.

    Raises ModelError where there are no weights (or only pickled ones and `allow_pickle` is off), and
    ContractError where no forward pass gives a text the same hidden states alone and in a batch.
    """
    check_weights(folder, config, allow_pickle=allow_pickle)
    if config.model_type == "bloom":
        bloom = load_bloom(folder, config)
        _apply_adapter_beside(bloom, folder)
        bloom.to(device=device, dtype=dtype).eval()
        self_test(bloom, attention=attention)
        return bloom
    model = load_transformers(folder, dtype, allow_pickle, trust_remote_code).to(device).eval()
    _apply_adapter_beside(model, folder)
    use_fused_products(model)
    return choose(model, attention=attention)


def _apply_adapter_beside(model: nn.Module, folder: Path) -> None:
    """An adapter that lies beside whole weights belongs to them: it is folded in, and said."""
    if adapters.is_adapter_folder(folder):
        adapters.load_adapter(model, folder)
        warnings.warn(f"{folder} holds an adapter beside its weights; it was applied", AdapterWarning, stacklevel=2)


class AdapterWarning(UserWarning):
    """A folder of whole weights holds an adapter too, which was applied to them."""


def choose(model: Any, *, attention: AttentionKind) -> Backbone:
    """Wrap a transformers model in the first forward pass that agrees with the model's own.

    Order: Llama-shaped, BERT-shaped, packed through the attention interface, right-padded. Raises ContractError where
    none agrees, ModelError where only padding does and the attention asked for is not the model's own.
    """
    if model.config.model_type in FAMILIES and _agrees(LlamaShaped(model)):
        return LlamaShaped(model)
    natural = natural_attention(model.config)
    if natural == "causal" and _agrees(PackedDecoder(model)):
        return PackedDecoder(model)
    if attention == natural == "bidirectional" and bert.fits(model.config):
        encoder = bert.BertShaped(model)
        if _agrees(encoder, causal=False):
            return encoder
    padded = PaddedModel(model)
    self_test(padded, attention=natural)
    if attention != natural:
        raise ModelError(
            f"attention={attention!r} is not available for {model.config.model_type!r}, which runs padded "
            f"with its own {natural} attention; use {natural!r}"
        )
    return padded


def natural_attention(config: Any) -> AttentionKind:
    """The attention a family was made with."""
    return "bidirectional" if config.model_type in _ENCODERS else "causal"


def probe(vocab_size: int, device: torch.device) -> list[Packed]:
    """Three short texts of arbitrary ids, each alone."""
    generator = torch.Generator().manual_seed(0)
    return [
        pack([torch.randint(3, max(vocab_size, 4), (length,), generator=generator).tolist()], device)
        for length in (7, 12, 5)
    ]


def _together(texts: list[Packed]) -> Packed:
    return pack([text.tokens.tolist() for text in texts], texts[0].tokens.device)


def _difference(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).norm() / reference.norm())


def _tolerance(model: nn.Module) -> float:
    return _TOLERANCE.get(next(model.parameters()).dtype, _HALF_TOLERANCE)


@torch.inference_mode()
def self_test(backbone: Any, *, attention: AttentionKind) -> None:
    """Raise ContractError unless a text has the same hidden states alone, in a batch, and for `last_only`."""
    texts = probe(vocab_size(backbone.config), next(backbone.parameters()).device)
    causal = attention == "causal"
    alone = torch.cat([backbone(attention_over(text, causal=causal)) for text in texts])
    together = attention_over(_together(texts), causal=causal)
    differences = {
        "in a batch": _difference(backbone(together), alone),
        "closing tokens alone": _difference(backbone(together, last_only=True), alone[together.packed.last]),
    }
    for what, difference in differences.items():
        if not difference <= _tolerance(backbone):  # `not <=` so that NaN fails too
            raise ContractError(
                f"{backbone.config.model_type}: a text's hidden states {what} differ from those of the text "
                f"alone by {difference:.2g} (relative); this model cannot be used"
            )


class _WindowRecorder(GroupedAttention):
    """Notes whether any layer names a sliding window: the probes are too short to feel one of thousands."""

    saw_window = False

    def full(self, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """See `Attention.full`."""
        self.saw_window = self.saw_window or scores.window is not None
        return super().full(query, key, value, scores)


def _slides(config: Any) -> bool:
    """Whether some layer of the model sees a window alone."""
    if getattr(config, "layer_types", None) is not None:
        return "sliding_attention" in config.layer_types
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


@torch.inference_mode()
def _agrees(candidate: LlamaShaped | PackedDecoder | bert.BertShaped, *, causal: bool = True) -> bool:
    """Whether a packed forward pass gives what the model's own, unpatched, gives for each text alone."""
    model = candidate.model
    texts = probe(vocab_size(model.config), next(model.parameters()).device)
    own = model.config._attn_implementation
    reference = torch.cat([PaddedModel(model)(attention_over(text, causal=causal)) for text in texts])
    recorder = _WindowRecorder(_together(texts), causal=causal)
    try:
        ours = candidate(recorder)
        self_test(candidate, attention="causal" if causal else "bidirectional")
        same = _difference(ours, reference) <= _tolerance(model) and recorder.saw_window >= _slides(model.config)
    except (CannotPack, ContractError, TypeError, RuntimeError, ValueError):
        same = False
    if not same:
        model.config._attn_implementation = own
    return same


def vocab_size(config: Any) -> int:
    """Rows of the embedding table."""
    return config.get_text_config().vocab_size


def hidden_size(config: Any) -> int:
    """Width of the hidden states."""
    return config.get_text_config().hidden_size
