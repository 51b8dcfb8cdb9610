"""From a model folder to a backbone that is known to be right: load the weights, choose the forward pass, test it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from udever.errors import ContractError, ModelError, first_line
from udever.model import bert, gemma, quantising
from udever.model.attention import Attention, GroupedAttention, ScoreRule, attention_over
from udever.model.bloom import Bloom
from udever.model.configuration import is_quantised
from udever.model.decoder_config import DecoderConfig
from udever.model.decoder_modules import Decoder
from udever.model.decoders import CannotPack, PackedDecoder, PaddedModel
from udever.model.lengths import separate, threshold_at
from udever.model.llama import FAMILIES, LlamaShaped
from udever.model.packing import Packed, pack
from udever.model.products import use_fused_products
from udever.model.weights import check_weights, empty_model, load_bloom, load_decoder, load_transformers, read_state
from udever.nearest import suggestion

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
_KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
_PROBE_LENGTHS = (7, 12, 5)
_PROBE_THRESHOLD = 8
"""Rules that look at the longest text switch here while probes are run."""
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-5}
_HALF_TOLERANCE = 0.1


class Backbone(Protocol):
    """Packed tokens to hidden states; an nn.Module."""

    config: Any

    def __call__(self, attention: Attention, *, last_only: bool = False) -> Tensor:
        """[total, hidden], or [texts, hidden] of the closing tokens where `last_only`."""
        ...


def pick_dtype(dtype: str | torch.dtype, device: torch.device, others: tuple[str, ...] = ()) -> torch.dtype:
    """Resolve "auto": bfloat16 on CUDA and on processors that multiply it, float32 elsewhere.

    `others` are names that the caller knows besides, for the hint.

    Raises ModelError for float16 on a CPU (ten times slower than bfloat16, and it overflows).
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" or _cpu_multiplies_bfloat16() else torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ModelError(f"dtype is {dtype!r}; {suggestion(str(dtype), ('auto', 'float32', 'bfloat16', *others))}")
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
    """Load the weights in `folder` and choose the fastest forward pass that is right. The backbone is in eval mode.

    Raises ModelError where there are no weights (or only pickled ones and `allow_pickle` is off), and
    ContractError where no forward pass gives a text the same hidden states alone and in a batch.
    """
    check_weights(folder, config, allow_pickle=allow_pickle)
    if is_quantised(config):
        return _load_eight_bits(folder, config, attention, dtype)
    if config.model_type == "bloom":
        bloom = load_bloom(folder, config)
        bloom.to(device=device, dtype=dtype).eval()
        _copy_out(bloom)
        self_test(bloom, attention=attention)
        return bloom
    if isinstance(config, DecoderConfig):
        model: Any = load_decoder(folder, config, dtype)
    else:
        model = load_transformers(folder, config, dtype, allow_pickle, trust_remote_code)
    model.to(device).eval()
    _copy_out(model)
    use_fused_products(model)
    return choose(model, attention=attention)


def _copy_out(model: nn.Module) -> None:
    """Copy weights out of the file that they are mapped from: who writes into it would change them in memory too."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()


def _load_eight_bits(folder: Path, config: Any, attention: AttentionKind, dtype: torch.dtype) -> Backbone:
    model = empty_model(config)
    try:
        quantising.fill(model, dict(read_state(folder)))
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    quantising.settle(model.eval(), dtype)
    if not isinstance(model, Bloom):
        return choose(model, attention=attention)
    model.reset_slopes()
    self_test(model, attention=attention)
    return model


def choose(model: Any, *, attention: AttentionKind) -> Backbone:
    """Wrap a transformers model in the first forward pass that agrees with the model's own.

    Order: Llama-shaped, Gemma-shaped, BERT-shaped, packed through the attention interface, right-padded. Modules of
    our own have one pass, which is tested against itself. Raises ContractError where none agrees, ModelError where only
    padding does and the attention asked for is not the model's own, and where the family cannot be run on text alone.
    """
    natural = natural_attention(model.config)
    causal = natural == "causal"
    if isinstance(model, Decoder):
        own = gemma.GemmaShaped(model) if gemma.fits(model.config) else LlamaShaped(model)
        self_test(own, attention=natural)
        return own
    for candidate in _packed_candidates(model, attention, natural):
        if _agrees(candidate, causal=causal):
            return candidate
    padded = PaddedModel(model)
    try:
        self_test(padded, attention=natural)
    except ModelError:
        raise
    except Exception as error:  # whatever a family's own code raises that wants more than tokens and a mask
        raise ModelError(
            f"{model.config.model_type!r} models cannot be run as embedders: {type(error).__name__}: "
            f"{first_line(error)}; use a decoder that takes tokens alone"
        ) from error
    if causal and _sees_ahead(padded):
        raise ModelError(
            f"{model.config.model_type!r} models are bidirectional, and not one of the encoders that udever "
            f"supports; use a decoder"
        )
    if attention != natural:
        raise ModelError(
            f"attention={attention!r} is not available for {model.config.model_type!r}, which runs padded "
            f"with its own {natural} attention; use {natural!r}"
        )
    return padded


def _packed_candidates(model: Any, attention: AttentionKind, natural: AttentionKind) -> Iterator[Any]:
    """Packed forward passes to try, the fastest first."""
    config = model.config
    if not set(getattr(config, "layer_types", None) or ()) <= _KNOWN_LAYERS:
        return  # a mask that the packed kernels do not know and the probes may be too short to feel
    if config.model_type in FAMILIES:
        yield LlamaShaped(model)
    if gemma.fits(config):
        yield gemma.GemmaShaped(model)
    if natural == "causal":
        yield PackedDecoder(model)
    elif attention == natural and bert.fits(config):
        yield bert.BertShaped(model)


def natural_attention(config: Any) -> AttentionKind:
    """The attention a family was made with."""
    both_ways = config.model_type in _ENCODERS or getattr(config, "use_bidirectional_attention", None) in (True, "all")
    return "bidirectional" if both_ways else "causal"


def probe(vocab_size: int, device: torch.device) -> list[Packed]:
    """Three short texts of arbitrary ids, each alone."""
    generator = torch.Generator().manual_seed(0)
    return [
        pack([torch.randint(3, max(vocab_size, 4), (length,), generator=generator).tolist()], device)
        for length in _PROBE_LENGTHS
    ]


def _together(
    backbone: Any, texts: list[Packed], attend: Callable[[Packed], Attention], *, last_only: bool = False
) -> Tensor:
    """Hidden states of all texts, in their order, of as few passes as the model's position rules allow."""
    out: dict[int, Tensor] = {}
    for indices in separate([len(text.tokens) for text in texts], backbone.config):
        packed = pack([texts[i].tokens.tolist() for i in indices], texts[0].tokens.device)
        hidden = backbone(attend(packed), last_only=last_only)
        out.update(zip(indices, hidden.split([1] * len(indices) if last_only else list(packed.lengths)), strict=True))
    return torch.cat([out[index] for index in range(len(texts))])


