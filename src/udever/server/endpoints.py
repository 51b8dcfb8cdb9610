"""What each endpoint does: a parsed request in, the bytes of its answer out."""

import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from udever.errors import UdeverError
from udever.model.contract import RoleName
from udever.search.highlight import marked_lines, matches
from udever.search.searchable import Filters, Hit, Searchable
from udever.server import replies, wire
from udever.server.encoding import dumps, embeddings, packed_map, usage
from udever.server.errors import ApiError, unprocessable
from udever.server.interfaces import Classifier
from udever.server.service import Embedded, Part, Service


@dataclass(frozen=True)
class Endpoint:
    """A POST: where it is, what goes in, what comes out."""

    path: str
    request: type[BaseModel]
    reply: type[BaseModel]
    run: Callable[[Service, Any], Awaitable[bytes]]


async def embed(service: Service, request: wire.EmbeddingsRequest) -> bytes:
    """Vectors of texts or token ids."""
    service.check_model(request.model)
    service.check_dimensions(request.dimensions)
    part = Part(request.input, request.input_type or "symmetric", request.instruction, request.truncate)
    (embedded,) = await service.embed(part)
    return await embeddings(
        await service.finish(embedded, request.dimensions),
        embedded.truncated,
        model=service.name,
        num_tokens=embedded.num_tokens,
        base64=request.encoding_format == "base64",
    )


async def rerank(service: Service, request: wire.RerankRequest) -> bytes:
    """Documents by the cosine of their vectors with the query's, best first."""
    service.check_model(request.model)
    documents = [document if isinstance(document, str) else document.text for document in request.documents]
    truncate = request.truncate or "end"
    query, found = await service.embed(
        Part([request.query], "query", request.instruction, truncate, "query"),
        Part(documents, "document", None, truncate, "documents"),
    )
    scores = await _cosines(service, query, found)
    best = np.argsort(-scores[0], kind="stable")[: request.top_n]
    results = [
        {"index": int(row), "relevance_score": float(scores[0, row]), "truncated": found.truncated[row]}
        | ({"document": {"text": documents[row]}} if request.return_documents else {})
        for row in best
    ]
    num_tokens = query.num_tokens + found.num_tokens
    return dumps(
        {
            "id": str(uuid.uuid4()),
            "model": service.name,
            "results": results,
            "usage": usage(num_tokens),
            "meta": {"api_version": {"version": "2"}, "tokens": {"input_tokens": num_tokens}},
        }
    )


async def search(service: Service, request: wire.SearchRequest) -> bytes:
    """The index's best hits, each with the part of its text that answers."""
    service.check_model(request.model)
    index = _index(service)
    start_s = time.perf_counter()
    vector, num_tokens, said = None, 0, []
    if request.mode != "words":
        part = Part([request.query], index.question_role, request.instruction, "end", "query")
        (embedded,) = await service.embed(part)
        dimensions = await service.search(_dimensions, index, service)
        vector = (await service.finish(embedded, dimensions, normalize=True))[0]
        num_tokens = embedded.num_tokens
        if embedded.truncated[0]:
            most = service.embedder.contract.max_length
            said = [f"the question is longer than the {most} tokens that the model reads: its end was left out"]
    filters = Filters(languages=request.languages, paths=request.paths, kinds=request.kinds)
    find = partial(index.find, request.query, vector, request.top_k, mode=request.mode, filters=filters)
    hits = await service.search(find)
    notes = await service.search(index.notes, request.query, request.mode, filters)
    rows = await service.compute(_rows, hits, request)
    took_ms = round((time.perf_counter() - start_s) * 1000, 2)
    return dumps(
        {
            "object": "list",
            "data": rows,
            "model": service.name,
            "usage": usage(num_tokens),
            "took_ms": took_ms,
            "notes": [*said, *notes],
        }
    )


async def texts(service: Service, request: wire.TextsRequest) -> bytes:
    """Whole texts of the index."""
    found = await service.search(_index(service).texts, request.ids)

    def write() -> bytes:
        hits = [(name, found[name]) for name in request.ids if name in found]
        return dumps({"data": [_hit(hit) | _whole(hit, request.query) | {"id": name} for name, hit in hits]})

    return await service.compute(write)


