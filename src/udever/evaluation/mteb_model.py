"""Any embedder as an mteb model: each distinct text is embedded once, and search keeps its memory bounded.

mteb hands over a task in pieces (two sides, train and test, one subset after another). What was embedded before is
remembered up to a number of bytes, so that a sentence that stands in a hundred subsets costs one forward pass.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from udever.errors import TextError
from udever.search.exact import top_k_blocks

if TYPE_CHECKING:
    from udever.embedder import Embedder

Role = Literal["query", "document", "symmetric"]
Floats = NDArray[np.float32]
Embed = Callable[[Sequence[str], Role, str | None], Floats]
"""(distinct texts, role, prompt or None) -> [texts, dimensions]; raises TextError naming "row N"."""

_REMEMBERED_BYTES = 1 << 30
_DOCUMENTS = 16_384
"""Documents embedded and searched together."""
_STEP = 4096
"""Texts between two calls of `MtebModel.watch`."""
_ROW = re.compile(r"\brow (\d+)\b")


class MtebModel:
    """mteb's EncoderProtocol and SearchProtocol over a function that embeds texts.

    `prompts` by mteb's names, the most special first: "STS13-query", "STS13", "Retrieval-query", "Retrieval",
    "query"; a prompt replaces the model's own. With `instructions` mteb's own words on what a task wants are given to
    queries and to both sides of symmetric tasks, written into `template`. `num_embedded` counts the texts that went
    through the model, `num_truncated` those of them that were cut, where the model says so. `watch` is called after
    every few thousand texts. `trained_on` names the tasks that its card says it was trained on.
    """

    def __init__(
        self,
        embed: Embed,
        meta: Any,
        *,
        prompts: Mapping[str, str] | None = None,
        instructions: bool = False,
        template: str = "Instruct: {instruction}\nQuery: ",
        remembered_bytes: int = _REMEMBERED_BYTES,
    ) -> None:
        self.mteb_model_meta = meta
        self.num_embedded = 0
        self.num_truncated = 0
        self.trained_on: frozenset[str] = frozenset()
        self.watch: Callable[[], None] = lambda: None
        self._embed = embed
        self._prompts = dict(prompts or {})
        self._instructions = instructions
        self._template = template
        self._remembered = _Remembered(remembered_bytes)
        self._corpus: Any = None

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **_: Any,
    ) -> Floats:
        """Embeddings of what mteb's loader holds: float32 [texts, dimensions], in its order."""
        role = _role(prompt_type)
        place = f"{task_metadata.dataset.get('path', task_metadata.name)}, {hf_split}, {hf_subset}"
        return self.embed(_texts(inputs), role, self._prompt(task_metadata, role), place)

    def embed(self, texts: Sequence[str], role: Role, prompt: str | None, place: str) -> Floats:
        """Each distinct text once; raises TextError naming `place`, row and text for a vector that is not finite."""
        keys = [_key(text, role, prompt) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._remembered}
        fresh: dict[bytes, Floats] = {}
        for keys_now in _steps(missing):
            wanted = [missing[key] for key in keys_now]
            try:
                vectors = np.asarray(self._embed(wanted, role, prompt), dtype=np.float32)
                _check_finite(vectors)
            except TextError as error:
                raise _at(error, wanted, texts, place) from error
            fresh |= zip(keys_now, vectors, strict=True)
            self.num_embedded += len(vectors)
            self.watch()
        found = [fresh[key] if key in fresh else self._remembered[key] for key in keys]
        self._remembered.add(fresh)
        return np.stack(found) if found else np.zeros((0, 0), dtype=np.float32)

    def embed_ahead(self, texts: Sequence[str], task_metadata: Any, place: str) -> None:
        """Embed a whole task's symmetric texts together, so that batches hold texts of near-equal length.

        As many as will be remembered; the rest is embedded when mteb asks.
        """
        room = self._remembered.capacity(self.mteb_model_meta.embed_dim or 1024)
        self.embed(list(dict.fromkeys(texts))[:room], "symmetric", self._prompt(task_metadata, "symmetric"), place)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Floats:
        """Cosines of all with all: [first, second]."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Floats:
        """Cosines of row with row: [rows]."""
        return np.sum(_unit(embeddings1) * _unit(embeddings2), axis=-1)

    def index(self, corpus: Any, **_: Any) -> None:
        """Take the documents to search; they are embedded while searching, some thousands at a time."""
        self._corpus = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """The best `top_k` documents of each query with their cosines; with `top_ranked`, of its candidates alone."""
        assert self._corpus is not None, "mteb indexes before it searches"
        place = f"{task_metadata.dataset.get('path', task_metadata.name)}, {hf_split}, {hf_subset}"
        texts = query_texts(queries, task_metadata)
        asking, answering = _roles(task_metadata)
        wanted = _unit(self.embed(texts, asking, self._prompt(task_metadata, asking), f"{place}, queries"))
        prompt = self._prompt(task_metadata, answering)

        def blocks() -> Iterator[tuple[list[str], Floats]]:
            for ids, documents in document_blocks(self._corpus, _DOCUMENTS):
                yield ids, _unit(self.embed(documents, answering, prompt, f"{place}, corpus"))

        names = [str(name) for name in queries["id"]]
        found = rerank(wanted, names, blocks(), top_ranked) if top_ranked else best(wanted, names, blocks(), top_k)
        self._corpus = None
        return found

    def _prompt(self, task_metadata: Any, role: Role) -> str | None:
        for name in (task_metadata.name, task_metadata.type):
            for key in (f"{name}-{role}", name):
                if key in self._prompts:
                    return self._prompts[key]
        if role in self._prompts:
            return self._prompts[role]
        if not self._instructions or role == "document":
            return None
        instruction = _instruction(task_metadata, role)
        return self._template.replace("{instruction}", instruction) if instruction else None


def as_mteb(
    embedder: "Embedder",
    *,
    name: str | None = None,
    prompts: Mapping[str, str] | None = None,
    instructions: bool = False,
    dimensions: int | None = None,
    batch_tokens: int | None = None,
    revision: str | None = None,
) -> MtebModel:
    """An `Embedder` as a model for `mteb.evaluate`: roles, prompts by task, our batching, search in bounded memory.

    `prompts` and `instructions` as in `MtebModel`. `revision` is a hash of the fingerprint, the dtype and every option
    here that changes a vector, unless it is given. Raises MissingExtra where mteb is not installed.
    """
    from udever.evaluation.mteb_meta import model_meta, require_mteb, revision_of

    require_mteb()
    state: Any = embedder.backbone.state_dict()  # pyright: ignore[reportAttributeAccessIssue] # eight bits are no parameters
    dtype = embedder.precision
    options = {"prompts": dict(prompts or {}), "instructions": instructions, "dimensions": dimensions}
    meta = model_meta(
        name=name or embedder.name,
        revision=revision or revision_of(embedder.fingerprint, dtype, options),
        num_parameters=sum(tensor.numel() for tensor in state.values()),
        dimensions=dimensions or embedder.dimensions,
        max_tokens=embedder.contract.max_length,
        framework="PyTorch",
        use_instructions=instructions or bool(prompts),
    )

    def embed(texts: Sequence[str], role: Role, prompt: str | None) -> Floats:
        encode = {"query": embedder.encode_query, "document": embedder.encode_document, "symmetric": embedder.encode}
        with warnings.catch_warnings():
            # counted in `model.num_truncated` instead: a task makes hundreds of calls
            warnings.filterwarnings("ignore", message=".*longer than .* tokens and were cut")
            found = encode[role](
                texts, prompt=prompt, truncate_dim=dimensions, batch_tokens=batch_tokens, allow_empty=True
            )
        if embedder.last_truncation is not None:
            model.num_truncated += int(embedder.last_truncation.truncated.sum())
        return found

    template = embedder.contract.instruction
    model = MtebModel(embed, meta, prompts=prompts, instructions=instructions, template=template)
    model.trained_on = embedder.trained_on
    return model


class _Remembered:
    """Vectors by key up to a number of bytes; the oldest go first."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._vectors: dict[bytes, Floats] = {}
        self._used = 0

    def capacity(self, dimensions: int) -> int:
        """How many vectors of this length fit."""
        return self._size_bytes // (4 * dimensions)

    def __contains__(self, key: bytes) -> bool:
        return key in self._vectors

    def __getitem__(self, key: bytes) -> Floats:
        return self._vectors[key]

    def add(self, vectors: Mapping[bytes, Floats]) -> None:
        """Keep these; forget the oldest where they do not fit."""
        for key, vector in vectors.items():
            if vector.nbytes > self._size_bytes:
                return
            self._vectors[key] = vector.copy()  # a view would keep its whole batch alive
            self._used += vector.nbytes
        while self._used > self._size_bytes:
            self._used -= self._vectors.pop(next(iter(self._vectors))).nbytes


