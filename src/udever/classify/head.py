"""`Filter`: a linear head on embeddings, on disk as safetensors and JSON.

filter.json        what it is: labels, kind, thresholds, the embedder's fingerprint
head.safetensors   `weight` float32 [labels, dimensions], `bias` float32 [labels]; calibration is folded in
report.json, report.md   how good it is on examples it was not fitted on
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udever.classify.examples import Kind
from udever.errors import ContractError, DataError
from udever.nearest import path_suggestion
from udever.storage import atomic_folder

FORMAT = 1
SETTINGS, HEAD = "filter.json", "head.safetensors"


@dataclass(frozen=True)
class Filter:
    """Labels for embeddings of one embedder.

    `kind` "one": probabilities of a text sum to 1, and it has the likeliest label where that reaches its
    threshold. "several": each label has a probability of its own, and the text has all that reach theirs.
    `precision` is what the thresholds were chosen for, None for the plain decision.
    """

    labels: tuple[str, ...]
    kind: Kind
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    fingerprint: str
    model: str
    role: str = "symmetric"
    precision: float | None = None

    @property
    def dimensions(self) -> int:
        """Length of the embeddings it takes."""
        return self.weight.shape[1]

    def check(self, fingerprint: str) -> None:
        """Raise ContractError for an embedder other than the one it was fitted with."""
        if fingerprint != self.fingerprint:
            raise ContractError(
                f"the filter was fitted on embeddings with fingerprint {self.fingerprint} ({self.model}), the model "
                f"given has {fingerprint}; give that model, or fit again with this one (udever classify fit)"
            )

    def predict(self, embeddings: np.ndarray) -> NDArray[np.float32]:
        """Probabilities [texts, labels] of embeddings [texts, dimensions]; raises ContractError for others."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimensions:
            raise ContractError(f"embeddings have shape {embeddings.shape}; expected [texts, {self.dimensions}]")
        if not np.isfinite(embeddings).all():
            raise ContractError("some embeddings are not finite numbers; embed the texts again, in float32")
        scores = embeddings.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        return probabilities(scores, self.kind).astype(np.float32)

    def decide(self, predicted: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which labels a text has, [texts, labels], by probabilities from `predict`."""
        return decide(predicted, self.thresholds, self.kind)

    def names(self, decided: NDArray[np.bool_]) -> list[list[str]]:
        """The labels of each text by name, the rows of `decide` spelled out."""
        return [[self.labels[column] for column in np.flatnonzero(row)] for row in decided]

    @property
    def digest(self) -> str:
        """A name for this head: another one has another name."""
        told = json.dumps(self._settings(), sort_keys=True).encode()
        parts = (told, self.weight.tobytes(), self.bias.tobytes())
        return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """What a file of its labels says about itself."""
        return {"udever.filter": self.digest, "udever.labels": json.dumps(self.labels, ensure_ascii=False)}

    @property
    def made(self) -> np.dtype:
        """The type of `records`."""
        return np.dtype([("probabilities", "<f4", (len(self.labels),))])

    def records(self, embeddings: np.ndarray) -> np.ndarray:
        """Probabilities as a structured array, for a corpus job."""
        rows = np.empty(len(embeddings), self.made)
        rows["probabilities"] = self.predict(embeddings)
        return rows

    def show(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """The column `labels` (lists of names) of `records`."""
        names = self.names(self.decide(np.ascontiguousarray(rows["probabilities"])))
        return {"labels": pa.array(names, pa.list_(pa.string()))}

    def _settings(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "labels": list(self.labels),
            "kind": self.kind,
            "thresholds": [float(t) for t in self.thresholds],
            "precision": self.precision,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "role": self.role,
            "dimensions": self.dimensions,
        }

    def save(self, folder: str | Path, extra_files: dict[str, str] | None = None) -> None:
        """Write the folder whole or not at all; an earlier filter there is replaced.

        `extra_files` are texts by name. Raises OutputError where it holds something else.
        """
        from safetensors.numpy import save_file

        with atomic_folder(folder, "filter") as temporary:
            save_file({"weight": self.weight, "bias": self.bias}, temporary / HEAD)
            settings = json.dumps(self._settings(), indent=1, ensure_ascii=False)
            (temporary / SETTINGS).write_text(settings + "\n")
            for name, content in (extra_files or {}).items():
                (temporary / name).write_text(content)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder written by `save`. Raises DataError for what is missing, damaged or does not fit."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            otherwise = "give a folder written by udever classify fit"
            raise DataError(f"{folder} holds no {SETTINGS}; {path_suggestion(folder, otherwise)}")
        try:
            told = json.loads((folder / SETTINGS).read_text())
            tensors = load_file(folder / HEAD)
            version, dimensions = told.pop("format"), told.pop("dimensions")
            told["labels"], told["thresholds"] = tuple(told["labels"]), np.array(told["thresholds"], np.float32)
            loaded = cls(weight=tensors["weight"], bias=tensors["bias"], **told)
            num_labels = len(loaded.labels)
            fits = loaded.weight.shape == (num_labels, dimensions) and loaded.bias.shape == (num_labels,)
            fits = fits and loaded.thresholds.shape == (num_labels,) and loaded.kind in get_args(Kind)
            fits = fits and bool(np.isfinite(loaded.weight).all() and np.isfinite(loaded.bias).all())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise DataError(f"{folder} cannot be read ({error}); fit the filter again") from error
        if version != FORMAT or not fits:
            raise DataError(f"{folder}: {SETTINGS} and {HEAD} do not fit together; fit the filter again")
        return loaded


def probabilities(scores: np.ndarray, kind: Kind) -> np.ndarray:
    """Probabilities of scores [texts, labels]: over the labels of a text, or of each label alone."""
    if kind == "several":
        return 0.5 * (1 + np.tanh(0.5 * scores))  # the logistic function, without overflow
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def decide(predicted: np.ndarray, thresholds: np.ndarray, kind: Kind) -> NDArray[np.bool_]:
    """Which probabilities reach their thresholds; for the kind "one" only the likeliest label of a text can."""
    reached = predicted >= thresholds
    if kind == "one":
        likeliest = np.zeros_like(reached)
        likeliest[np.arange(len(predicted)), predicted.argmax(axis=1)] = True
        reached &= likeliest
    return reached
