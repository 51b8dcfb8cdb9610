"""The one model, its tokenizer threads and its batcher: from the inputs of a request to pooled vectors."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from udever.allocator import give_back_free
from udever.embedder import Embedder
from udever.errors import TextError
from udever.model.contract import RoleName
from udever.model.decoders import PaddedModel
from udever.model.packing import fillers, one_thread_each
from udever.model.tokens import Explained, Tokenized
from udever.search.points import MapPoints, kept_map
from udever.search.searchable import Searchable
from udever.server.batcher import BadInputError, Batcher, BatchReport, BrokenError, OverloadedError
from udever.server.bounds import encode_beginnings
from udever.server.errors import ApiError, overloaded, unprocessable
from udever.server.interfaces import Classifier
from udever.server.metrics import Metrics
from udever.server.scheduling import SHORT_TOKENS, Planner
from udever.server.settings import Limits

_QUICK_CHARACTERS = 4096
"""Texts of a request up to here are tokenised in a thread of their own, never behind a bulk request's."""
_CHUNK_CHARACTERS = 65_536
_BATCH_TOKENS = {"cpu": 4096, "cuda": 32768}
_TIDY_BATCHES = 500
"""Batches between two times that free memory goes back to the system."""
_LARGE = 50_000_000
"""Numbers in a model's layers from which on a short query is clearly sooner done by several threads than by one."""
_SEARCHES = 4
_WAITING_SEARCHES = 256

T = TypeVar("T")
Inputs = Sequence[str] | Sequence[list[int]]


@dataclass(frozen=True)
class Part:
    """Inputs of a request that share a role; `param` names them in its JSON."""

    inputs: Inputs
    role: RoleName
    instruction: str | None = None
    truncate: str | None = None
    param: str = "input"


@dataclass(frozen=True)
class Embedded:
    """Pooled vectors float32 [inputs, hidden], not scaled; tokens read, and which inputs were cut."""

    pooled: NDArray[np.float32]
    num_tokens: int
    truncated: list[bool]


