"""The embedder: text -> prompt -> tokens -> packed batch -> hidden states -> pooled -> unit vector.

Training, evaluation, corpus jobs and search all call `Embedder`; `embed_tokens` is the one place where
tokens become vectors, with gradients or without.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from torch import Tensor

from udever.bundled import bundled_folder
from udever.errors import ContractError, ModelError, TextError
from udever.model import adapters, artefact, export
from udever.model.attention import attention_over
from udever.model.backbone import (
    Backbone,
    load_backbone,
    natural_attention,
    pick_dtype,
    read_config,
    vocab_size,
    weight_files,
    width,
)
from udever.model.contract import Contract, RoleName
from udever.model.lengths import position_limit, separate
from udever.model.packing import pack, plan_batches
from udever.model.pooling import pool, unit, unusable
from udever.model.published import RECIPES, contract_of
from udever.model.tokens import TextTokenizer, Tokenized, Truncation, load_hf_tokenizer
from udever.progress import progress_bar
from udever.storage import atomic_folder

Output = Literal["numpy", "torch"]
Texts = str | Sequence[str]

_BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*/config.json", "README.md"]


class TruncationWarning(UserWarning):
    """Some texts were longer than the model's limit and were cut."""


@dataclass(frozen=True)
class _Options:
    """The keywords of `Embedder.encode`; an unknown one is a TypeError."""

    prompt: str | None = None
    instruction: str | None = None
    dimensions: int | None = None
    batch_tokens: int | None = None
    normalize: bool | None = None
    show_progress: bool = False


