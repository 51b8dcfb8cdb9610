"""`udever serve`: a model, an index and a classifier over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Device, Dtype, Model, Threads, app, console
from udever.model_process import load_quietly


@app.command()
def serve(
    model: Model,
    index: Annotated[str | None, typer.Option(help="Folder or URI of an index, or embeddings files.")] = None,
    before: Annotated[
        str | None, typer.Option(help="The index's texts embedded by another model, for the map's before and after.")
    ] = None,
    classifier: Annotated[Path | None, typer.Option(help="Folder of `udever classify fit`.")] = None,
    harmless: Annotated[list[str] | None, typer.Option(help="A label that moderations never flag.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    keys: Annotated[Path | None, typer.Option(help="File of Bearer keys, one a line; else UDEVER_KEYS.")] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="Without keys: another name this server may be reached by.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name for clients; the folder's if left out.")] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name that clients may use.")] = None,
    truncate: Annotated[str, typer.Option(help="Texts that are too long, by default: error, or end (cut).")] = "error",
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in one forward pass.")] = None,
    queue_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens in the queue; more are refused with 429.")
    ] = None,
    request_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of one request.")] = None,
    body_bytes: Annotated[int | None, typer.Option(min=1024, help="Largest request body.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds until a request is given up.")] = None,
    threads: Threads = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Serve a model: OpenAI's embeddings, reranking, search, labels, and a page to look at it."""
    from udever.server import require_packages

    require_packages()
    from udever.classify import Filter
    from udever.corpus.side_columns import columns_beside
    from udever.search.index import open_searchable
    from udever.search.points import kept_map
    from udever.search.searchable import COLOURS, GROUP
    from udever.server.auth import read_keys
    from udever.server.interfaces import Classifier
    from udever.server.run import serve as run
    from udever.server.service import Service
    from udever.server.settings import limits

    out = console()
    bounds = limits(
        truncate=truncate,
        batch_tokens=batch_tokens,
        queue_tokens=queue_tokens,
        request_tokens=request_tokens,
        body_bytes=body_bytes,
        timeout_s=timeout,
    )
    known = read_keys(keys)
    embedder = load_quietly(model, dtype, device)
    found = earlier = labels = None
    if index is not None:
        earlier = None if before is None else open_searchable(before)
        found = open_searchable(index, lambda path, ids: columns_beside(path, [*COLOURS, GROUP], ids))
        found.check(embedder)
    if classifier is not None:
        filter_ = Filter.load(classifier)
        filter_.check(embedder.fingerprint)
        labels = Classifier(
            predict=filter_.predict,
            decide=filter_.decide,
            classes=filter_.labels,
            name=classifier.resolve().name,
            harmless=harmless or (),
            role=filter_.role,  # pyright: ignore[reportArgumentType] # one of the three, as it was fitted
            dimensions=filter_.dimensions,
        )
    service = Service(
        embedder,
        name=name or Path(model).resolve().name,
        aliases=alias or (),
        limits=bounds,
        index=found,
        classifier=labels,
        threads=threads,
    )
    if found is not None and earlier is not None:
        service.points = kept_map(found, earlier)
    run(
        service,
        host=host,
        port=port,
        keys=known,
        hosts=allowed_host or (),
        say=out.print,
    )
