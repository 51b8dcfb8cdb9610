"""An embedder as one GGUF file, which llama.cpp and ollama load for embeddings.

Weights are float16, or blocks of eight bits (Q8_0); norms and biases float32. Pooling and the tokens that llama.cpp
puts around a text stand in the file; prompts do not, there is no place for them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from udever.embedder import Embedder
from udever.errors import ModelError, needs
from udever.exporting import gguf_weights
from udever.exporting.gguf_vocabulary import Vocabulary, vocabulary_of
from udever.model.backbone import vocab_size
from udever.model.contract import Contract, Role, RoleName
from udever.model.folder import shared_markers

Precision = Literal["f16", "q8_0"]

_POOLING = {"mean": "MEAN", "last": "LAST"}
"""llama.cpp's names."""


@dataclass(frozen=True)
class GGUFContent:
    """What goes into the file: `markers` around every text, and the prompt that callers put in front of it, by role."""

    architecture: str
    model: Any
    vocabulary: Vocabulary
    markers: Role
    prompts: Mapping[RoleName, str]


def plan(embedder: Embedder, role: RoleName | None = None) -> GGUFContent:
    """What a file of `embedder` would say. `role`: for texts of this role alone, whose markers others may not share.

    Raises ModelError in one line for a model or a contract that llama.cpp cannot run, MissingExtra without gguf.
    """
    with needs("gguf", "gguf", "writing GGUF files"):
        import gguf  # noqa: F401 # asked for before long work
    name, contract, backbone = embedder.name, embedder.contract, embedder.backbone
    model: Any = getattr(backbone, "model", backbone)
    architecture = gguf_weights.architecture_of(name, model, contract.max_length)
    markers, prompts = _markers(name, contract, embedder.tokenizer.hf, role)
    if contract.attention != "causal" or contract.pooling not in _POOLING:
        what = contract.pooling if contract.attention == "causal" else f"attention {contract.attention}"
        raise ModelError(f"{name} has {what}; llama.cpp knows causal decoders pooled by last or mean")
    if contract.pooling == "mean" and not contract.pool_prompt and any(prompts.values()):
        raise ModelError(f"{name} leaves prompts out of its mean, which no exported format can; use the model folder")
    if len(markers.prefix_ids) > 1 or len(markers.suffix_ids) > 1 or markers.suffix_is_text:
        raise ModelError(
            f"{name} puts words or several tokens around a text; llama.cpp puts one marker: use --format onnx"
        )
    vocabulary = vocabulary_of(name, embedder.tokenizer.hf, vocab_size(model.config), contract.marker_ids)
    return GGUFContent(architecture, model, vocabulary, markers, prompts)


def _markers(
    name: str, contract: Contract, tokenizer: Any, role: RoleName | None
) -> tuple[Role, Mapping[RoleName, str]]:
    if role is not None:
        own = contract.role(role)
        return own, {role: own.prompt}
    shared = shared_markers(contract, tokenizer)
    if shared is None:
        raise ModelError(f"{name} closes queries and documents by other tokens; write one file each: --role query")
    return shared


def write(path: Path, embedder: Embedder, planned: GGUFContent, precision: Precision) -> None:
    """Write the file that `plan` describes. Raises ModelError for weights too large for float16."""
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType

    kinds = {"f16": GGMLQuantizationType.F16, "q8_0": GGMLQuantizationType.Q8_0}
    files = {"f16": LlamaFileType.MOSTLY_F16, "q8_0": LlamaFileType.MOSTLY_Q8_0}
    writer = GGUFWriter(path, planned.architecture)
    try:
        _write_metadata(writer, embedder, planned)
        writer.add_file_type(files[precision])
        for name, array in _named_weights(planned):
            _add(writer, name, array, kinds[precision])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _write_metadata(writer: Any, embedder: Embedder, planned: GGUFContent) -> None:
    from gguf import PoolingType

    contract, vocabulary = embedder.contract, planned.vocabulary
    writer.add_type("model")
    writer.add_name(Path(embedder.name).name)
    writer.add_description(f"embedder with the fingerprint {embedder.fingerprint}")
    writer.add_string("udever.contract", contract.model_dump_json())  # what `Embedder.load` reads back
    for role, prompt in planned.prompts.items():
        writer.add_string(f"udever.prompt.{role}", prompt)
    gguf_weights.write_settings(writer, planned.model, contract.max_length)
    writer.add_pooling_type(PoolingType[_POOLING[contract.pooling]])
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    prefix, suffix = planned.markers.prefix_ids, planned.markers.suffix_ids
    tokenizer = embedder.tokenizer.hf
    for ids, known, set_id, set_added in (
        (prefix, tokenizer.bos_token_id, writer.add_bos_token_id, writer.add_add_bos_token),
        (suffix, tokenizer.eos_token_id, writer.add_eos_token_id, writer.add_add_eos_token),
    ):
        token = ids[0] if ids else known
        if token is not None:
            set_id(token)
        set_added(bool(ids))
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)


def _named_weights(planned: GGUFContent) -> Iterator[tuple[str, np.ndarray]]:
    """Every weight under llama.cpp's name."""
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == planned.architecture)
    names = get_tensor_name_map(architecture, planned.model.config.num_hidden_layers)
    for name, tensor in gguf_weights.weights_of(planned.model):
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise ModelError(f"weight {name!r} is none that llama.cpp knows; export with --format onnx")
        yield known, tensor.cpu().contiguous().numpy()
    factors = gguf_weights.rotary_factors(planned.model)
    if factors is not None:
        yield gguf_weights.ROPE_FACTORS, factors.cpu().numpy()


def _add(writer: Any, name: str, array: np.ndarray, kind: Any) -> None:
    """Add a tensor in the file's precision; what is no matrix stays float32, what fills no blocks of 32 is float16."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if array.ndim == 1:
        writer.add_tensor(name, array)
        return
    if kind is GGMLQuantizationType.Q8_0 and array.shape[-1] % 32 == 0:
        writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
        return
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(f"{name} does not fit into float16; use --precision q8_0, or --format onnx")
    writer.add_tensor(name, half)
