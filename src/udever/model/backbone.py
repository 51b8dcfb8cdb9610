"""From a model folder to a backbone that is known to be right: load the weights, choose the forward pass, test it."""

import os
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BloomConfig

from udever.errors import ContractError, ModelError
from udever.model import bert
from udever.model.attention import Attention, GroupedAttention, Scores, attention_over
from udever.model.bloom import Bloom
from udever.model.decoders import CannotPack, PackedDecoder, PaddedModel
from udever.model.llama import FAMILIES, LlamaShaped
from udever.model.packing import Packed, pack
from udever.model.products import use_fused_products

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
_WEIGHT_NAMES = ("model.safetensors", "model.safetensors.index.json")
_PICKLE_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


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


def read_config(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The model's configuration. Raises ModelError in one line where there is none or it is not known."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; expected a model folder")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises a dozen kinds for a broken file
        raise ModelError(f"{folder}/config.json cannot be used: {_first_line(error)}") from error


def load_backbone(
    folder: Path,
    *,
    attention: AttentionKind,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Backbone:
    """Load the weights in `folder`, choose the fastest forward pass that is right, and return it in eval mode.

    Raises ModelError where there are no weights (or only pickled ones and `allow_pickle` is off), and
    ContractError where no forward pass gives a text the same hidden states alone and in a batch.
    """
    config = read_config(folder, trust_remote_code=trust_remote_code)
    _require_weights(folder, allow_pickle=allow_pickle)
    if config.model_type == "bloom":
        bloom = load_bloom(folder, config)
        bloom.to(device=device, dtype=dtype).eval()
        self_test(bloom, attention=attention)
        return bloom
    model = _load_transformers(folder, dtype, allow_pickle, trust_remote_code).to(device).eval()
    use_fused_products(model)
    return choose(model, attention=attention)


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


def _require_weights(folder: Path, *, allow_pickle: bool) -> None:
    if any((folder / name).is_file() for name in _WEIGHT_NAMES):
        return
    pickled = next((name for name in _PICKLE_NAMES if (folder / name).is_file()), None)
    if pickled is None:
        raise ModelError(f"{folder} has no weights; expected {' or '.join(_WEIGHT_NAMES)}")
    if not allow_pickle:
        raise ModelError(
            f"{folder} has its weights in {pickled} alone, a pickle that can run code; convert it to safetensors, "
            f"or pass allow_pickle=True if you trust where it comes from"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, in the index's order. Raises ModelError for a broken index."""
    present = next(folder / name for name in (*_WEIGHT_NAMES, *_PICKLE_NAMES) if (folder / name).is_file())
    if present.suffix != ".json":
        return [present]
    import json

    try:
        index = json.loads(present.read_text())
        return [folder / name for name in dict.fromkeys(index["weight_map"].values())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{present} is no index of weight files; fetch the model again") from error


def load_bloom(folder: Path, config: BloomConfig) -> Bloom:
    """Native BLOOM with the weights in `folder`, whatever head they were saved with."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    try:
        for path in weight_files(folder):
            pickled = path.suffix == ".bin"
            state.update(torch.load(path, weights_only=True, map_location="cpu") if pickled else load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{folder}: the weights cannot be read: {_first_line(error)}") from error
    state = {name.removeprefix("transformer."): tensor for name, tensor in state.items() if name != "lm_head.weight"}
    if config.n_layer < 1 or config.n_head < 1 or config.hidden_size % config.n_head:
        raise ModelError(
            f"{folder}/config.json has n_layer {config.n_layer}, n_head {config.n_head} and hidden_size "
            f"{config.hidden_size}; expected at least one layer, and heads that divide the size"
        )
    with torch.device("meta"):
        model = Bloom(config)
    fitting = model.state_dict()
    wrong = [name for name in fitting if name not in state or state[name].shape != fitting[name].shape]
    if wrong:
        raise ModelError(f"{folder}: weight {wrong[0]!r} is missing or has another shape than config.json says")
    model.load_state_dict({name: state[name] for name in fitting}, assign=True)
    model.reset_slopes()  # buffers made under the meta device hold nothing
    return model


def _load_transformers(folder: Path, dtype: torch.dtype, allow_pickle: bool, trust_remote_code: bool) -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=None if allow_pickle else True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    except Exception as error:  # transformers and safetensors raise a dozen kinds for a broken file
        raise ModelError(f"{folder} cannot be loaded: {_first_line(error)}") from error
    missing = [name for name in report["missing_keys"] if "pooler" not in name]
    if missing:
        raise ModelError(f"{folder}: weight {sorted(missing)[0]!r} is missing from the weight files")
    return model


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
