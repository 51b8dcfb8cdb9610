"""Writing a model folder: weights, tokenizer, and the files by which sentence-transformers loads it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from udever.errors import ModelError
from udever.model.artefact import REFERENCE_TEXTS, write_json
from udever.model.bloom import Bloom
from udever.model.configuration import QUANTISED
from udever.model.contract import Contract, Role, RoleName
from udever.model.decoder_modules import Decoder
from udever.model.eight_bits import is_eight_bit
from udever.model.packed_table import Bits, pack_table, unpack_tables
from udever.model.quantising import stored
from udever.model.tokenizer_files import LOADED_FROM
from udever.model.tokens import TextTokenizer, tokenizer_state
from udever.model.weights import EIGHT_BIT_NAME, PACKED_TABLE_NAME
from udever.terminal import silent_transformers

_ST = "sentence_transformers.sentence_transformer.modules"


def save_weights(
    backbone: nn.Module, folder: Path, dtype: torch.dtype | None = None, *, table_bits: Bits | None = None
) -> None:
    """Write `config.json` and `model.safetensors` under transformers' own names.

    `dtype`: the precision of the file; the weights in memory are rounded to it, so that both are the same model.
    `table_bits` puts the table of tokens into eight or four bits in the file; once loaded it is floating point again.
    A model in eight bits is written as it is. Raises ModelError where a weight is too large for the precision, and for
    a table to pack that is not BLOOM's.
    """
    from safetensors.torch import save_file

    model: Any = backbone if isinstance(backbone, Bloom) else backbone.model
    if table_bits and (is_eight_bit(model) or not isinstance(model, Bloom)):
        raise ModelError("table_bits is only for BLOOM in floating point; leave table_bits out")
    if table_bits not in (None, *get_args(Bits)):
        raise ModelError(f"table_bits is {table_bits!r}; expected 8 or 4")
    if is_eight_bit(model):
        _save_eight_bits(model, folder, dtype)
        return
    own = next(model.parameters()).dtype
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if dtype not in (None, own):
        state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        large = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
        if large:
            raise ModelError(f"{large[0]} does not fit into {dtype}; save in bfloat16 or float32")
        model.load_state_dict(state)
    if isinstance(model, Bloom):
        if table_bits:
            state = pack_table(state, "word_embeddings.weight", table_bits)
            model.load_state_dict(unpack_tables(state))
        model.config.architectures = ["BloomModel"]
        save_file(state, folder / (PACKED_TABLE_NAME if table_bits else "model.safetensors"), metadata={"format": "pt"})
    elif isinstance(model, Decoder):
        model.config.architectures = [model.config.architecture]
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        with silent_transformers():
            model.save_pretrained(folder, state_dict=state)
    model.config.dtype = dtype or own
    model.config.save_pretrained(folder)


def _save_eight_bits(model: Any, folder: Path, dtype: torch.dtype | None) -> None:
    from safetensors.torch import save_file

    if dtype not in (None, torch.int8):
        raise ModelError(f"the model is in int8 and cannot be saved in {dtype}; load it in float32 for that")
    if isinstance(model, Bloom):
        model.config.architectures = ["BloomModel"]
    save_file(stored(model), folder / EIGHT_BIT_NAME, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    path = folder / "config.json"
    write_json(path, {**json.loads(path.read_text()), "dtype": "bfloat16", "quantization_config": QUANTISED})


ROLE_PROMPTS: dict[str, RoleName] = {
    "<udever:query>": "query",
    "<udever:document>": "document",
    "<udever:symmetric>": "symmetric",
}
"""What stands for a role where sentence-transformers hands a prompt to our module: it drops the prompt's name."""

Shared = tuple[Role, Mapping[RoleName, str]]
"""Markers that all roles share, and each role's prompt with the opening markers that it has alone in front."""


def shared_markers(contract: Contract, hf_tokenizer: Any) -> Shared | None:
    """The contract as one template and a prompt a role, which is all that other loaders know.

    None where roles differ in their closing markers, or where opening markers written as text give other tokens.
    """
    names: tuple[RoleName, ...] = ("query", "document", "symmetric")
    roles: dict[RoleName, Role] = {name: contract.role(name) for name in names}
    if len({(role.prefix_ids, role.suffix_ids) for role in roles.values()}) == 1:
        return contract.query, {name: role.prompt for name, role in roles.items()}
    shared = Role(suffix_ids=contract.query.suffix_ids)
    special = {i for i, token in hf_tokenizer.added_tokens_decoder.items() if token.special}
    if any(role.suffix_ids != shared.suffix_ids or not special.issuperset(role.prefix_ids) for role in roles.values()):
        return None
    ours = TextTokenizer(hf_tokenizer, contract)
    prompts: dict[RoleName, str] = {}
    for name, role in roles.items():
        prompts[name] = "".join(hf_tokenizer.convert_ids_to_tokens(list(role.prefix_ids))) + role.prompt
        texts = [*REFERENCE_TEXTS, " a"]
        for text, ids in zip(texts, ours.encode(texts, name).ids, strict=True):
            if [*hf_tokenizer.encode(prompts[name] + text, add_special_tokens=False), *shared.suffix_ids] != ids:
                return None
    return shared, prompts


