"""Names that hands know from sentence-transformers and that are others here: what to write instead."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from udever.nearest import suggestion

F = TypeVar("F", bound=Callable[..., Any])

LOAD_IT = "Embedder(...) cannot be called directly: write Embedder.load(name, ...)"

_DTYPE = "write dtype='float32' or dtype='bfloat16'"
_HUB = "set the environment variable HF_HOME, HF_TOKEN or HF_HUB_OFFLINE instead"
LOAD = {
    "truncate_dim": "write dimensions=...",
    "max_seq_length": "write max_length=...",
    "normalize_embeddings": "write normalize=...",
    "model_kwargs": _DTYPE,
    "torch_dtype": _DTYPE,
    "prompts": "encode takes prompt=... or instruction=...",
    "default_prompt_name": "encode takes prompt_name=...",
    "cache_folder": _HUB,
    "token": _HUB,
    "local_files_only": _HUB,
    "backend": "there is one backend, torch",
    "model_name_or_path": "give the name first, without a keyword",
}

ENCODE = {
    "sentences": "give the texts first, without a keyword",
    "inputs": "give the texts first, without a keyword",
    "dimensions": "write truncate_dim=...",
    "output_value": "it gives one vector for each text",
    "precision": "vectors are float32; Embedder.load(name, dtype=...) says what the model computes in",
    "device": "it is chosen in Embedder.load(name, device=...)",
    "max_length": "it is chosen in Embedder.load(name, max_length=...)",
    "pool": "udever embed spreads a corpus over processes",
    "chunk_size": "batch_size and batch_tokens bound one forward pass",
}
ENCODE_SIDE = {
    **ENCODE,
    "prompt_name": "this method sets it: write encode(texts, prompt_name=...), or prompt='...' for other words",
}

_DIMENSIONS = "write .dimensions"
_LOADED = "it is chosen in Embedder.load(name, device=..., dtype=...)"
_ATTRIBUTES = {
    "max_seq_length": "write .max_length",
    "get_max_seq_length": "write .max_length",
    "num_dimensions": _DIMENSIONS,
    "get_sentence_embedding_dimension": _DIMENSIONS,
    "get_embedding_dimension": _DIMENSIONS,
    "truncate_dim": _DIMENSIONS,
    "save_pretrained": "write .save(folder)",
    "fit": "udever.train(recipe) trains, udever train from the command line",
    "prompts": "they are .contract.query.prompt and .contract.document.prompt",
    "similarity_pairwise": "for vectors of length 1 it is (a * b).sum(1)",
    "start_multi_process_pool": "udever embed spreads a corpus over processes",
    "encode_multi_process": "udever embed spreads a corpus over processes",
    "to": _LOADED,
    "cuda": _LOADED,
    "cpu": _LOADED,
    "half": _LOADED,
    "bfloat16": _LOADED,
    "float": _LOADED,
    "eval": "it is in that mode",
}
SET_AT_LOADING = {
    "max_seq_length": "write Embedder.load(name, max_length=...)",
    "max_length": "write Embedder.load(name, max_length=...)",
    "truncate_dim": "write Embedder.load(name, dimensions=...)",
    "dimensions": "write Embedder.load(name, dimensions=...)",
    "prompts": "encode takes prompt=... or instruction=...",
    "default_prompt_name": "encode takes prompt_name=...",
    "device": "write Embedder.load(name, device=...)",
    "dtype": "write Embedder.load(name, dtype=...)",
}


def attribute(name: str, known: Iterable[str]) -> str:
    """What to write instead of an attribute that an embedder does not have."""
    public = [other for other in known if not other.startswith("_")]
    return _ATTRIBUTES.get(name) or suggestion(name, public, "there are")


def as_tensor(convert_to_numpy: bool, convert_to_tensor: bool) -> bool:
    """Whether a tensor is wanted, which goes first. Raises TypeError for neither: over there a list of tensors."""
    if not (convert_to_numpy or convert_to_tensor):
        raise TypeError(
            "convert_to_numpy is False; expected True for an array, or write convert_to_tensor=True for a tensor"
        )
    return convert_to_tensor


def told(answers: Mapping[str, str], otherwise: str | None = None) -> Callable[[F], F]:
    """Let a function answer a keyword it does not have with the right one, as TypeError.

    `answers` says what to write for names of other libraries; for any other name it is the nearest of the function's
    own, or `otherwise` where that is given. The signature stays the function's.
    """

    def decorate(function: F) -> F:
        parameters = signature(function).parameters.values()
        own = [p.name for p in parameters if p.name not in ("self", "cls")]
        taken = frozenset(own)
        shown = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            for name in keywords:
                if name not in taken:
                    answer = answers.get(name) or otherwise or suggestion(name, own)
                    raise TypeError(f"{shown} has no option {name!r}; {answer}")
            return function(*args, **keywords)

        return cast(F, call)

    return decorate
