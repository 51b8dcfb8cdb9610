"""`udever merge`: several finetuned models averaged into one; adapters are folded into their backbone first."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from udever.embedder import Embedder
from udever.errors import ModelError
from udever.loading import stored_precision
from udever.markdown import table
from udever.model.configuration import effective
from udever.model.merging import Method, blend
from udever.model.tokens import tokenizer_state
from udever.storage import check_replaceable


def merge_models(
    parts: Sequence[str], output: str | Path, *, method: Method = "linear", weights: Sequence[float] | None = None
) -> Embedder:
    """Average the models `parts` with `weights` (all the same where not given), write them to `output`, return them.

    "linear" is the weighted mean of every weight. "slerp" goes along the arc between two, tensor by tensor; a third is
    reached from where the first two met, so that with more than two their order counts. One part is written as it is,
    its adapter folded in. Computed in float32, two models in memory at a time, and written in the precision that all
    parts are stored in (float32 where they differ). Raises ModelError in one line where the models differ in
    architecture, configuration, tokenizer or contract.
    """
    weights = _check(parts, weights)
    check_replaceable(output, "model", parts)
    merged = Embedder.load(parts[0], dtype="float32", device="cpu")
    model: Any = merged.backbone
    fingerprints = [merged.fingerprint]
    total = weights[0]
    for name, weight in zip(parts[1:], weights[1:], strict=True):
        other = Embedder.load(name, dtype="float32", device="cpu")
        _check_same(merged, other)
        total += weight
        if weight:
            merged.trained_on |= other.trained_on
            blend(model.state_dict(), other.backbone.state_dict(), weight / total, method)  # pyright: ignore[reportAttributeAccessIssue]
        fingerprints.append(other.fingerprint)
    merged.weights_changed()
    notes = _notes(parts, weights, fingerprints, method)
    stored = {stored_precision(part) for part in parts}
    dtype = stored.pop() if len(stored) == 1 else None
    merged.save(output, notes=notes, base=" + ".join(Path(part).name for part in parts), dtype=dtype)
    return merged


def _check(parts: Sequence[str], weights: Sequence[float] | None) -> list[float]:
    if not parts:
        raise ModelError("no model given; name at least one")
    if weights is None:
        return [1.0] * len(parts)
    if len(weights) != len(parts):
        raise ModelError(f"{len(weights)} weights for {len(parts)} models; give one for each")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not weights[0]:
        raise ModelError(f"weights are {list(weights)}; expected numbers of at least 0, the first above 0")
    return list(weights)


def _check_same(left: Embedder, right: Embedder) -> None:
    """Raise ModelError naming the first thing in which the two differ."""
    families = [embedder.backbone.config.get_text_config().model_type for embedder in (left, right)]
    if families[0] != families[1]:
        raise ModelError(f"{left.name} is {families[0]}, {right.name} {families[1]}; merge models of one architecture")
    heads, vocabularies = zip(*(tokenizer_state(embedder.tokenizer.hf) for embedder in (left, right)), strict=True)
    parts = ["model"] if vocabularies[0] != vocabularies[1] else []
    parts += [part for part in ("added_tokens", "normalizer", "pre_tokenizer") if heads[0][part] != heads[1][part]]
    if parts:
        raise ModelError(f"{left.name} and {right.name} differ in the tokenizer ({parts[0]}); merge models of one")
    compared = {
        "configuration": (_settings(left), _settings(right)),
        "contract": (left.contract.model_dump(), right.contract.model_dump()),
    }
    for what, (mine, theirs) in compared.items():
        for entry in sorted({*mine, *theirs}):
            one, other = mine.get(entry), theirs.get(entry)
            if one != other:
                raise ModelError(
                    f"{left.name} and {right.name} differ in {entry}: {one} and {other}; merge models of one {what}"
                )


def _settings(embedder: Embedder) -> dict[str, Any]:
    """What a model's configuration says of its forward pass, of which dropout is no part outside training."""
    return {entry: value for entry, value in effective(embedder.backbone.config).items() if "drop" not in entry}


def _notes(parts: Sequence[str], weights: Sequence[float], fingerprints: Sequence[str], method: Method) -> str:
    rows = [
        [f"`{part}`", f"{weight / sum(weights):.4g}", f"`{fingerprint}`"]
        for part, weight, fingerprint in zip(parts, weights, fingerprints, strict=True)
    ]
    return f"""
## Merged

The weights of {len(parts)} models, averaged ({method}):

{table(["model", "weight", "fingerprint"], rows)}"""