def _difference(ours: Tensor, reference: Tensor) -> float:
    return float((ours - reference).norm() / reference.norm())


def _tolerance(model: Any) -> float:
    if is_quantised(model.config):
        return _HALF_TOLERANCE
    return _TOLERANCE.get(next(model.parameters()).dtype, _HALF_TOLERANCE)


@torch.inference_mode()
def self_test(backbone: Any, *, attention: AttentionKind) -> None:
    """Raise ContractError unless a text has the same hidden states alone, in a batch, and for `last_only`."""
    texts = probe(vocab_size(backbone.config), next(backbone.parameters()).device)
    attend = partial(attention_over, causal=attention == "causal")
    last = torch.tensor(_PROBE_LENGTHS).cumsum(0) - 1
    with threshold_at(backbone, _PROBE_THRESHOLD):
        alone = torch.cat([backbone(attend(text)) for text in texts])
        together = _together(backbone, texts, attend)
        closing = _together(backbone, texts, attend, last_only=True)
    differences = {
        "in a batch": _difference(together, alone),
        "closing tokens alone": _difference(closing, alone[last.to(alone.device)]),
    }
    backbone.width = alone.shape[1]
    for what, difference in differences.items():
        if not difference <= _tolerance(backbone):  # `not <=` so that NaN fails too
            raise ContractError(
                f"{backbone.config.model_type}: a text's hidden states {what} differ from those of the text "
                f"alone by {difference:.2g} (relative); this model cannot be used"
            )


@torch.inference_mode()
def _sees_ahead(padded: PaddedModel) -> bool:
    """Whether a text's hidden states change when tokens are put behind it (XLNet, encoders of unknown families)."""
    text = probe(vocab_size(padded.config), next(padded.parameters()).device)[0]
    short = pack([text.tokens.tolist()[:-2]], text.tokens.device)
    whole, part = (padded(attention_over(packed, causal=True)) for packed in (text, short))
    return _difference(whole[: len(part)], part) > _tolerance(padded)


class _WindowRecorder(GroupedAttention):
    """Notes whether any layer names a sliding window: the probes are too short to feel one of thousands."""

    saw_window = False

    def full(self, query: Tensor, key: Tensor, value: Tensor, scores: ScoreRule) -> Tensor:
        """See `Attention.full`."""
        self.saw_window = self.saw_window or scores.window is not None
        return super().full(query, key, value, scores)


def _slides(config: Any) -> bool:
    """Whether some layer of the model sees a window alone."""
    if getattr(config, "layer_types", None) is not None:
        return "sliding_attention" in config.layer_types
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


@torch.inference_mode()
def _agrees(candidate: LlamaShaped | PackedDecoder | bert.BertShaped, *, causal: bool) -> bool:
    """Whether a packed forward pass gives what the model's own, unpatched, gives for each text alone."""
    model = candidate.model
    texts = probe(vocab_size(model.config), next(model.parameters()).device)
    own = model.config._attn_implementation
    try:
        with threshold_at(model, _PROBE_THRESHOLD):
            reference = torch.cat([PaddedModel(model)(attention_over(text, causal=causal)) for text in texts])
    except Exception:  # a family that needs more than tokens; `choose` says so when padding fails as well
        return False
    recorders: list[_WindowRecorder] = []

    def record(packed: Packed) -> Attention:
        recorders.append(_WindowRecorder(packed, causal=causal))
        return recorders[-1]

    try:
        with threshold_at(model, _PROBE_THRESHOLD):
            ours = _together(candidate, texts, record)
        self_test(candidate, attention="causal" if causal else "bidirectional")
        saw_window = any(recorder.saw_window for recorder in recorders)
        same = _difference(ours, reference) <= _tolerance(model) and saw_window >= _slides(model.config)
    except (CannotPack, ContractError, TypeError, RuntimeError, ValueError, AttributeError, KeyError):
        same = False
    if not same:
        model.config._attn_implementation = own
    return same


def vocab_size(config: Any) -> int:
    """Rows of the embedding table."""
    return config.get_text_config().vocab_size


def width(backbone: Any) -> int:
    """Width of the hidden states, as `self_test` measured it: OPT-350m's is not its `hidden_size`."""
    if not hasattr(backbone, "width"):
        token = pack([[0]], next(backbone.parameters()).device)
        with torch.inference_mode():
            backbone.width = backbone(attention_over(token, causal=True)).shape[1]
    return backbone.width