class Embedder:
    """A model, its tokenizer and its contract.

    Not made directly: see `Embedder.load`. `last_truncation` tells, item by item, what the last call cut.
    """

    def __init__(
        self,
        backbone: Backbone,
        hf_tokenizer: Any,
        contract: Contract,
        *,
        name: str,
        weights_digest: str | None,
    ) -> None:
        self.backbone = backbone
        self.contract = contract
        self.tokenizer = TextTokenizer(hf_tokenizer, contract)
        self.name = name
        self.last_truncation: Truncation | None = None
        self._weights_digest = weights_digest
        self._fingerprint: str | None = None

    @classmethod
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "auto",
        revision: str | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        **contract_changes: Any,
    ) -> Self:
        """Load a folder, a hub model or "seedling", the bundled one, and test that it does what its contract says.

        A folder this project saved brings its contract; so does a sentence-transformers folder; published
        checkpoints without either are known by name (`known_as="izhx/udever-bloom-560m"` for a copy in a
        folder); any other decoder gets last-token pooling at its end-of-text token, causal, 512 tokens.
        `contract_changes` replace single entries: `pooling=`, `attention=`, `max_length=`, `normalize=`,
        `dimensions=`, `instruction=`.

        Raises ModelError where the folder or model cannot be used, ContractError where it does not give
        the vectors it should.
        """
        known_as = contract_changes.pop("known_as", str(name_or_folder))
        folder = resolve(str(name_or_folder), revision, allow_pickle=allow_pickle)
        where = _pick_device(device)
        loaded = _load_folder(
            folder,
            known_as,
            contract_changes,
            dtype=pick_dtype(dtype, where),
            device=where,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
        )
        backbone, tokenizer, contract, saved, digest = loaded
        embedder = cls(backbone, tokenizer, contract, name=str(name_or_folder), weights_digest=digest)
        if saved is not None and contract == saved.contract:
            embedder._fingerprint = saved.fingerprint
            _check_reference(embedder, saved)
        return embedder

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        return self.contract.dimensions or width(self.backbone)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def fingerprint(self) -> str:
        """One name for this vector space: a hash of weights, tokenizer and contract."""
        if self._fingerprint is None:
            if self._weights_digest is None:
                self._weights_digest = artefact.digest_tensors(self.backbone.state_dict())  # pyright: ignore[reportAttributeAccessIssue]
            self._fingerprint = artefact.fingerprint(self._weights_digest, self.tokenizer.hf, self.contract)
        return self._fingerprint

    def weights_changed(self) -> None:
        """Say that the weights are no longer those that were loaded: the fingerprint is taken anew."""
        self._weights_digest = self._fingerprint = None

    @overload
    def encode_query(self, texts: Texts, *, output: Literal["numpy"] = ..., **options: Any) -> np.ndarray: ...
    @overload
    def encode_query(self, texts: Texts, *, output: Literal["torch"], **options: Any) -> Tensor: ...
    def encode_query(self, texts: Texts, *, output: Output = "numpy", **options: Any) -> np.ndarray | Tensor:
        """Vectors of queries; `options` as in `encode`. `instruction=` tells the model what to look for."""
        return self._encode(texts, "query", output, _Options(**options))

    @overload
    def encode_document(self, texts: Texts, *, output: Literal["numpy"] = ..., **options: Any) -> np.ndarray: ...
    @overload
    def encode_document(self, texts: Texts, *, output: Literal["torch"], **options: Any) -> Tensor: ...
    def encode_document(self, texts: Texts, *, output: Output = "numpy", **options: Any) -> np.ndarray | Tensor:
        """Vectors of documents; `options` as in `encode`."""
        return self._encode(texts, "document", output, _Options(**options))

    @overload
    def encode(self, texts: Texts, *, output: Literal["numpy"] = ..., **options: Any) -> np.ndarray: ...
    @overload
    def encode(self, texts: Texts, *, output: Literal["torch"], **options: Any) -> Tensor: ...
    def encode(self, texts: Texts, *, output: Output = "numpy", **options: Any) -> np.ndarray | Tensor:
        """Vectors for symmetric tasks, where both sides are alike: float32 [texts, dimensions], in input order.

        One string gives one vector. Options: `prompt` replaces the role's prompt, `instruction` is written
        into the contract's template as the prompt; `dimensions` keeps the first ones and scales to length
        1 again; `batch_tokens` is the most tokens in one forward pass; `normalize=False` leaves the length;
        `show_progress`. Raises TextError naming the row for what is no text or gives no finite vector.
        Warns once (TruncationWarning) where texts were cut; `last_truncation` says which.
        """
        return self._encode(texts, "symmetric", output, _Options(**options))

    def similarity(self, a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Cosine of every row of `a` with every row of `b`: [a, b], of the kind of `a`."""
        left, right = (unit(torch.atleast_2d(torch.as_tensor(x)).float()) for x in (a, b))
        product = left @ right.to(left.device).T
        return product if isinstance(a, Tensor) else product.cpu().numpy()

    def tokenize(self, texts: Sequence[str], role: RoleName, prompt: str | None = None) -> Tokenized:
        """The tokens the backbone sees for each text, markers included."""
        return self.tokenizer.encode(texts, role, prompt)

    def embed_tokens(self, ids: Sequence[Sequence[int]], skip: int | Sequence[int] = 0) -> Tensor:
        """Pooled vectors of token sequences, in the order given: float32 (or float64) [texts, hidden], not scaled.

        One packed batch (more where texts of such lengths may not share one: LongRoPE), with gradients wherever the
        caller has them on. `skip` is how many tokens of each
        text are a prompt that the means leave out, one number or one a text.
        """
        passes = separate([len(sequence) for sequence in ids], self.backbone.config)
        skips = [skip] * len(ids) if isinstance(skip, int) else list(skip)
        parts = [self._embed_pass([ids[i] for i in chosen], [skips[i] for i in chosen]) for chosen in passes]
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor([i for chosen in passes for i in chosen], device=self.device)
        return torch.cat(parts)[order.argsort()]

    def _embed_pass(self, ids: Sequence[Sequence[int]], skips: list[int]) -> Tensor:
        packed = pack(ids, self.device)
        attention = attention_over(packed, causal=self.contract.attention == "causal")
        if self.contract.pooling == "last":
            return _precise(self.backbone(attention, last_only=True))
        start = torch.tensor(skips, device=self.device) if any(skips) else None
        return _precise(pool(self.backbone(attention), packed, self.contract.pooling, start))

    def finish(self, pooled: Tensor, dimensions: int | None = None, *, normalize: bool | None = None) -> Tensor:
        """What `encode` makes of pooled vectors [texts, hidden]: cut to `dimensions`, then scaled to length 1.

        Left out, `dimensions` and `normalize` are the contract's. Raises TextError as `check_dimensions`.
        """
        size = self.check_dimensions(dimensions)
        scale = self.contract.normalize if normalize is None else normalize
        return unit(pooled, size) if scale else pooled[:, :size]

    @property
    def precision(self) -> str:
        """The type that the model computes in: `float32`, `bfloat16`."""
        model: Any = self.backbone
        return str(next(model.parameters()).dtype).removeprefix("torch.")

    def use_contract(self, contract: Contract) -> None:
        """Replace the contract; the attention kind must stay, since the backbone was tested for it."""
        assert contract.attention == self.contract.attention, "the attention kind is chosen when loading"
        self.contract = contract
        self.tokenizer = TextTokenizer(self.tokenizer.hf, contract)
        self._fingerprint = None

    def save(
        self,
        folder: str | Path,
        *,
        merged: bool = True,
        notes: str = "",
        base: str | None = None,
        extra_files: Mapping[str, str] | None = None,
    ) -> None:
        """Write a folder that `Embedder.load` and sentence-transformers read; replace a model that is there.

        `merged` folds LoRA into the weights and writes all of them; otherwise only what training moved is
        written and `base` names the backbone it belongs to. `notes` is Markdown put into the model card,
        `extra_files` are texts by file name. Raises OutputError where the folder holds something else.
        """
        with atomic_folder(folder, "model") as temporary:
            self._write(temporary, Path(folder).name, merged=merged, notes=notes, base=base or self.name)
            for name, content in (extra_files or {}).items():
                (temporary / name).write_text(content)

    def _write(self, folder: Path, title: str, *, merged: bool, notes: str, base: str) -> None:
        model: Any = self.backbone
        saved_base = None
        if merged:
            adapters.merge_lora(model)
            export.save_weights(model, folder)
            export.save_sentence_transformers(self.contract, width(model), folder)
        else:
            saved_base = artefact.Base(name=base, fingerprint=Embedder.load(base, dtype="float32").fingerprint)
            adapters.save_adapter(model, folder, base)
        export.save_tokenizer(self.tokenizer.hf, self.contract, folder)
        reference = artefact.encode_vectors(_reference_vectors(self))
        saved = artefact.Saved(
            contract=self.contract, fingerprint=self.fingerprint, reference=reference, base=saved_base
        )
        (folder / artefact.CONTRACT_FILE).write_text(saved.model_dump_json(indent=2) + "\n")
        card = export.CARD.format(
            title=title,
            base=base,
            family=model.config.get_text_config().model_type,
            dimensions=self.num_dimensions,
            fingerprint=self.fingerprint,
            notes=notes,
            **self.contract.model_dump(include={"pooling", "attention", "max_length", "normalize"}),
        )
        (folder / "README.md").write_text(card)

    def _encode(self, texts: Texts, role: RoleName, output: Output, options: "_Options") -> np.ndarray | Tensor:
        if output not in ("numpy", "torch"):
            raise TextError(f"output is {output!r}; expected 'numpy' or 'torch'")
        one = isinstance(texts, str)
        self.check_dimensions(options.dimensions)
        tokenized = self.tokenize([texts] if one else list(texts), role, self._prompt(options))
        self._report_truncation(tokenized.truncation)
        vectors = self._run(tokenized, options.batch_tokens, show_progress=options.show_progress)
        vectors = self.finish(vectors, options.dimensions, normalize=options.normalize)
        vectors = vectors[0] if one else vectors
        return vectors if output == "torch" else vectors.cpu().numpy()

    @torch.inference_mode()
    def _run(self, tokenized: Tokenized, batch_tokens: int | None, *, show_progress: bool) -> Tensor:
        """Batches by length, vectors back in input order, each of them checked."""
        ids = tokenized.ids
        self.check_tokens(ids)
        out = torch.empty(len(ids), width(self.backbone), device=self.device)
        budget = self.token_budget(batch_tokens)
        batches = plan_batches([len(sequence) for sequence in ids], budget)
        with progress_bar("embedding", len(ids), enabled=show_progress) as advance:
            for batch in batches:
                out[batch] = self.embed_tokens([ids[i] for i in batch], tokenized.skip)
                advance(len(batch))
        bad = unusable(out)
        if bad:
            raise TextError(
                f"row {bad[0]} ({len(bad)} in all) gives a vector that is not finite or has no length; "
                f"load the model with dtype='float32', or check its weights"
            )
        return out

    def _prompt(self, options: "_Options") -> str | None:
        if options.instruction is None:
            return options.prompt
        if options.prompt is not None:
            raise TextError("both prompt and instruction were given; give one of them")
        return self.instructed(options.instruction)

    def instructed(self, instruction: str) -> str:
        """The prompt that tells the model `instruction`, by the contract's template."""
        return self.contract.instruction.replace("{instruction}", instruction)

    def check_tokens(self, ids: Sequence[Sequence[int]]) -> None:
        """Raise TextError, naming the row, for a token the model has no embedding for. No sequence is empty."""
        rows = vocab_size(self.backbone.config)
        for row, sequence in enumerate(ids):
            if max(sequence) >= rows or min(sequence) < 0:
                wrong = next(token for token in sequence if not 0 <= token < rows)
                raise TextError(f"row {row} has token {wrong}, the model {rows}: not its tokenizer")

    def token_budget(self, batch_tokens: int | None = None) -> int:
        """Most tokens in one forward pass: `batch_tokens`, or where it is None what suits the device."""
        if batch_tokens is not None and batch_tokens < 1:
            raise TextError(f"batch_tokens is {batch_tokens}; expected at least 1")
        return batch_tokens or _BATCH_TOKENS.get(self.device.type, _BATCH_TOKENS["cpu"])

    def check_dimensions(self, dimensions: int | None) -> int | None:
        """`dimensions`, or the contract's where it is None. Raises TextError where the model has not as many."""
        size = width(self.backbone)
        if dimensions is None:
            return self.contract.dimensions
        if not 1 <= dimensions <= size:
            raise TextError(f"dimensions is {dimensions}; expected 1 to {size}, the model's own")
        return dimensions

    def _report_truncation(self, truncation: Truncation) -> None:
        self.last_truncation = truncation
        cut = int(truncation.truncated.sum())
        if cut:
            warnings.warn(
                f"{cut} of {len(truncation.truncated)} texts were longer than {self.contract.max_length} tokens and "
                f"were cut (longest {int(truncation.num_tokens.max())}); see last_truncation, or raise max_length",
                TruncationWarning,
                stacklevel=4,
            )


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _pick_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("device is 'cuda' and this torch sees no CUDA device; use device='cpu'")
    return chosen


def resolve(name: str, revision: str | None = None, *, allow_pickle: bool = False) -> Path:
    """The folder of a model: a local one as it is, a bundled one where it lies, a hub name's after downloading.

    Only what is needed is downloaded. Raises ModelError for what is none of these.
    """
    if Path(name).is_dir():
        return Path(name)
    bundled = bundled_folder(name)
    if bundled is not None:
        return bundled
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise ModelError(f"{name} is not a folder; expected a model folder or a hub name such as org/model")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*_HUB_FILES, "*.bin"] if allow_pickle else _HUB_FILES
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[0]
        raise ModelError(f"{name} is no local folder and cannot be fetched from the hub: {reason}") from error


