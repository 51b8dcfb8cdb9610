"""The models a run can score: named and told apart without loading them, loaded when something is missing."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udever.errors import ModelError, first_line, needs
from udever.evaluation.endpoint import EndpointModel, EndpointOptions
from udever.evaluation.lexical import NAMES, lexical_model
from udever.evaluation.mteb_meta import model_meta, revision_of
from udever.evaluation.mteb_model import Floats, MtebModel, Role, as_mteb
from udever.model.artefact import read_object, recipe_of, trained_on
from udever.nearest import nearest, path_suggestion
from udever.packaged import bundled_folder
from udever.storage import digest_file

if TYPE_CHECKING:
    from udever.embedder import Embedder

_TRAINING_FILE = "training.json"
_SMALL_BYTES = 256 << 20
_DECIDING = (".safetensors", ".bin", ".json", ".txt", ".model")
"""Files of a model folder that can change a vector; the card cannot."""


@dataclass(frozen=True)
class ModelOptions:
    """How the models are used. `prompts` and `instructions` as in `mteb_model.MtebModel`."""

    dtype: str = "auto"
    device: str = "auto"
    dimensions: int | None = None
    batch_tokens: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    instructions: bool = False
    name: str | None = None

    @property
    def deciding(self) -> dict[str, Any]:
        """The options that change a vector, besides the dtype."""
        return {"prompts": dict(self.prompts), "instructions": self.instructions, "dimensions": self.dimensions}


@dataclass(frozen=True)
class ModelUnderTest:
    """A model under test. `key` stands for all that decides its vectors, and is cheap; None where that is not known.

    `load` gives the mteb model; its meta has name and revision. `recipe` and `training` are how it was trained and on
    what, where its folder says so. `cost` says what a run has used up so far.
    """

    name: str
    key: str | None
    load: Callable[[], Any]
    trained_on: frozenset[str] = frozenset()
    recipe: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    cost: Callable[[], dict[str, int]] = dict


def model_under_test(
    model: "str | Embedder", options: ModelOptions, endpoint: EndpointOptions | None = None
) -> ModelUnderTest:
    """The model of that name, or an embedder as it is, which `options` may name and shorten.

    "bm25", "char-tfidf", "random": baselines. "st:NAME": a sentence-transformers folder or hub name. With `endpoint`:
    what is served there. Anything else: a folder or hub name for `Embedder.load`. Raises ModelError for a folder that
    is not there; whatever else is wrong shows when it is loaded.
    """
    if not isinstance(model, str):
        name = options.name or model.name
        given = partial(as_mteb, model, name=name, batch_tokens=options.batch_tokens, **options.deciding)
        return ModelUnderTest(name, None, given)
    if model in NAMES:
        revision = _key(["baseline", model, version("udever")])
        return ModelUnderTest(f"baseline/{model}", revision, partial(lexical_model, model, revision))
    if endpoint is not None:
        return _served(endpoint, options)
    ours = not model.startswith("st:")
    where = model.removeprefix("st:")
    folder = bundled_folder(where) or Path(where)
    near = nearest(model, NAMES)
    if near is not None and "/" not in model and not folder.is_dir():
        raise ModelError(f"there is no model {model!r}; did you mean {near!r}?")
    if where.startswith((".", "/", "~")) and not folder.is_dir():
        otherwise = f"expected a model folder, a hub name, or one of {', '.join(NAMES)}"
        raise ModelError(f"{where} is not a folder; {path_suggestion(where, otherwise)}")
    name = options.name or (folder.resolve().name if folder.is_dir() else where)
    here = [platform.node(), version("udever"), version("torch")]  # what "auto" depends on
    key = _key(["ours" if ours else "st", name, asdict(options), _content(folder), here])
    load = _load_ours if ours else _load_sentence_transformers
    known = folder.is_dir() and (_base_name(folder) is None or _base(folder) is not None)
    return ModelUnderTest(
        name=name,
        key=key if known else None,
        load=partial(load, str(folder), name, options),
        trained_on=trained_on(folder) if folder.is_dir() else frozenset(),
        recipe=recipe_of(folder),
        training=training_of(folder),
    )


def training_of(folder: Path) -> dict[str, Any] | None:
    """The content of the training.json that training left in a model folder; None where there is none.

    Raises DataError for one that is no JSON object.
    """
    return read_object(folder / _TRAINING_FILE, json.loads)


def _served(endpoint: EndpointOptions, options: ModelOptions) -> ModelUnderTest:
    """Its weights cannot be seen: the revision stands for address, model and options."""
    endpoint = replace(endpoint, dimensions=options.dimensions)
    revision = revision_of(f"{endpoint.url}\0{endpoint.model}", "served", options.deciding)
    name = options.name or endpoint.model
    client: list[EndpointModel] = []

    def load() -> Any:
        client.append(EndpointModel(endpoint))
        dimensions = client[0](["Add two numbers."], "symmetric", None).shape[1]
        meta = model_meta(name=name, revision=revision, framework="API", dimensions=dimensions)
        return MtebModel(client[0], meta, prompts=options.prompts, instructions=options.instructions)

    def cost() -> dict[str, int]:
        return {"tokens": client[0].num_tokens, "requests": client[0].num_requests} if client else {}

    return ModelUnderTest(name, revision, load, cost=cost)


def _load_ours(where: str, name: str, options: ModelOptions) -> Any:
    from udever.embedder import Embedder

    embedder = Embedder.load(where, dtype=options.dtype, device=options.device)
    return as_mteb(embedder, name=name, batch_tokens=options.batch_tokens, **options.deciding)


def _load_sentence_transformers(where: str, name: str, options: ModelOptions) -> Any:
    """A SentenceTransformer with its own prompts, roles and batching; fed distinct texts."""
    with needs("sentence-transformers", "sentence-transformers", "an st: model"):
        from sentence_transformers import SentenceTransformer
    try:
        model = SentenceTransformer(
            where,
            device=None if options.device == "auto" else options.device,
            truncate_dim=options.dimensions,
            model_kwargs={} if options.dtype == "auto" else {"dtype": options.dtype},
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{where} is no sentence-transformers model: {first_line(error)}") from error

    def embed(texts: Sequence[str], role: Role, prompt: str | None) -> Floats:
        encode = {"query": model.encode_query, "document": model.encode_document, "symmetric": model.encode}[role]
        return encode(list(texts), prompt=prompt, show_progress_bar=False, convert_to_numpy=True)

    content = _content(Path(where)) if Path(where).is_dir() else f"{where} {version('sentence-transformers')}"
    meta = model_meta(
        name=name,
        revision=revision_of(str(content), str(model.dtype).removeprefix("torch."), options.deciding),
        framework="Sentence Transformers",
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        dimensions=model.get_embedding_dimension(),
        max_tokens=model.max_seq_length,
        use_instructions=options.instructions or bool(options.prompts),
    )
    return MtebModel(embed, meta, prompts=options.prompts, instructions=options.instructions)


def _content(folder: Path) -> dict[str, str]:
    """A digest of every file that can change a vector, the base of an adapter included.

    Files beyond 256 MB stand with their size and time of change: a rerun must not read gigabytes to find out that
    there is nothing to do.
    """
    if not folder.is_dir():
        return {}
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _DECIDING and path.is_file() and not _is_hidden(path, folder):
            state = path.stat()
            small = state.st_size <= _SMALL_BYTES
            digest = digest_file(path) if small else f"{state.st_size} {state.st_mtime_ns}"
            found[path.relative_to(folder).as_posix()] = digest
    base = _base(folder)
    return {**found, **{f"base/{name}": digest for name, digest in _content(base).items()}} if base else found


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether it is a hidden file of `folder` or below a hidden folder in it, such as a download's own records."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _base(folder: Path) -> Path | None:
    """The folder of the model that an adapter is of; None for a whole model and for a base that is no folder."""
    base = _base_name(folder)
    found = (bundled_folder(base) or Path(base)) if base is not None else None
    return found if found is not None and found.is_dir() and found.resolve() != folder.resolve() else None


def _base_name(folder: Path) -> str | None:
    for file, keys in (("udever.json", ("base", "name")), ("adapter_config.json", ("base_model_name_or_path",))):
        try:
            found = json.loads((folder / file).read_text(encoding="utf-8"))
            for key in keys:
                found = found[key]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(found, str) and found:
            return found
    return None


def _key(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