def query_texts(queries: Any, task_metadata: Any) -> list[str]:
    """What a model reads of each query: its text with its instruction, conversations flattened, as mteb does it."""
    if set(queries.column_names) <= {"id", "text"} and (not len(queries) or isinstance(queries[0]["text"], str)):
        return list(queries["text"])
    from mteb._create_dataloaders import create_dataloader
    from mteb.types import PromptType

    return _texts(create_dataloader(queries, task_metadata=task_metadata, prompt_type=PromptType.query))


def document_blocks(corpus: Any, size: int) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and texts of the documents, title in front as mteb joins them, `size` at a time."""
    for start in range(0, len(corpus), size):
        rows = corpus[start : start + size]
        titles = rows.get("title") or [""] * len(rows["text"])
        joined = [
            f"{title} {text}".strip() if title else text.strip()
            for title, text in zip(titles, rows["text"], strict=True)
        ]
        yield [str(name) for name in rows["id"]], joined


def best(
    queries: Floats, names: Sequence[str], blocks: Iterator[tuple[list[str], Floats]], top_k: int
) -> dict[str, dict[str, float]]:
    """The `top_k` documents of each query by dot product, ties to the earlier; of the corpus only ids are kept."""
    ids: list[str] = []

    def vectors() -> Iterator[Floats]:
        for names_of_block, documents in blocks:
            ids.extend(names_of_block)
            yield documents

    scores, rows = top_k_blocks(queries, vectors(), top_k)
    return {
        name: {ids[row]: float(score) for row, score in zip(rows[place], scores[place], strict=True)}
        for place, name in enumerate(names)
    }


def rerank(
    queries: Floats,
    names: Sequence[str],
    blocks: Iterator[tuple[list[str], Floats]],
    top_ranked: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, float]]:
    """The dot product of each query with its own candidates."""
    askers: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        for document in top_ranked.get(name, ()):
            askers.setdefault(document, []).append(row)
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for ids, documents in blocks:
        for document, vector in zip(ids, documents, strict=True):
            for row in askers.get(document, ()):
                found[names[row]][document] = float(queries[row] @ vector)
    return found


def _roles(task_metadata: Any) -> tuple[Role, Role]:
    """How the two sides of a search are embedded: one way where a folder's task is symmetric."""
    return ("symmetric", "symmetric") if getattr(task_metadata, "symmetric", False) else ("query", "document")


