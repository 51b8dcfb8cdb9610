"""The seedling's network: made, grown by a layer, written as a model folder."""

import copy
from pathlib import Path

import torch
from common import WORK

from udever import Embedder
from udever.loading import Loaded
from udever.model.bloom import Bloom, BloomBlock, init_weights
from udever.model.contract import Contract, Role

CLOSING = 1
"""`</s>`: the one marker, behind every text; the vector is its hidden state."""


def contract() -> Contract:
    """Texts in every role are closed by the same token."""
    role = Role(suffix_ids=(CLOSING,))
    return Contract(query=role, document=role, symmetric=role, max_length=512)


def make(num_layers: int, num_heads: int, hidden_size: int = 384, seed: int = 0) -> Bloom:
    """A new network over the tokenizer of tokenizer.py, its attention passing content on."""
    from tokenizers import Tokenizer
    from transformers import BloomConfig

    from udever.training.fresh import let_content_through

    tokenizer = Tokenizer.from_file(str(WORK / "tokenizer" / "tokenizer.json"))
    config = BloomConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden_size,
        n_layer=num_layers,
        n_head=num_heads,
        bos_token_id=None,
        eos_token_id=CLOSING,
        pad_token_id=0,
    )
    model = Bloom(config)
    init_weights(model, seed)
    let_content_through(model, seed)
    return model


def grow(model: Bloom) -> Bloom:
    """The same function with one more layer, put below the others: its two outputs start at zero."""
    config = copy.deepcopy(model.config)
    config.n_layer += 1
    taller = Bloom(config)
    init_weights(taller, config.n_layer)
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("h.")}
    taller.load_state_dict(state, strict=False)
    for index, block in enumerate(model.h):
        taller.h[index + 1].load_state_dict(block.state_dict())
    first = taller.h[0]
    assert isinstance(first, BloomBlock)
    for output in (first.self_attention.dense, first.mlp.dense_4h_to_h):
        torch.nn.init.zeros_(output.weight)
    return taller


def embedder(model: Bloom) -> Embedder:
    """The network with its tokenizer and contract."""
    from transformers import PreTrainedTokenizerFast

    path = str(WORK / "tokenizer" / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=path, eos_token="</s>", pad_token="<pad>")
    return Embedder(Loaded(model.eval(), tokenizer, contract()), name="seedling")


def export(model: Bloom, folder: Path, notes: str = "") -> None:
    """Write `folder` in bfloat16, as it ships."""
    embedder(copy.deepcopy(model).to(torch.bfloat16)).save(folder, notes=notes, base="nothing")