def save_tokenizer(hf_tokenizer: Any, contract: Contract, shared: Shared | None, folder: Path) -> None:
    """Write the tokenizer so that any loader of `tokenizer.json` adds the markers that all roles share.

    transformers 5 ignores `add_eos_token` in saved settings; a post-processor inside tokenizer.json is
    what every loader obeys.
    """
    hf_tokenizer.save_pretrained(folder)
    head, vocabulary = tokenizer_state(hf_tokenizer)
    template = _template(shared[0], hf_tokenizer) if shared is not None else None
    head.update(truncation=None, padding=None, post_processor=template)
    text = f'{json.dumps(head, ensure_ascii=False)[:-1]}, "model": {vocabulary}}}'
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings_path = folder / "tokenizer_config.json"
    settings = json.loads(settings_path.read_text())
    settings.update(
        tokenizer_class="PreTrainedTokenizerFast", model_max_length=contract.max_length, padding_side="right"
    )
    for name in ("add_bos_token", "add_eos_token", *LOADED_FROM):
        settings.pop(name, None)
    if settings.get("pad_token") is None:
        settings["pad_token"] = settings.get("eos_token")
    write_json(settings_path, settings)


def _template(role: Role, hf_tokenizer: Any) -> dict[str, Any]:
    def pieces(ids: tuple[int, ...]) -> list[Any]:
        return [{"SpecialToken": {"id": hf_tokenizer.convert_ids_to_tokens(i), "type_id": 0}} for i in ids]

    names = {hf_tokenizer.convert_ids_to_tokens(i): i for i in (*role.prefix_ids, *role.suffix_ids)}
    single = [*pieces(role.prefix_ids), {"Sequence": {"id": "A", "type_id": 0}}, *pieces(role.suffix_ids)]
    special = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in names.items()}
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def is_plain(contract: Contract, shared: Shared | None, natural: str) -> bool:
    """Whether sentence-transformers' own modules can say it all; it has no default for a cut of dimensions.

    They run a model with its `natural` attention. Markers written as a prompt would be left out of a mean that leaves
    out prompts.
    """
    if shared is None or contract.attention != natural or contract.dimensions is not None:
        return False
    pools_all = contract.pooling == "last" or contract.pool_prompt
    return pools_all or not any(prompt and not contract.role(name).prompt for name, prompt in shared[1].items())


def save_sentence_transformers(
    contract: Contract, shared: Shared | None, hidden_size: int, folder: Path, *, plain: bool
) -> None:
    """Write the files sentence-transformers reads: its own modules where they can say it all (`plain`), else ours."""
    prompts: dict[str, str] = {**shared[1]} if shared is not None else {}
    default = "symmetric" if prompts.get("symmetric") else None
    if default is None:
        prompts.pop("symmetric", None)
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": prompts if plain else {role: prompt for prompt, role in ROLE_PROMPTS.items()},
            "default_prompt_name": default if plain else None,
            "similarity_fn_name": "cosine",
        },
    )
    if not plain:
        module = {"idx": 0, "name": "0", "path": "", "type": "udever.sentence_transformers.RoleEmbedder"}
        write_json(folder / "modules.json", [module])
        return
    modules = [("", f"{_ST}.Transformer"), ("1_Pooling", f"{_ST}.Pooling")]
    if contract.normalize:
        modules.append(("2_Normalize", f"{_ST}.Normalize"))
    write_json(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(modules)],
    )
    write_json(
        folder / "sentence_bert_config.json",
        {
            "max_seq_length": contract.max_length,
            "do_lower_case": False,
            # else it computes in the type of the file: in bfloat16 each library rounds in its own way
            "model_args": {"dtype": "float32"},
        },
    )
    (folder / "1_Pooling").mkdir()
    mode = {"last": "lasttoken", "mean": "mean_tokens", "weighted_mean": "weightedmean_tokens"}[contract.pooling]
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": hidden_size,
            **{
                f"pooling_mode_{name}": name == mode
                for name in ("cls_token", "mean_tokens", "max_tokens", "weightedmean_tokens", "lasttoken")
            },
            "include_prompt": contract.pool_prompt,
        },
    )
    if contract.normalize:
        (folder / "2_Normalize").mkdir()
        write_json(folder / "2_Normalize" / "config.json", {})


def open_to_umask(folder: Path) -> None:
    """Give every file the mode that a new file gets: safetensors writes files that the owner alone can read."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~mask)


CARD = """\
---
{header}
---
# {title}

An embedder made with udever from `{base}`.

| property | value |
|---|---|
| family | {family} |
| dimensions | {dimensions} |
| pooling | {pooling} |
| attention | {attention} |
| longest text | {max_length} tokens; what is longer is cut at the end, markers kept |
| unit vectors | {normalize} |
| fingerprint | `{fingerprint}` |

```python
from udever import Embedder

embedder = Embedder.load("path/to/this/folder")
queries = embedder.encode_query(["how to add two numbers"])
documents = embedder.encode_document(["def add(a, b): return a + b"])
print(embedder.similarity(queries, documents))
```
{sentence_transformers}{notes}"""

SENTENCE_TRANSFORMERS = """
sentence-transformers loads the folder too, in float32 unless `model_kwargs` names a `dtype`. Its vectors are those of
`Embedder.load("path/to/this/folder", dtype="float32")`:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder"{trust})
queries = model.encode_query(["how to add two numbers"])
documents = model.encode_document(["def add(a, b): return a + b"])
```
"""
"""The part of the card about a folder of whole weights."""
