"""The embedder: text -> prompt -> tokens -> packed batch -> hidden states -> pooled -> unit vector.

Training, evaluation, corpus jobs and search all call `Embedder`; `embed_tokens` is the one place where
tokens become vectors, with gradients or without.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, Unpack, get_args, overload

import numpy as np
import torch
from torch import Tensor

from udever import habits, hub, loading, saving
from udever.allocator import keep_temporaries
from udever.errors import TextError
from udever.loading import Loaded, pick_how
from udever.model import artefact, quantising, smoothing
from udever.model.attention import attention_over
from udever.model.backbone import AttentionKind, pick_dtype, vocab_size, width
from udever.model.configuration import is_quantised
from udever.model.contract import Contract, RoleName
from udever.model.decoders import PaddedModel
from udever.model.lengths import looks_at_longest, separate
from udever.model.packing import (
    Pooling,
    even_budget,
    pack,
    plan_batches,
    pool,
    shared_front,
    side_by_side,
    unit,
    unusable,
)
from udever.model.similarity import cosines
from udever.model.tokens import (
    TextTokenizer,
    Tokenized,
    Truncation,
    check_not_empty,
    listed,
    tokenizer_digest,
)
from udever.model.weights import digest_tensors
from udever.nearest import suggestion
from udever.options import Asked, EncodeOptions, SymmetricOptions
from udever.progress import progress_bar
from udever.storage import atomic_folder

Texts = str | Iterable[str]
"""A text, or texts in an order: a list, tuple or generator, an array or column of numpy, pandas, polars or pyarrow."""

_BATCH_TOKENS = {"cpu": 2048, "cuda": 32768}


class TruncationWarning(UserWarning):
    """Some texts were longer than the model's limit and were cut."""


