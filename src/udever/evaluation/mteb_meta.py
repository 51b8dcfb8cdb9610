"""What mteb wants to know of a model, its revision, and what a run was made with."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from udever.errors import needs

_PACKAGES = ("udever", "mteb", "torch", "transformers", "sentence-transformers", "tokenizers", "scikit-learn", "numpy")


def require_mteb() -> None:
    """Raise MissingExtra where mteb is missing."""
    with needs("mteb", "eval", "evaluation"):
        import mteb  # noqa: F401


def revision_of(fingerprint: str, dtype: str, options: Mapping[str, Any]) -> str:
    """One name for the vectors a run gives: 32 hex digits over the fingerprint, the dtype and the options."""
    parts = (fingerprint, dtype, json.dumps(options, sort_keys=True, ensure_ascii=False))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def model_meta(
    *,
    name: str,
    revision: str,
    framework: str,
    num_parameters: int | None = None,
    dimensions: int | None = None,
    max_tokens: int | None = None,
    use_instructions: bool = False,
) -> Any:
    """mteb's ModelMeta; what nobody knows is None. A name without an organisation, as of a folder, gets "local/"."""
    require_mteb()
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    return ModelMeta(
        loader=None,
        name=full_name(name),
        revision=revision,
        release_date=None,
        languages=None,
        n_parameters=num_parameters,
        memory_usage_mb=None,
        max_tokens=max_tokens,
        embed_dim=dimensions,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=[framework],  # pyright: ignore[reportArgumentType]
        similarity_fn_name=ScoringFunction.COSINE,
        use_instructions=use_instructions,
        training_datasets=None,
    )


def full_name(name: str) -> str:
    """A name as mteb wants it, "organisation/model"."""
    if name.count("/") == 1 and not name.startswith(("/", ".")):
        return name
    return f"local/{name.rstrip('/').rpartition('/')[2]}"


def environment() -> dict[str, str]:
    """Versions of what decides a score, and the kind of machine."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
