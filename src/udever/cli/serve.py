"""`udever serve`: a model, an index and a classifier over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import Device, Dtype, Model, app, console, quiet_transformers


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
    truncate: Annotated[str, typer.Option(help="Too long a text by default: error, or end (cut).")] = "error",
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in one forward pass.")] = None,
    queue_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens waiting; beyond: 429.")] = None,
    request_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of one request.")] = None,
    body_bytes: Annotated[int | None, typer.Option(min=1024, help="Largest request body.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.1, help="Seconds until a request is given up.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the forward pass.")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> None:
    """Serve a model: OpenAI's embeddings, reranking, search, labels, and a page to look at it."""
    from udever.cli.ports import classifier_port, index_port
    from udever.embedder import Embedder
    from udever.server import require_packages

    require_packages()
    from udever.server.auth import read_keys
    from udever.server.run import serve as run
    from udever.server.service import Service
    from udever.server.settings import limits

    quiet_transformers()
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
    embedder = Embedder.load(model, dtype=dtype, device=device)
    service = Service(
        embedder,
        name=name or Path(model).resolve().name,
        aliases=alias or (),
        limits=bounds,
        index=index_port(embedder, index, before) if index else None,
        classifier=classifier_port(embedder, classifier, harmless or ()) if classifier else None,
        threads=threads,
    )
    run(
        service,
        host=host,
        port=port,
        keys=known,
        hosts=allowed_host or (),
        say=lambda line: out.print(line, highlight=False, markup=False),
    )
