"""What an index says about itself: model, vector space, what it covers, how it is searched."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from udever.errors import ContractError, DataError
from udever.search.fusion import WORDS_WEIGHT

if TYPE_CHECKING:
    from udever.embedder import Embedder

FORMAT = 2
"""Version of the layout in the store; another cannot be read."""

CUT = 2
"""Version of the rules by which files are cut; files cut by other rules are cut again."""


class Tuning(BaseModel):
    """How the nearest vectors are found.

    `kind`: "exact", or a type of index that the store knows; `dimensions`: how many of the first ones of each
    vector the index sees; `effort`: partitions looked at (`ivf_*`) or the length of the candidate list (`hnsw_*`);
    `refine`: candidates for each hit wanted, which are scored again by the whole vectors. The rest is what was
    measured when it was chosen: `num_chunks` there were, `recall` (None: not measured) and where that
    of other queries is above nine times out of ten, `latency_ms` (median) and `size_bytes` of the index.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "exact"
    dimensions: int
    effort: int = 0
    refine: int = 1
    num_chunks: int = 0
    recall: float | None = None
    recall_low: float | None = None
    latency_ms: float | None = None
    size_bytes: int | None = None


class Manifest(BaseModel):
    """The one record of an index that describes it.

    `precision` is the type that the model computed in; it is searched with the same.
    `base` is the folder that paths in the index start from, seen from the index's own folder where that lies
    inside it, else absolute; `roots` are the files and folders below it that are covered. `words_weight` is what words
    weigh in a search by both (`fusion.fuse`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = FORMAT
    cut: int = CUT
    model: str
    fingerprint: str
    precision: str
    dimensions: int
    base: str
    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    language: str | None = None
    tuning: Tuning | None = None
    words_weight: float = WORDS_WEIGHT


def parse_manifest(text: str, uri: str) -> Manifest:
    """The manifest in `text`; DataError where it is damaged or of another version."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{uri}: the index's manifest cannot be read ({where}: {first['msg']}); "
            "make it again with udever index --rebuild"
        ) from error


def saved_fingerprint(model: str) -> str | None:
    """The fingerprint that a model folder was saved with, without loading it; None where none is written down."""
    try:
        return str(json.loads((Path(model) / "udever.json").read_text("utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def base_of(manifest: Manifest, folder: Path | None) -> Path:
    """The folder that the index's paths start from; `folder` is the one that the index lies in, if it lies in one."""
    return (folder.resolve() / manifest.base).resolve() if folder is not None else Path(manifest.base)


def other_model(uri: str, manifest: Manifest, model: str, fingerprint: str) -> ContractError:
    """What to say where vectors of two models would meet."""
    return ContractError(
        f"{uri} holds vectors of the model {manifest.model} (fingerprint {manifest.fingerprint}), but {model} has "
        f"the fingerprint {fingerprint}; use the model it was made with, or embed all of it again with "
        "udever index --rebuild -m MODEL"
    )


def check_embedder(uri: str, manifest: Manifest, name: str, embedder: "Embedder") -> None:
    """Raise ContractError unless the index holds vectors of this very model, computed in its precision."""
    precisions = {embedder.precision, manifest.precision}
    eight_bits = len(precisions) == 2 and "int8" in precisions  # another fingerprint for the same model too
    if embedder.fingerprint != manifest.fingerprint and not eight_bits:
        raise other_model(uri, manifest, name, embedder.fingerprint)
    if len(precisions) == 2:
        raise ContractError(
            f"{uri} holds vectors computed in {manifest.precision}, {name} is loaded in {embedder.precision}; load it "
            f"with --dtype {manifest.precision}, or embed all of it again with udever index --rebuild"
        )