class Embedder:
    """A model, its tokenizer and its contract.

    Not made directly: see `Embedder.load`. `last_truncation` tells, item by item, what the last call cut.
    `trained_on` are the evaluation tasks that the model was trained on, as far as it says so; `save` says them again.
    """

    @habits.told({}, habits.LOAD_IT)
    def __init__(self, loaded: Loaded, *, name: str = "") -> None:
        if not isinstance(loaded, Loaded):
            raise TypeError(f"Embedder(...) cannot be called directly; write Embedder.load({str(loaded)!r})")
        self.backbone = loaded.backbone
        self.contract = loaded.contract
        self.tokenizer = TextTokenizer(loaded.tokenizer, loaded.contract)
        self.name = name
        self._width, self._vocab_size = width(loaded.backbone), vocab_size(loaded.backbone.config)
        self._looks_at_longest = looks_at_longest(loaded.backbone.config)
        self._eight_bits = is_quantised(loaded.backbone.config)
        self.last_truncation: Truncation | None = None
        self._weights_digest = self._base_weights = loaded.weights
        self._tokenizer_digest: str | None = None
        self._fingerprint, self._named = "", ("", loaded.contract)
        self._source = loaded.source
        self.trained_on = loaded.trained_on

    def __repr__(self) -> str:
        family = self.backbone.config.get_text_config().model_type
        head = self.fingerprint[:8] if self._weights_digest is not None else "none since its weights were changed"
        return (
            f"Embedder({self.name!r}: {family}, {self.dimensions} dimensions, texts of at most {self.max_length} "
            f"tokens, {self.precision} on {self.device}, fingerprint {head})"
        )

    if not TYPE_CHECKING:  # a type checker would take any name for one that exists

        def __getattr__(self, name: str) -> NoReturn:
            answer = "" if name.startswith("_") else f"; {habits.attribute(name, dir(self))}"
            raise AttributeError(f"Embedder has no attribute {name!r}{answer}")

        def __setattr__(self, name: str, value: object) -> None:
            if name in habits.SET_AT_LOADING:
                raise AttributeError(f"{name} cannot be set; {habits.SET_AT_LOADING[name]}")
            super().__setattr__(name, value)

    @classmethod
    @habits.told(habits.LOAD)
    def load(
        cls,
        name_or_folder: str | Path,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "auto",
        revision: str | None = None,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        verify: bool = True,
        known_as: str | None = None,
        pooling: Pooling | None = None,
        attention: AttentionKind | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        instruction: str | None = None,
        suffix: str | None = None,
    ) -> Self:
        """Load a folder, a hub model or "seedling", the bundled one, and test that it does what its contract says.

        A folder that udever saved and a sentence-transformers folder bring their contract. Published checkpoints
        without one are known by name (`known_as="izhx/udever-bloom-560m"` for a copy in a folder). Any other decoder
        gets last-token pooling at its end-of-text token, causal attention and 512 tokens.

        `pooling`, `attention`, `max_length`, `normalize`, `dimensions` and `instruction` replace single entries of the
        contract. `suffix` is put after every text in place of the closing token ("\\nThis in one word:" makes a fair
        embedder of a language model that was never trained as one).

        The files of a saved folder are compared with the digests it was saved with, and its reference vectors are
        computed again and compared; `verify=False` skips both checks.

        `dtype="int8"` converts linear layers and the token embedding table to eight bits and measures the loss on the
        reference texts. The vectors are then a space of their own, with another fingerprint.

        Raises ModelError where the folder or model cannot be used, ContractError where it does not give
        the vectors it should, or loses too much in int8.
        """
        how = replace(
            pick_how(dtype, device),
            revision=revision,
            allow_pickle=allow_pickle,
            trust_remote_code=trust_remote_code,
            verify=verify,
        )
        changes = {
            "pooling": pooling,
            "attention": attention,
            "max_length": max_length,
            "normalize": normalize,
            "dimensions": dimensions,
            "instruction": instruction,
            "suffix": suffix,
        }
        given = {name: value for name, value in changes.items() if value is not None}
        if how.device.type == "cpu":
            keep_temporaries()
        loaded = loading.load(str(name_or_folder), how, given, known_as)
        embedder = cls(loaded, name=str(name_or_folder))
        if verify and loaded.saved is not None:
            own = loaded.saved.contract
            as_saved = cls(replace(loaded, contract=own), name=embedder.name) if own != loaded.contract else embedder
            artefact.check_vectors(
                as_saved.name, loaded.saved, as_saved.fingerprint, as_saved._reference, as_saved.dtype
            )
            as_saved.last_truncation = None
        if how.eight_bits and not embedder._eight_bits:
            embedder._into_eight_bits()
        return embedder

    def _into_eight_bits(self) -> None:
        """Quantise the float32 weights in place. Raises ContractError where that costs more than the gate allows."""
        model: Any = self.backbone
        precise = self._reference()
        quantising.quantise(model, self._embed_sample)
        self._eight_bits = True
        self._weights_digest = self._base_weights = digest_tensors(quantising.stored(model))
        quantising.settle(model, pick_dtype("auto", self.device))
        quantising.check_gate(self.name, precise, self._reference())
        self.last_truncation = None

    def _embed_sample(self) -> None:
        for ids in self.tokenize(smoothing.SAMPLE, "document").ids:
            self.backbone(attention_over(pack([ids], self.device), causal=self.contract.attention == "causal"))

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self.contract.dimensions or self._width

    @property
    def max_length(self) -> int:
        """Most tokens of a text, markers included; what is longer is cut at its end."""
        return self.contract.max_length

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.backbone.parameters()).device  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are held in: two floating-point precisions share a fingerprint; int8 has its own."""
        if self._eight_bits:
            return torch.int8
        return next(self.backbone.parameters()).dtype  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def fingerprint(self) -> str:
        """One name for this vector space: a digest of configuration, weights, tokenizer and contract.

        It is computed from what was loaded, never read from a file.
        """
        if self._weights_digest is None:
            self._weights_digest = digest_tensors(self.backbone.state_dict())  # pyright: ignore[reportAttributeAccessIssue]
        if self._tokenizer_digest is None:
            self._tokenizer_digest = tokenizer_digest(self.tokenizer.base)
        named = (self._weights_digest, self.contract)
        if self._named != named:
            digests = (self._weights_digest, self._tokenizer_digest)
            self._fingerprint = artefact.fingerprint(self.backbone.config, *digests, self.contract)
            self._named = named
        return self._fingerprint

    def weights_changed(self) -> None:
        """Say that the weights are no longer those that were loaded: the fingerprint is taken anew."""
        self._weights_digest = None

    @overload
    def encode_query(
        self, texts: Texts, *, convert_to_tensor: Literal[False] = ..., **options: Unpack[EncodeOptions]
    ) -> np.ndarray: ...
    @overload
    def encode_query(
        self, texts: Texts, *, convert_to_tensor: Literal[True], **options: Unpack[EncodeOptions]
    ) -> Tensor: ...
    @habits.told(habits.ENCODE_SIDE)
    def encode_query(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        instruction: str | None = None,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        normalize_embeddings: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        allow_empty: bool = False,
        show_progress_bar: bool = False,
    ) -> np.ndarray | Tensor:
        """Vectors of queries; options as in `encode`. `instruction` tells the model what to look for."""
        options = Asked(
            prompt,
            instruction,
            truncate_dim,
            batch_size,
            batch_tokens,
            normalize_embeddings,
            habits.as_tensor(convert_to_numpy, convert_to_tensor),
            allow_empty,
            show_progress_bar,
        )
        return self._encode(texts, "query", options)

    @overload
    def encode_document(
        self, texts: Texts, *, convert_to_tensor: Literal[False] = ..., **options: Unpack[EncodeOptions]
    ) -> np.ndarray: ...
    @overload
    def encode_document(
        self, texts: Texts, *, convert_to_tensor: Literal[True], **options: Unpack[EncodeOptions]
    ) -> Tensor: ...
    @habits.told(habits.ENCODE_SIDE)
    def encode_document(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        instruction: str | None = None,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        normalize_embeddings: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        allow_empty: bool = False,
        show_progress_bar: bool = False,
    ) -> np.ndarray | Tensor:
        """Vectors of documents; options as in `encode`."""
        options = Asked(
            prompt,
            instruction,
            truncate_dim,
            batch_size,
            batch_tokens,
            normalize_embeddings,
            habits.as_tensor(convert_to_numpy, convert_to_tensor),
            allow_empty,
            show_progress_bar,
        )
        return self._encode(texts, "document", options)

    @overload
    def encode(
        self, texts: Texts, *, convert_to_tensor: Literal[False] = ..., **options: Unpack[SymmetricOptions]
    ) -> np.ndarray: ...
    @overload
    def encode(
        self, texts: Texts, *, convert_to_tensor: Literal[True], **options: Unpack[SymmetricOptions]
    ) -> Tensor: ...
    @habits.told(habits.ENCODE)
    def encode(
        self,
        texts: Texts,
        *,
        prompt_name: RoleName | None = None,
        prompt: str | None = None,
        instruction: str | None = None,
        truncate_dim: int | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        normalize_embeddings: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        allow_empty: bool = False,
        show_progress_bar: bool = False,
    ) -> np.ndarray | Tensor:
        """Vectors for symmetric tasks, where both sides are alike: float32 [texts, dimensions], in input order.

        One string gives one vector. The names are sentence-transformers' where it has one: `prompt_name="query"` and
        "document" do what `encode_query` and `encode_document` do; `prompt` replaces the role's prompt, `instruction`
        is written into the contract's template as the prompt; `truncate_dim` keeps the first dimensions and scales to
        length 1 again; `batch_tokens` and `batch_size` are the most tokens and texts in one forward pass;
        `normalize_embeddings=False` leaves the length. Raises TextError naming the row for what is no text, holds
        nothing but white space (unless `allow_empty`) or gives no finite vector.
        Warns once (TruncationWarning) where texts were cut; `last_truncation` says which.
        """
        role: RoleName = "symmetric" if prompt_name is None else prompt_name
        if role not in get_args(RoleName):
            hint = suggestion(str(role), get_args(RoleName))
            raise TextError(f"prompt_name is {role!r}; {hint} (any other prompt is written out: prompt='...')")
        options = Asked(
            prompt,
            instruction,
            truncate_dim,
            batch_size,
            batch_tokens,
            normalize_embeddings,
            habits.as_tensor(convert_to_numpy, convert_to_tensor),
            allow_empty,
            show_progress_bar,
        )
        return self._encode(texts, role, options)

    @overload
    def similarity(self, a: Tensor, b: Any) -> Tensor: ...
    @overload
    def similarity(self, a: np.ndarray | Sequence[Any], b: Any) -> np.ndarray: ...
    def similarity(self, a: Any, b: Any) -> np.ndarray | Tensor:
        """Cosine of every row of `a` with every row of `b`: [a, b], of the kind of `a`.

        Arrays, tensors, lists or a column of vectors; one vector counts as one row. Raises DataError for what holds no
        vectors, and for vectors of different lengths.
        """
        return cosines(a, b)

    def tokenize(
        self, texts: Sequence[str], role: RoleName, prompt: str | None = None, max_length: int | None = None
    ) -> Tokenized:
        """The tokens the backbone sees for each text, markers included; cut before the contract's length if asked."""
        return self.tokenizer.encode(texts, role, prompt, max_length)

    def embed_tokens(
        self, ids: Sequence[Sequence[int]], skip: int | Sequence[int] = 0, *, share_front: bool = False
    ) -> Tensor:
        """Pooled vectors of token sequences, in the order given: float32 (or float64) [texts, hidden], not scaled.

        One packed batch (more where texts of such lengths may not share one: LongRoPE), with gradients wherever the
        caller has them on. `skip` is how many tokens of each text are a prompt that the means leave out, one number or
        one a text. `share_front`: what all texts begin with, such as an instruction, is computed once where that gives
        the same and gains something.
        """
        skips = [skip] * len(ids) if isinstance(skip, int) else list(skip)
        share = share_front and self._may_share_front()
        if not self._looks_at_longest:
            return self._embed_pass(ids, skips, share)
        passes = separate([len(sequence) for sequence in ids], self.backbone.config)
        parts = [self._embed_pass([ids[i] for i in chosen], [skips[i] for i in chosen], share) for chosen in passes]
        order = torch.tensor([i for chosen in passes for i in chosen], device=self.device)
        return torch.cat(parts)[order.argsort()]

    def _may_share_front(self) -> bool:
        """Whether tokens in front of a text are the same whatever follows, and are not pooled."""
        causal_last = self.contract.attention == "causal" and self.contract.pooling == "last"
        return causal_last and not isinstance(self.backbone, PaddedModel)

    def _embed_pass(self, ids: Sequence[Sequence[int]], skips: list[int], share_front: bool) -> Tensor:
        packed = pack(ids, self.device, shared_front(ids) if share_front else 0)
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
        """The type that the model computes in: `float32`, `bfloat16`, `int8`."""
        return str(self.dtype).removeprefix("torch.")

    def use_contract(self, contract: Contract) -> None:
        """Replace the contract; the attention kind must stay, since the backbone was tested for it."""
        assert contract.attention == self.contract.attention, "the attention kind is chosen when loading"
        self.contract = contract
        self.tokenizer = TextTokenizer(self.tokenizer.base, contract)

    def save(
        self,
        folder: str | Path,
        *,
        merged: bool = True,
        notes: str = "",
        base: str | None = None,
        extra_files: Mapping[str, str] | None = None,
        dtype: torch.dtype | None = None,
        table_bits: Literal[8, 4] | None = None,
        results: Sequence[saving.Result] = (),
    ) -> None:
        """Write a folder that `Embedder.load` and sentence-transformers read; replace a model that is there.

        `merged` folds LoRA into the weights and writes all of them; otherwise only what training moved is
        written and `base` names the backbone it belongs to. `notes` is Markdown and `results` are scores, both for
        the model card, `extra_files` are texts by file name. `dtype` is the precision of merged weights (default: as
        they are); those in memory are rounded to it too. `table_bits` writes the table of tokens in so many bits, to
        be floating point again once loaded (BLOOM only). Raises OutputError where the folder holds something else.
        """
        with atomic_folder(folder, "model") as temporary:
            name = Path(folder).name
            card = saving.Card(name, base or self.name, notes, results)
            self._write(temporary, card, merged=merged, dtype=dtype, table_bits=table_bits)
            for name, content in (extra_files or {}).items():
                (temporary / name).write_text(content)

    def push_to_hub(self, name: str, *, private: bool = True, revision: str | None = None, message: str = "") -> str:
        """Publish the model, as `save` writes it, on the hub as `name` (org/model); return the commit's address.

        `Embedder.load(name)` reads it back under the same fingerprint. A new repository is private unless told
        otherwise; `revision` is a branch. Raises OutputError in one line where the hub refuses or is not reached.
        """
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / name.rpartition("/")[2]
            self.save(folder)
            return hub.publish(folder, name, private=private, revision=revision, message=message)

    def _write(self, folder: Path, card: saving.Card, **how: Any) -> None:
        parts = Loaded(
            self.backbone,
            self.tokenizer.hf,
            self.contract,
            weights=self._base_weights,
            source=self._source,
            trained_on=self.trained_on,
        )

        def reference() -> tuple[np.ndarray, str]:
            return self._reference(), self.precision

        # from here on the model is named by what was written, in the precision it was written in
        self._weights_digest = saving.write(folder, parts, card, reference, **how)

    def _reference(self) -> np.ndarray:
        """Queries, then documents, of the reference texts; full width, unit length."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            sides = [
                encode(artefact.REFERENCE_TEXTS, normalize_embeddings=True, truncate_dim=self._width)
                for encode in (self.encode_query, self.encode_document)
            ]
        return np.concatenate(sides)

    def _encode(self, texts: Texts, role: RoleName, options: Asked) -> np.ndarray | Tensor:
        rows = [texts] if isinstance(texts, str) else listed(texts)
        if not options.allow_empty:
            check_not_empty(rows)
        size = self.check_dimensions(options.dimensions) or self._width
        out = torch.empty(len(rows), size, device=self.device)
        tokenized = self.tokenize(rows, role, self._prompt(options))
        self._report_truncation(tokenized.truncation)
        batches = self.encode_tokenized(
            tokenized,
            dimensions=options.dimensions,
            normalize=options.normalize,
            batch_tokens=options.batch_tokens,
            batch_size=options.batch_size,
        )
        shown = progress_bar("embedding", len(rows)) if options.show_progress else nullcontext(lambda _: None)
        with shown as advance:
            for batch, vectors in batches:
                out[batch] = vectors
                advance(len(batch))
        bad = unusable(out)
        if bad:
            raise TextError(
                f"row {bad[0]} ({len(bad)} in all) gives a vector that is not finite or has no length; "
                f"load the model with dtype='float32', or check its weights"
            )
        vectors = out[0] if isinstance(texts, str) else out
        return vectors if options.as_tensor else vectors.cpu().numpy()

    @torch.inference_mode()
    def encode_tokenized(
        self,
        tokenized: Tokenized,
        *,
        dimensions: int | None = None,
        normalize: bool | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Batch after batch, the longest texts first: which texts, and their vectors as `finish` makes them.

        On processors as many batches are computed at once as torch has threads, each of at most `batch_tokens`. No
        vector is checked. Raises TextError, naming the row, for a token the model does not have.
        """
        self.check_tokens(tokenized.ids)
        if batch_size is not None and batch_size < 1:
            raise TextError(f"batch_size is {batch_size}; expected at least 1")
        lengths = [len(sequence) for sequence in tokenized.ids]
        budget = even_budget(lengths, self.token_budget(batch_tokens), self.num_at_once)
        batches = plan_batches(lengths, budget, batch_size)

        def embed(batch: list[int]) -> tuple[list[int], Tensor]:
            pooled = self.embed_tokens([tokenized.ids[i] for i in batch], tokenized.skip, share_front=True)
            return batch, self.finish(pooled, dimensions, normalize=normalize)

        yield from side_by_side(embed, batches) if self.num_at_once > 1 else map(embed, batches)

    @property
    def num_at_once(self) -> int:
        """How many batches `encode` computes side by side: one for each of torch's threads on the CPU, else 1.

        A model that remembers a batch's longest text, or runs by its own library's code, does one at a time.
        """
        if self.device.type != "cpu" or self._looks_at_longest or isinstance(self.backbone, PaddedModel):
            return 1
        return torch.get_num_threads()

    def _prompt(self, options: Asked) -> str | None:
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
        rows = self._vocab_size
        for row, sequence in enumerate(ids):
            if max(sequence) >= rows or min(sequence) < 0:
                wrong = next(token for token in sequence if not 0 <= token < rows)
                raise TextError(
                    f"row {row} has token {wrong}; expected 0 to below {rows}: use the model's own tokenizer"
                )

    def token_budget(self, batch_tokens: int | None = None) -> int:
        """Most tokens in one forward pass: `batch_tokens`, or where it is None what suits the device."""
        if batch_tokens is not None and batch_tokens < 1:
            raise TextError(f"batch_tokens is {batch_tokens}; expected at least 1")
        return batch_tokens or _BATCH_TOKENS.get(self.device.type, _BATCH_TOKENS["cpu"])

    def check_dimensions(self, dimensions: int | None) -> int | None:
        """`dimensions`, or the contract's where it is None. Raises TextError where the model has not as many."""
        if dimensions is None:
            return self.contract.dimensions
        if not 1 <= dimensions <= self._width:
            raise TextError(f"dimensions is {dimensions}; expected 1 to {self._width}, the model's own")
        return dimensions

    def _report_truncation(self, truncation: Truncation) -> None:
        self.last_truncation = truncation
        cut = int(truncation.truncated.sum())
        if cut:
            warnings.warn(
                f"{cut} of {len(truncation.truncated)} texts were longer than {self.contract.max_length} tokens and "
                f"were cut (longest {int(truncation.num_tokens.max())}); see last_truncation, or raise max_length",
                TruncationWarning,
                stacklevel=5,
            )


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
