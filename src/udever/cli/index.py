"""`udever index`, `search`, `index-tune` and `mcp`: a folder, searched."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from udever.cli.app import (
    MODEL,
    Device,
    Dtype,
    Language,
    Mode,
    Threads,
    app,
    complain,
    console,
)
from udever.cli.usage import check_no_model
from udever.model_process import load_quietly
from udever.terminal import printable

if TYPE_CHECKING:
    from udever.embedder import Embedder
    from udever.search.index import Index, Sealed
    from udever.search.searchable import Hit, Searchable

Place = Annotated[
    str | None,
    typer.Argument(
        metavar="[INDEX]",
        help="Folder with an index in it, its own folder, or URI; the nearest at or above this folder if left out.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help=f"{MODEL}; the one the index remembers if left out.")
]


def _choice(index: "Index | Sealed | None", model: str | None, dtype: str) -> tuple[str, str] | None:
    """The model named, else the index's own, and the precision asked for, else that of the index's vectors."""
    if index is None:
        return None if model is None else (model, dtype)
    return model or index.own_model(), dtype if dtype != "auto" else index.manifest.precision


def _choice_for(found: "Searchable", model: str | None, dtype: str) -> tuple[str, str]:
    """As `_choice`. Raises RecipeError where embeddings files are to be searched and no model is named."""
    from udever.errors import RecipeError
    from udever.search.index import Index

    chosen = _choice(found if isinstance(found, Index) else None, model, dtype)
    if chosen is None:
        raise RecipeError(f"{found.name} is an embeddings file; name the model that made it: -m MODEL")
    return chosen


def _precision(place: str, dtype: str) -> str:
    """The precision that is asked for; else that of the vectors of the index at `place`."""
    from udever.errors import UdeverError
    from udever.search.index import Index
    from udever.search.locate import index_at

    found = index_at(place)
    if dtype != "auto" or found is None:
        return dtype
    try:
        return Index.open(found).manifest.precision
    except UdeverError:  # none yet, or damaged: told later, by whoever needs it
        return dtype


@app.command()
def index(
    paths: Annotated[list[Path] | None, typer.Argument(help="Files or folders; this folder if left out.")] = None,
    model: ModelOption = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder, object-store URI or postgresql://…#name; else PATH/.udever/index."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out paths matching this .gitignore pattern; !PATTERN takes back.")
    ] = None,
    language: Language = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Drop what is there and embed everything.")] = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Index folders for search; run again, it embeds only what changed."""
    from udever.errors import DataError
    from udever.search.locate import check_found, check_paths, index_at, open_store, own_model, place_for
    from udever.search.update import IndexSettings, update_index

    given = paths or [Path()]
    for path in given:
        check_no_model(path)
    check_paths(given)  # before a store is opened, which makes its folder
    place = place_for(given, output)
    precision = dtype if rebuild else _precision(place, dtype)
    first: Embedder | None = None
    if index_at(place) is None:  # a new index: without its model nothing is written
        if model is None:
            raise DataError(f"{place} holds no index; name the model to make it with: -m MODEL")
        first = load_quietly(model, precision, device)
    store = open_store(place)
    if output is None:
        check_found(store, given)
    settings = IndexSettings(model, tuple(exclude) if exclude is not None else None, language)

    def load(name: str) -> "Embedder":
        return first or load_quietly(name if model is not None else own_model(name, place), precision, device)

    done = update_index(store, given, load, settings, rebuild=rebuild, show_progress=True)
    out = console()
    out.print(
        f"{place}: {done.num_chunks:,} chunks of {done.num_files:,} files; {done.num_changed:,} files changed, "
        f"{done.num_removed:,} gone; {done.num_embedded:,} texts embedded, {done.num_reused:,} reused, "
        f"{done.num_truncated:,} cut; {done.seconds:.1f} s",
    )
    for file in done.damaged[:3]:
        out.print(f"  made anew, since it was damaged: {file}")
    for path in done.gone:
        out.print(f"  {path}: gone")
    for reason, count in done.skipped.items():
        out.print(f"  left out {count:,}  {reason}" if count else f"  {reason}")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    place: Place = None,
    model: ModelOption = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many hits.")] = 10,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Compare vectors, words or both; if left out both, for embeddings files vectors."),
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Only this language, such as python-Code.")] = None,
    path: Annotated[list[str] | None, typer.Option(help="Only paths matching this pattern, such as 'src/**'.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only function, class, code, section or text.")] = None,
    instruction: Annotated[str | None, typer.Option(help="What kind of answer is wanted.")] = None,
    lines: Annotated[int, typer.Option(min=0, help="Lines shown of each hit.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Search an index by meaning and words; or an embeddings file (then -m names the model)."""
    from udever.garbage import uncollected
    from udever.model_process import ModelProcess

    check_no_model(place or "")
    with uncollected(), ModelProcess.begin(enabled=mode != "words") as process:
        from udever.search.index import Index, open_searchable, sealed
        from udever.search.searchable import Filters

        if mode != "words" and (early := _choice(sealed(place), model, dtype)) is not None:
            process.load(*early, device)
        found = open_searchable(place)
        compared: Mode = mode or ("both" if isinstance(found, Index) else "meaning")
        filters = Filters(tuple(language or ()), tuple(path or ()), tuple(kind or ()))
        embedder: Any = None
        if compared != "words":
            process.load(*_choice_for(found, model, dtype), device)
            embedder = process
        hits = found.search(embedder, query, top_k, mode=compared, filters=filters, instruction=instruction)
    notes = found.notes(query, compared, filters)
    for note in notes:
        complain(note)
    if not hits:
        complain("no hits")
    _show(hits, query, lines, as_json=json)


def _show(hits: list["Hit"], query: str, num_lines: int, *, as_json: bool) -> None:
    from udever.search.highlight import snippet

    if as_json:
        import json
        from dataclasses import asdict

        for hit in hits:
            typer.echo(printable(json.dumps(asdict(hit), ensure_ascii=False)))
        return
    out = console()
    for hit in hits:
        joint = " > " if hit.kind == "section" else "."
        what = f"{hit.kind or ''} {joint.join(filter(None, (hit.parent, hit.name)))}"
        out.print(f"{hit.score:.3f}  {hit.place}  {what}".rstrip(), style="bold")
        for number, line in snippet(hit, query, num_lines) if num_lines else []:
            out.print(f"{'' if number is None else number:>7}  {line}")


@app.command(name="index-tune")
def index_tune(
    place: Place = None,
    recall: Annotated[float, typer.Option(help="Share of the truly nearest 10 that must be found.")] = 0.95,
    queries: Annotated[
        Path | None, typer.Option(help="Text file of your own queries, one a line; the index's chunks if left out.")
    ] = None,
    model: ModelOption = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Choose by measurement how an index is searched: dimensions, type, effort."""
    from udever.errors import DataError
    from udever.search.index import Index, describe, open_searchable
    from udever.search.tune import read_queries, retune

    found = open_searchable(place)
    if not isinstance(found, Index):
        raise DataError(f"{place} holds embeddings files, which are always compared whole; give an index")
    embeddings: Any = None
    if queries is not None:
        embedder = load_quietly(*_choice_for(found, model, dtype), device)
        found.check(embedder)
        embeddings = embedder.encode_query(read_queries(queries), truncate_dim=found.dimensions)
    out = console()
    out.print("recall@10  latency ms        bytes  setting")
    tuned = retune(
        found.store,
        recall=recall,
        queries=embeddings,
        say=lambda tried: out.print(
            f"{tried.recall:9.3f}  {tried.latency_ms:10.2f}  {tried.size_bytes:11,}  {describe(tried)}"
        ),
    )
    out.print(f"chosen: {describe(tuned.chosen)}")


@app.command()
def mcp(
    place: Place = None,
    model: ModelOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder the index's paths start from, where that is not the one it lies in.")
    ] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Serve an index, or embeddings files, to coding assistants: the Model Context Protocol over stdin and stdout."""
    from udever.search.index import open_searchable
    from udever.search.mcp import make_server

    found = open_searchable(place, base=root)
    server = make_server(found, lambda: load_quietly(*_choice_for(found, model, dtype), device))
    complain(f"udever: serving {found.name}")  # standard output is the protocol's
    server.run("stdio")