def _role(prompt_type: Any) -> Role:
    value = getattr(prompt_type, "value", prompt_type)
    return "symmetric" if value is None else value


def _texts(inputs: Any) -> list[str]:
    """The texts of a mteb loader, from the table behind it where there is one: no collating row by row."""
    dataset = getattr(inputs, "dataset", None)
    if "text" in getattr(dataset, "column_names", ()):
        return list(dataset["text"])  # pyright: ignore[reportOptionalSubscript]
    return [text for batch in inputs for text in batch["text"]]


def _instruction(task_metadata: Any, role: Role) -> str | None:
    """mteb's words for what the task wants: the task's own, or those of its kind."""
    prompt = task_metadata.prompt
    if isinstance(prompt, Mapping):
        prompt = prompt.get("query" if role == "symmetric" else role)
    if prompt:
        return prompt
    import mteb

    try:
        return mteb.get_task(task_metadata.name).abstask_prompt
    except KeyError:
        return _KINDS.get(task_metadata.type)


_KINDS = {
    "STS": "Retrieve semantically similar text.",
    "BitextMining": "Retrieve parallel sentences.",
    "Classification": "Classify user passages.",
    "PairClassification": "Retrieve text that are semantically similar to the given text.",
    "Clustering": "Identify categories in user passages.",
    "Retrieval": "Retrieve text based on user query.",
    "Reranking": "Retrieve text based on user query.",
}
"""What mteb's classes say of their kind, for tasks that mteb does not know."""


def _key(text: str, role: Role, prompt: str | None) -> bytes:
    said = f"{role}\0{'' if prompt is None else '1' + prompt}\0{text}"
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _unit(vectors: Any) -> Floats:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _steps(missing: Mapping[bytes, str]) -> Iterator[list[bytes]]:
    """The keys, some thousands at a time; of more, those of long texts first, so that a batch's texts are alike."""
    keys = list(missing)
    if len(keys) > _STEP:
        keys.sort(key=lambda key: -len(missing[key]))
    for start in range(0, len(keys), _STEP):
        yield keys[start : start + _STEP]


def _check_finite(vectors: Floats) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise TextError(
            f"row {bad[0]} ({len(bad)} in all) gives a vector that is not finite; check the model's weights"
        )


def _at(error: TextError, distinct: Sequence[str], texts: Sequence[str], place: str) -> TextError:
    """The same complaint about the row in the data instead of the row among the distinct texts."""
    match = _ROW.search(str(error))
    if match is None or int(match[1]) >= len(distinct):
        return TextError(f"{place}: {error}")
    text = distinct[int(match[1])]
    shown = text if len(text) <= 40 else text[:40] + "..."
    row = list(texts).index(text)
    return TextError(f"{place}: {_ROW.sub(f'row {row} ({shown!r})', str(error), count=1)}")