async def tokens(service: Service, request: wire.TokensRequest) -> bytes:
    """What the model would read of each text, and what it would not."""
    service.check_model(request.model)
    inputs = [request.input] if isinstance(request.input, str) else request.input
    if len(inputs) > service.limits.similarity_texts:
        raise unprocessable(f"input holds {len(inputs)} texts; at most {service.limits.similarity_texts}", "input")
    size, most = sum(map(len, inputs)), service.limits.shown_characters
    if size > most:
        raise unprocessable(f"input holds {size} characters; the tokens of at most {most} are listed", "input")
    limit = service.embedder.contract.max_length
    explained = [await service.explain(text, request.input_type or "symmetric", request.instruction) for text in inputs]

    def write() -> bytes:
        rows = [
            {
                "tokens": one.pieces,
                "num_tokens": one.num_tokens,
                "truncated": one.num_tokens > limit,
                "cut": one.cut,
            }
            for one in explained
        ]
        return dumps({"data": rows, "max_length": limit, "model": service.name})

    return await service.compute(write)


async def similarity(service: Service, request: wire.SimilarityRequest) -> bytes:
    """Cosines of a few texts."""
    service.check_model(request.model)
    most = service.limits.similarity_texts
    for name, given in (("input", request.input), ("documents", request.documents or [])):
        if len(given) > most:
            raise unprocessable(f"{name} holds {len(given)} texts; at most {most} make a matrix", name)
    role: RoleName = request.input_type or ("symmetric" if request.documents is None else "query")
    truncate = request.truncate or "end"
    parts = [Part(request.input, role, request.instruction, truncate)]
    if request.documents is not None:
        parts.append(Part(request.documents, "document", None, truncate, "documents"))
    embedded = await service.embed(*parts)
    matrix = await _cosines(service, embedded[0], embedded[-1])
    return dumps(
        {
            "matrix": matrix,
            "truncated": [cut for part in embedded for cut in part.truncated],
            "model": service.name,
            "usage": usage(sum(part.num_tokens for part in embedded)),
        }
    )


async def classify(service: Service, request: wire.ClassifyRequest) -> bytes:
    """Labels and probabilities."""
    service.check_model(request.model)
    inputs = [request.input] if isinstance(request.input, str) else request.input
    classifier, chances, embedded = await _classify(service, inputs, request.truncate)
    rows = [
        {
            "index": row,
            "labels": [name for name, has in zip(classifier.classes, decided, strict=True) if has],
            "probabilities": dict(zip(classifier.classes, chance.tolist(), strict=True)),
            "truncated": embedded.truncated[row],
        }
        for row, (chance, decided) in enumerate(zip(chances, classifier.decide(chances), strict=True))
    ]
    return dumps(
        {
            "object": "list",
            "data": rows,
            "model": classifier.name,
            "classes": classifier.classes,
            "usage": usage(embedded.num_tokens),
        }
    )


async def moderate(service: Service, request: wire.ModerationsRequest) -> bytes:
    """OpenAI's moderation by the classifier: what it decides is flagged, but for the harmless classes."""
    if request.model is not None and request.model != _classifier(service).name:
        service.check_model(request.model)
    inputs = [request.input] if isinstance(request.input, str) else request.input
    inputs = [item if isinstance(item, str) else item.text for item in inputs]
    classifier, chances, embedded = await _classify(service, inputs, "end")
    results = []
    decisions = zip(chances, classifier.decide(chances).tolist(), embedded.truncated, strict=True)
    for chance, decided, truncated in decisions:
        over = {
            name: has and name not in classifier.harmless for name, has in zip(classifier.classes, decided, strict=True)
        }
        results.append(
            {
                "flagged": any(over.values()),
                "categories": over,
                "category_scores": dict(zip(classifier.classes, chance.tolist(), strict=True)),
                "category_applied_input_types": {name: ["text"] for name in classifier.classes},
                "truncated": truncated,
            }
        )
    return dumps({"id": f"modr-{uuid.uuid4().hex}", "model": classifier.name, "results": results})