class Service:
    """What the endpoints call. `start` before the first request, `stop` after the last.

    `name` is the model's name on the wire; `aliases` and the fingerprint are accepted beside it. `points`, which may be
    replaced, is the map of the index with at most so many points; it blocks and should keep what it computed.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        name: str = "udever",
        aliases: Sequence[str] = (),
        limits: Limits | None = None,
        index: Searchable | None = None,
        classifier: Classifier | None = None,
        threads: int | None = None,
    ) -> None:
        self.embedder, self.name = embedder, name
        self.limits = limits or Limits()
        self.index, self.classifier = index, classifier
        self.points: Callable[[int], MapPoints] | None = kept_map(index) if index is not None else None
        self.metrics = Metrics()
        self.created = int(time.time())
        self.ready = False
        self._names = {name, *aliases, embedder.fingerprint}
        self._quick, self._slow = (ThreadPoolExecutor(1, f"udever-tokens-{kind}") for kind in ("quick", "slow"))
        self._search = ThreadPoolExecutor(_SEARCHES, "udever-search")
        self._num_searches = self._num_batches = 0
        pads = isinstance(embedder.backbone, PaddedModel)
        self._fills = embedder.device.type == "cpu" and not pads
        self._planner = Planner(
            batch_tokens=self.limits.batch_tokens or _BATCH_TOKENS.get(embedder.device.type, _BATCH_TOKENS["cpu"]),
            age_cap_s=self.limits.age_cap_s,
            pads=pads,
        )
        self._workers = _num_workers(embedder, threads)
        self.batcher = Batcher(
            self._encode,
            self._planner,
            queue_tokens=max(self.limits.queue_tokens, self.limits.request_tokens),
            timeout_s=self.limits.timeout_s,
            on_batch=self._ran,
            workers=self._workers,
            threads=1 if self._workers > 1 else threads,
        )
        self.metrics.watch("queue_tokens", "Tokens waiting or running.", lambda: self.batcher.held_tokens)
        self.metrics.watch("open_requests", "Requests being encoded.", lambda: self.batcher.num_jobs)
        self.metrics.watch("ready", "1 where requests are taken.", lambda: float(self.ready))

    def start(self) -> None:
        """Start the workers, time the model, prepare the index. Blocks for some forward passes."""
        if self.index is not None:
            self.index.prepare()
        self.batcher.start()
        if self._workers > 1:
            with one_thread_each(1) as pool:
                pool.submit(self._learn_pace).result()
        else:
            self._learn_pace()
        self.ready = True

    def stop(self) -> None:
        """Take no more, answer what was taken, end the threads. Blocks."""
        self.ready = False
        self.batcher.stop()
        for pool in (self._quick, self._slow, self._search):
            pool.shutdown(cancel_futures=True)

    def check_model(self, model: str | None) -> None:
        """Raise ApiError where `model` is not the one served: vectors of two models must never mix."""
        if model is not None and model not in self._names:
            raise ApiError(
                404, f"the model {model[:100]!r} is not served here; this is {self.name!r}", code="model_not_found"
            )

    def check_dimensions(self, dimensions: int | None) -> None:
        """Raise ApiError where the model's vectors are shorter."""
        try:
            self.embedder.check_dimensions(dimensions)
        except TextError as error:
            raise unprocessable(str(error), "dimensions") from error

    async def embed(self, *parts: Part) -> list[Embedded]:
        """Vectors of every part, in order. Raises ApiError for whatever cannot be embedded."""
        wait_s = self.batcher.retry_after_s()
        if wait_s is not None:
            raise overloaded(wait_s, "the queue is full")
        tokenized: list[Tokenized] = []
        total = 0
        for part in parts:
            tokenized.append(await self._tokenize(part, total))
            total += sum(map(len, tokenized[-1].ids))
        pooled = await self._pooled(parts, tokenized)
        self.metrics.texts.inc(sum(len(tokens.ids) for tokens in tokenized))
        return [
            Embedded(vectors, sum(map(len, tokens.ids)), tokens.truncation.truncated.tolist())
            for vectors, tokens in zip(pooled, tokenized, strict=True)
        ]

    async def finish(
        self, embedded: Embedded, dimensions: int | None = None, *, normalize: bool | None = None
    ) -> NDArray[np.float32]:
        """Vectors as the contract has them, cut to `dimensions`: float32 [inputs, dimensions]."""

        def run() -> NDArray[np.float32]:
            return self.embedder.finish(torch.from_numpy(embedded.pooled), dimensions, normalize=normalize).numpy()

        return run() if embedded.pooled.size < _CHUNK_CHARACTERS else await self._in(self._slow, run)

    async def explain(self, text: str, role: RoleName, instruction: str | None) -> Explained:
        """The tokens of one text. Raises ApiError where the instruction leaves no room."""
        pool = self._quick if len(text) <= _QUICK_CHARACTERS else self._slow
        return await self._in(pool, self.embedder.tokenizer.explain, text, role, self._prompt(instruction))

    async def search(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run an index's function in a thread. Raises ApiError where too many wait."""
        if self._num_searches >= _WAITING_SEARCHES:
            raise overloaded(1, "too many searches wait")
        self._num_searches += 1
        try:
            return await self._in(self._search, function, *arguments)
        finally:
            self._num_searches -= 1

    async def compute(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run short work in a thread, after what is there already."""
        return await self._in(self._slow, function, *arguments)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except TextError as error:
            raise unprocessable(str(error)) from error

    def _prompt(self, instruction: str | None) -> str | None:
        return None if instruction is None else self.embedder.instructed(instruction)

    async def _tokenize(self, part: Part, before: int = 0) -> Tokenized:
        """Its tokens. Raises ApiError as soon as they, with `before` others, are too many, or a text too long."""
        prompt = self._prompt(part.instruction)
        pool = self._quick if sum(map(len, part.inputs)) <= _QUICK_CHARACTERS else self._slow
        if not isinstance(part.inputs[0], str):
            framed = await self._in(pool, self._frame, part.inputs, part.role, prompt)
            self._check(part, framed, 0, before)
            return framed
        empty = next((row for row, text in enumerate(part.inputs) if isinstance(text, str) and not text.strip()), None)
        if empty is not None:
            where = f"{part.param}[{empty}]"
            raise unprocessable(f"{where} is empty; leave it out", where, "empty_input")
        chunks: list[Tokenized] = []
        num_rows, num_tokens = 0, before
        for texts in _chunks(part.inputs):
            chunks.append(await self._in(pool, self._encoded, texts, part.role, prompt))
            num_tokens = self._check(part, chunks[-1], num_rows, num_tokens)
            num_rows += len(texts)
        return _joined(chunks)

    def _frame(self, ids: Sequence[Sequence[int]], role: RoleName, prompt: str | None) -> Tokenized:
        self.embedder.check_tokens(ids)  # before a token is looked up by name
        return self.embedder.tokenizer.encode_ids(ids, role, prompt)

    def _encoded(self, texts: Sequence[str], role: RoleName, prompt: str | None) -> Tokenized:
        encode = partial(self.embedder.tokenizer.encode, role_name=role, prompt=prompt)
        tokenized = encode_beginnings(encode, texts, self.embedder.contract.max_length)
        self.embedder.check_tokens(tokenized.ids)
        return tokenized

    def _check(self, part: Part, tokenized: Tokenized, first: int, before: int) -> int:
        """Raise ApiError for a text that is too long, or too many tokens; return how many there are with `before`."""
        cut = np.flatnonzero(tokenized.truncation.truncated)
        if len(cut) and (part.truncate or self.limits.truncate) == "error":
            row = first + int(cut[0])
            raise unprocessable(
                f"{part.param}[{row}] has at least {tokenized.truncation.num_tokens[cut[0]]} tokens, the model takes "
                f"{self.embedder.contract.max_length}; shorten it, send truncate = 'end', or start the server with "
                "--truncate end",
                f"{part.param}[{row}]",
                "context_length_exceeded",
            )
        total = before + sum(map(len, tokenized.ids))
        if total > self.limits.request_tokens:
            raise unprocessable(
                f"the request has at least {total} tokens; at most {self.limits.request_tokens} go into one, "
                "send several",
                part.param,
                "too_many_tokens",
            )
        self.metrics.truncated.inc(len(cut))
        return total

    async def _pooled(self, parts: Sequence[Part], tokenized: Sequence[Tokenized]) -> list[NDArray[np.float32]]:
        """One job for all parts that skip alike, so that they share batches."""
        if len({tokens.skip for tokens in tokenized}) > 1:
            return [(await self._pooled([part], [tokens]))[0] for part, tokens in zip(parts, tokenized, strict=True)]
        places = [(part.param, row) for part in parts for row in range(len(part.inputs))]
        sequences = [ids for tokens in tokenized for ids in tokens.ids]
        try:
            vectors = await self.batcher.submit(sequences, tokenized[0].skip)
        except OverloadedError as error:
            raise overloaded(error.retry_after_s, "the queue is full") from error
        except BrokenError as error:
            raise ApiError(503, "the server is stopping or broken", code="unavailable") from error
        except BadInputError as error:
            param, row = places[error.row]
            raise unprocessable(
                f"{param}[{row}] cannot be embedded: the model gives it no usable vector",
                f"{param}[{row}]",
                "bad_input",
            ) from error
        ends = np.cumsum([len(part.inputs) for part in parts])
        return np.split(vectors, ends[:-1])

    @torch.inference_mode()
    def _encode(self, sequences: Sequence[Sequence[int]], skip: int) -> NDArray[np.float32]:
        if self._fills:
            token = sequences[0][0]
            more = [[token] * length for length in fillers([len(sequence) for sequence in sequences])]
            return self.embedder.embed_tokens([*sequences, *more], skip)[: len(sequences)].numpy()
        return self.embedder.embed_tokens(sequences, skip).cpu().numpy()

    def _ran(self, report: BatchReport) -> None:
        """Count a batch; now and then tidy up: batches of ever other sizes tear holes into the threads' heaps."""
        self.metrics.ran(report)
        self._num_batches += 1
        if self._num_batches % _TIDY_BATCHES == 0 and self.embedder.device.type == "cpu":
            give_back_free()

    def _learn_pace(self) -> None:
        """Time a nearly empty batch and a full one, so that the first batches are already of the right size."""
        word = self.embedder.tokenize(["a"], "document").ids[0]
        for length in (8, 8, 8, 4 * SHORT_TOKENS, 4 * SHORT_TOKENS):
            length = min(length, self.embedder.contract.max_length)
            count = 1 if length == 8 else 4 * SHORT_TOKENS // length
            sequences = [(word * length)[:length]] * count
            start_s = time.monotonic()
            self._encode(sequences, 0)
            self._planner.pace.observe(count * length, time.monotonic() - start_s, weight=1)


def _num_workers(embedder: Embedder, threads: int | None) -> int:
    """How many batches to compute side by side: of a large model one on all threads, which answers a query soonest."""
    at_once = embedder.num_at_once if threads is None else min(threads, embedder.num_at_once)
    config = embedder.backbone.config.get_text_config()
    return 1 if at_once > 1 and 12 * config.num_hidden_layers * config.hidden_size**2 >= _LARGE else at_once


def _chunks(inputs: Inputs) -> list[Inputs]:
    chunks: list[Inputs] = []
    first = size = 0
    for row, item in enumerate(inputs):
        size += len(item)
        if size >= _CHUNK_CHARACTERS or row == len(inputs) - 1:
            chunks.append(inputs[first : row + 1])
            first, size = row + 1, 0
    return chunks


def _joined(chunks: Sequence[Tokenized]) -> Tokenized:
    if len(chunks) == 1:
        return chunks[0]
    truncation = type(chunks[0].truncation)(
        np.concatenate([chunk.truncation.num_tokens for chunk in chunks]),
        np.concatenate([chunk.truncation.truncated for chunk in chunks]),
    )
    return Tokenized([ids for chunk in chunks for ids in chunk.ids], truncation, chunks[0].skip)
