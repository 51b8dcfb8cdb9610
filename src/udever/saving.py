"""From an embedder's parts to a model folder that `loading` and sentence-transformers read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from udever import loading
from udever.errors import ModelError
from udever.model import adapters, artefact
from udever.model import folder as written
from udever.model.backbone import natural_attention, width
from udever.model.configuration import CONTRACT_FILE
from udever.model.eight_bits import is_eight_bit
from udever.model.packed_table import Bits
from udever.model.tokens import tokenizer_digest

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


@dataclass(frozen=True)
class Result:
    """A score for the model card: what was searched, the metric as hubs write it (`mrr_at_10`), its value."""

    dataset: str
    metric: str
    value: float


@dataclass(frozen=True)
class Card:
    """What the model card says besides the contract: title, what the model was made from, Markdown, scores."""

    title: str
    base: str
    notes: str = ""
    results: Sequence["Result"] = ()

    def header(self, trained_on: Iterable[str]) -> str:
        """The YAML on top, which model hubs read; the results as their `model-index`, and what it was trained on."""
        from huggingface_hub import ModelCardData

        data = ModelCardData(
            library_name="sentence-transformers",
            pipeline_tag="sentence-similarity",
            tags=["embeddings", "udever"],
            model_name=self.title,
            eval_results=_eval_results(self.results) or None,
            trained_on=sorted(trained_on) or None,
        )
        return data.to_yaml()


def _eval_results(results: Sequence[Result]) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="retrieval",
            dataset_type="held-out",
            dataset_name=result.dataset,
            metric_type=result.metric,
            metric_value=round(result.value, 4),
        )
        for result in results
    ]


def add_to_card(path: Path, results: Sequence[Result], notes: str) -> None:
    """Put scores that came after the model was saved on top of its card, and Markdown at its end."""
    from huggingface_hub import ModelCard

    card: Any = ModelCard.load(path)
    card.data.eval_results = _eval_results(results)
    card.text += notes
    card.save(path)


def write(
    folder: Path,
    parts: loading.Loaded,
    card: Card,
    reference: Callable[[], tuple[np.ndarray, str]],
    *,
    merged: bool,
    dtype: torch.dtype | None = None,
    table_bits: Bits | None = None,
) -> str:
    """Write a model into an empty `folder`; return the digest of its weights as they were written.

    `merged`, `dtype` and `table_bits` as in `Embedder.save`. `reference` gives the reference vectors, once the
    weights in memory are those of the file, and the precision that they are computed in.
    """
    model: Any = parts.backbone
    saved_base = None
    shared = written.shared_markers(parts.contract, parts.tokenizer)
    eight_bits = is_eight_bit(model)
    if (eight_bits or table_bits is not None) and not merged:
        raise ModelError("a model in int8 has no adapter to save; save it with merged=True")
    # what other loaders know is floating point: eight bits go through our own module there
    ours_alone = eight_bits or table_bits is not None
    known = None if ours_alone else shared
    plain = written.is_plain(parts.contract, known, natural_attention(model.config))
    if merged:
        adapters.merge_lora(model)
        written.save_weights(model, folder, dtype, table_bits=table_bits)
        written.save_sentence_transformers(parts.contract, known, width(model), folder, plain=plain)
    else:
        assert parts.weights is not None, "an adapter is of a model that was loaded"
        saved_base = artefact.Base(name=card.base, weights=parts.weights)
        adapters.save_adapter(model, folder, card.base)
    written.save_tokenizer(parts.tokenizer, parts.contract, shared, folder)
    files, weights = loading.saved_parts(folder, None if merged else parts.weights)
    vectors, precision = reference()
    saved = artefact.Saved(
        contract=parts.contract,
        fingerprint=artefact.fingerprint(model.config, weights, tokenizer_digest(parts.tokenizer), parts.contract),
        reference=artefact.encode_vectors(vectors),
        files=files,
        base=saved_base,
        precision=precision,
    )
    (folder / CONTRACT_FILE).write_text(saved.model_dump_json(indent=2) + "\n")
    trust = "" if plain else ", trust_remote_code=True"
    text = written.CARD.format(
        header=card.header(parts.trained_on),
        title=card.title,
        base=parts.source or card.base,
        family=model.config.get_text_config().model_type,
        dimensions=parts.contract.dimensions or width(model),
        fingerprint=saved.fingerprint,
        notes=card.notes,
        sentence_transformers=written.SENTENCE_TRANSFORMERS.format(trust=trust) if merged and not ours_alone else "",
        **parts.contract.model_dump(include={"pooling", "attention", "max_length", "normalize"}),
    )
    (folder / "README.md").write_text(text)
    written.open_to_umask(folder)
    return weights