def _load_folder(
    folder: Path, known_as: str, changes: dict[str, Any], *, trust_remote_code: bool, **how: Any
) -> tuple[Backbone, Any, Contract, artefact.Saved | None, str]:
    """Backbone, tokenizer, contract, what was saved, and a digest of the weights on disk."""
    saved = artefact.read_saved(folder)
    sentence_transformers = None if saved else artefact.read_sentence_transformers(folder)
    weights = sentence_transformers.weights if sentence_transformers else folder
    if saved is None or saved.base is None:
        read_config(weights, trust_remote_code=trust_remote_code)  # a broken one is named before the tokenizer trips
    tokenizer = load_hf_tokenizer(weights, trust_remote_code=trust_remote_code)
    base = folder
    if saved is not None:
        contract = saved.contract
        if saved.base is not None:
            base = resolve(saved.base.name, None, allow_pickle=how["allow_pickle"])
    elif known_as in RECIPES:
        contract = contract_of(known_as, tokenizer)
    elif sentence_transformers is not None:
        config = read_config(weights, trust_remote_code=trust_remote_code)
        causal = natural_attention(config) == "causal"
        contract = sentence_transformers.contract(tokenizer, config, causal=causal)
    else:
        contract = artefact.plain_contract(tokenizer, read_config(folder, trust_remote_code=trust_remote_code))
    contract = _change(contract, changes)
    source = base if saved is not None and saved.base is not None else weights
    _check_fits(contract, read_config(source, trust_remote_code=trust_remote_code))
    backbone = load_backbone(source, attention=contract.attention, trust_remote_code=trust_remote_code, **how)
    if contract.dimensions is not None and contract.dimensions > width(backbone):
        raise ModelError(f"dimensions is {contract.dimensions}; expected at most {width(backbone)}")
    files = weight_files(source)
    if saved is not None and saved.base is not None:
        adapters.load_adapter(backbone, folder)  # pyright: ignore[reportArgumentType]
        files = [*files, *sorted(folder.glob("*.safetensors"))]
    return backbone, tokenizer, contract, saved, artefact.digest_files(files)