async def points(service: Service, limit: int) -> bytes:
    """The index on a plane."""
    index = _index(service)
    if service.points is None:
        raise ApiError(404, "this index gives no map", code="not_served")
    await service.search(_dimensions, index, service)
    found = await service.search(service.points, limit)

    def write() -> bytes:
        return dumps(packed_map(found, index.count()))

    return await service.compute(write)


async def model_row(service: Service) -> dict[str, Any]:
    """The served model, and what can be asked of it."""
    index, classifier = service.index, service.classifier
    offers = ["embeddings", "rerank", "tokens", "similarity"]
    offers += ["search", "texts"] if index else []
    offers += ["map"] if index and service.points else []
    offers += ["classify", "moderations"] if classifier else []
    return {
        "id": service.name,
        "object": "model",
        "created": service.created,
        "owned_by": "udever",
        "fingerprint": service.embedder.fingerprint,
        "dimensions": service.embedder.dimensions,
        "max_length": service.embedder.contract.max_length,
        "endpoints": offers,
        "index": {"name": index.name, "num_rows": await service.search(index.count)} if index else None,
        "classes": list(classifier.classes) if classifier else None,
    }


ENDPOINTS = (
    Endpoint("/v1/embeddings", wire.EmbeddingsRequest, replies.EmbeddingsReply, embed),
    Endpoint("/v1/rerank", wire.RerankRequest, replies.RerankReply, rerank),
    Endpoint("/v2/rerank", wire.RerankRequest, replies.RerankReply, rerank),
    Endpoint("/v1/search", wire.SearchRequest, replies.SearchReply, search),
    Endpoint("/v1/texts", wire.TextsRequest, replies.TextsReply, texts),
    Endpoint("/v1/tokens", wire.TokensRequest, replies.TokensReply, tokens),
    Endpoint("/v1/similarity", wire.SimilarityRequest, replies.SimilarityReply, similarity),
    Endpoint("/v1/classify", wire.ClassifyRequest, replies.ClassifyReply, classify),
    Endpoint("/v1/moderations", wire.ModerationsRequest, replies.ModerationsReply, moderate),
)


async def _cosines(service: Service, left: Embedded, right: Embedded) -> NDArray[np.float32]:
    a, b = [await service.finish(side, normalize=True) for side in (left, right)]
    return np.clip(a @ b.T, -1, 1)


def _index(service: Service) -> Searchable:
    if service.index is None:
        raise ApiError(404, "no index is served here; start the server with --index", code="not_served")
    return service.index


def _dimensions(index: Searchable, service: Service) -> int:
    """The width of the index's vectors; ApiError where it has been made anew since the start, by another model."""
    try:
        index.check(service.embedder)
        return index.dimensions
    except UdeverError as error:
        raise ApiError(503, str(error), code="index_unavailable") from error


def _classifier(service: Service) -> Classifier:
    if service.classifier is None:
        raise ApiError(404, "no classifier is served here; start the server with --classifier", code="not_served")
    return service.classifier


async def _classify(
    service: Service, inputs: Sequence[str], truncate: str | None
) -> tuple[Classifier, NDArray[np.floating], Embedded]:
    classifier = _classifier(service)
    (embedded,) = await service.embed(Part(inputs, classifier.role, None, truncate))
    vectors = await service.finish(embedded, classifier.dimensions)
    return classifier, np.asarray(await service.compute(classifier.predict, vectors)), embedded


def _hit(hit: Hit) -> dict[str, Any]:
    names = ("id", "source", "first_line", "last_line", "kind", "name", "parent", "language")
    return {name: getattr(hit, name) for name in names} | {"own_lines": hit.has_own_lines}


def _rows(hits: Sequence[Hit], request: wire.SearchRequest) -> list[dict[str, Any]]:
    rows = []
    for hit in hits:
        snippet = [
            {"line": line, "parts": [{"text": text, "match": match} for text, match in parts]}
            for line, parts in marked_lines(hit, request.query, request.snippet_lines)
        ]
        row = _hit(hit) | {"score": float(hit.score), "snippet": snippet}
        rows.append(row | _whole(hit, request.query) if request.include_text else row)
    return rows


def _whole(hit: Hit, query: str) -> dict[str, Any]:
    return {"text": hit.text, "matches": matches(hit.text, query)}
