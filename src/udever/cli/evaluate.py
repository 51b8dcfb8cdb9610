"""`udever eval`: score models on tasks."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import MODEL, Device, Dtype, Threads, app, console
from udever.terminal import quiet_mteb


@app.command("eval")
def evaluate(
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help=f"{MODEL}; st:NAME for sentence-transformers; bm25, char-tfidf, random. Once for each.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results.")] = Path("results"),
    suite: Annotated[str | None, typer.Option(help="Tasks inside the package: universal.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Folder with task.json, or of such folders.")] = None,
    mteb: Annotated[list[str] | None, typer.Option(help="Public task or benchmark by name.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task, by name; once for each.")] = None,
    overrides: Annotated[Path | None, typer.Option(help="JSON: {task folder: {key of task.json: value}}.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible server; -m is its model.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Send its key over plain http too.")] = False,
    key_variable: Annotated[str, typer.Option(help="Environment variable with the server's key.")] = "OPENAI_API_KEY",
    batch_texts: Annotated[int, typer.Option(min=1, help="Most texts in one request to the server.")] = 128,
    prompts: Annotated[Path | None, typer.Option(help="JSON: {task, type or role: prompt}.")] = None,
    instructions: Annotated[bool, typer.Option(help="Tell the model what each task wants.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model in results, such as org/model.")] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep the first ones of each vector.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in one forward pass.")] = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Score models on tasks; without --data, --mteb or --suite on the universal suite. What is scored is kept."""
    from udever.evaluation.endpoint import EndpointOptions
    from udever.evaluation.evaluate import Sources, read_prompts
    from udever.evaluation.evaluate import evaluate as run
    from udever.evaluation.models_under_test import ModelOptions
    from udever.report.console import show_scores

    quiet_mteb()
    outcomes = run(
        model,
        Sources(suite, tuple(data or ()), tuple(mteb or ()), tasks=tuple(task or ()), overrides=overrides),
        results=output,
        options=ModelOptions(
            dtype=dtype,
            device=device,
            dimensions=dimensions,
            batch_tokens=batch_tokens,
            prompts=read_prompts(prompts),
            instructions=instructions,
            name=name,
        ),
        endpoint=EndpointOptions(endpoint, "", key_variable, batch_texts=batch_texts, insecure=insecure)
        if endpoint
        else None,
        show_progress=True,
    )
    show_scores(outcomes, console())
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)
