"""The modules of Llama-shaped decoders and Gemma 3, named as transformers names them, without importing it.

They hold weights; `llama.LlamaShaped` and `gemma.GemmaShaped` run them. To import transformers' own takes longer than
all else that loading does. They stand for models that this project saved: those were compared with transformers when
they were first loaded, and their vectors are compared with the saved ones.
"""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from udever.errors import ModelError
from udever.model.decoder_config import DecoderConfig


class Decoder(nn.Module):
    """A decoder of a family that `DecoderConfig` knows. It has no forward pass of its own."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        sizes = vars(config)
        self.config = config
        self.embed_tokens = _table(config)
        self.layers = nn.ModuleList(Layer(config, number) for number in range(config.num_hidden_layers))
        self.norm = Norm(sizes["hidden_size"], sizes["rms_norm_eps"])
        self.rotary_emb = Rotary(config)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of tokens."""
        return self.embed_tokens


class ScaledTable(nn.Embedding):
    """A table of tokens whose rows are multiplied by `embed_scale`, as transformers and peft call it."""

    embed_scale = 1.0

    def forward(self, input: Tensor) -> Tensor:
        """[total] -> [total, hidden]."""
        rows = super().forward(input)
        return rows * torch.tensor(self.embed_scale, dtype=torch.float32).to(rows)


def _table(config: DecoderConfig) -> nn.Embedding:
    sizes = vars(config)
    # given, since torch's own start of a table imports its compiler: two seconds
    weight = torch.empty(sizes["vocab_size"], sizes["hidden_size"])
    kind = nn.Embedding if config.embedding_scale == 1 else ScaledTable
    table = kind(*weight.shape, padding_idx=sizes.get("pad_token_id"), _weight=weight)
    if isinstance(table, ScaledTable):
        table.embed_scale = config.embedding_scale
    return table


class Norm(nn.Module):
    """The weight and epsilon of a root mean square norm, under both names that transformers has for it."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.variance_epsilon = self.eps = epsilon


class DecoderAttention(nn.Module):
    """The projections of a layer's attention."""

    def __init__(self, config: DecoderConfig, number: int) -> None:
        super().__init__()
        sizes = vars(config)
        self.head_dim = head = config.head_size
        self.scaling = config.scale
        self.sliding_window = config.window(number)
        width, heads = sizes["hidden_size"], sizes["num_attention_heads"] * head
        keys = sizes["num_key_value_heads"] * head
        bias = sizes.get("attention_bias", config.model_type == "qwen2")
        self.q_proj = nn.Linear(width, heads, bias=bias)
        self.k_proj = nn.Linear(width, keys, bias=bias)
        self.v_proj = nn.Linear(width, keys, bias=bias)
        self.o_proj = nn.Linear(heads, width, bias=bias and config.model_type != "qwen2")
        if config.model_type in ("qwen3", "gemma3_text"):
            self.q_norm = Norm(head, sizes["rms_norm_eps"])
            self.k_norm = Norm(head, sizes["rms_norm_eps"])


class Mlp(nn.Module):
    """The projections of a layer's gated feed-forward part."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        sizes = vars(config)
        width, inner, bias = sizes["hidden_size"], sizes["intermediate_size"], sizes.get("mlp_bias", False)
        self.gate_proj = nn.Linear(width, inner, bias=bias)
        self.up_proj = nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)


class Layer(nn.Module):
    """One layer: two norms, in Gemma four."""

    def __init__(self, config: DecoderConfig, number: int) -> None:
        super().__init__()
        sizes = vars(config)
        self.self_attn = DecoderAttention(config, number)
        self.mlp = Mlp(config)
        names = ["input_layernorm", "post_attention_layernorm"]
        if config.model_type == "gemma3_text":
            names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for name in names:
            setattr(self, name, Norm(sizes["hidden_size"], sizes["rms_norm_eps"]))


class Rotary(nn.Module):
    """Cosines and sines of positions (arXiv 2104.09864), as transformers' modules give them."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config

    @cached_property
    def frequencies(self) -> dict[str, Tensor]:
        """What `DecoderConfig.frequencies` says of each kind of layer; made once the weights are known to fit."""
        with torch.inference_mode(mode=False):
            return {kind: self.config.frequencies(kind) for kind in dict.fromkeys(self.config.layer_types)}

    @property
    def inv_freq(self) -> Tensor:
        """The frequencies of a model that has one rule."""
        return next(iter(self.frequencies.values()))

    def forward(self, x: Tensor, positions: Tensor, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
        """Positions [1, total] to both [1, total, head], in the precision and on the device of x."""
        turns = self.frequencies[layer_type] if layer_type else self.inv_freq
        angles = positions[..., None].float() * turns.to(x.device)
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


def empty_decoder(config: DecoderConfig) -> Decoder:
    """A decoder whose weights are still to come and take no memory."""
    with torch.device("meta"):
        return Decoder(config)


def filled_decoder(folder: Path, config: DecoderConfig, state: dict[str, Tensor], dtype: torch.dtype) -> Decoder:
    """A decoder with the weights `state` of a folder. Raises ModelError where one is missing or has another shape."""
    model = empty_decoder(config)
    wanted = model.state_dict()
    wrong = [name for name in wanted if name not in state or state[name].shape != wanted[name].shape]
    if wrong:
        raise ModelError(f"{folder}: weight {wrong[0]!r} is missing or has another shape than config.json says")
    model.load_state_dict({name: state[name].to(dtype) for name in wanted}, assign=True)
    return model