def _change(contract: Contract, changes: dict[str, Any]) -> Contract:
    """`contract` with single entries replaced; ModelError for an entry or value that does not exist."""
    allowed = ("pooling", "attention", "max_length", "normalize", "dimensions", "instruction")
    unknown = [name for name in changes if name not in allowed]
    if unknown:
        raise ModelError(f"Embedder.load has no option {unknown[0]!r}; it can change {', '.join(allowed)}")
    try:
        return Contract.model_validate({**contract.model_dump(), **changes})
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ModelError(f"{lines[1] if len(lines) > 1 else ''}: {lines[-2] if len(lines) > 2 else error}") from error


def _check_fits(contract: Contract, config: Any) -> None:
    """Raise ModelError where the contract asks for positions or tokens the model does not have."""
    limit = position_limit(config)
    if limit is not None and contract.max_length > limit:
        raise ModelError(f"max_length is {contract.max_length}; expected at most {limit}, the model's positions")
    highest = max(contract.marker_ids, default=0)
    if highest >= vocab_size(config):
        raise ModelError(f"marker {highest} is beyond the model's {vocab_size(config)} tokens; check the recipe")


def _reference_vectors(embedder: Embedder) -> np.ndarray:
    """Queries, then documents, of the reference texts; full width, unit length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        texts = list(artefact.REFERENCE_TEXTS)
        options = {"normalize": True, "dimensions": width(embedder.backbone)}
        return np.concatenate([embedder.encode_query(texts, **options), embedder.encode_document(texts, **options)])


def _check_reference(embedder: Embedder, saved: artefact.Saved) -> None:
    """Raise ContractError unless the model gives the vectors it gave when it was saved."""
    expected = artefact.decode_vectors(saved.reference, 2 * len(artefact.REFERENCE_TEXTS))
    actual = _reference_vectors(embedder)
    if actual.shape != expected.shape:
        raise ContractError(
            f"{embedder.name}: vectors have {actual.shape[1]} dimensions, saved were {expected.shape[1]}"
        )
    cosine = float((actual * expected).sum(1).min())
    half = next(embedder.backbone.parameters()).dtype in (torch.bfloat16, torch.float16)  # pyright: ignore[reportAttributeAccessIssue]
    if not cosine >= (0.98 if half else 0.9999):
        raise ContractError(
            f"{embedder.name}: the reference vectors saved with the model do not come out again "
            f"(cosine {cosine:.4f}); weights, tokenizer or contract were changed after saving"
        )
    embedder.last_truncation = None
