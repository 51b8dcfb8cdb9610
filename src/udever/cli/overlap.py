"""`udever overlap`."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import app, console
from udever.terminal import printable


@app.command()
def overlap(
    train: Annotated[list[Path], typer.Argument(help="Training pairs: files, folders, data sets.", show_default=False)],
    eval_folder: Annotated[Path, typer.Argument(help="Folder of tasks, or of one.", show_default=False)],
    threshold: Annotated[float, typer.Option(help="Shared shingles from which texts are near duplicates.")] = 0.8,
    min_chars: Annotated[
        int, typer.Option(help="Leave out shorter texts, which agree by chance; East Asian signs count twice.")
    ] = 25,
    num_examples: Annotated[int, typer.Option(min=0, help="How many duplicates to show for each task.")] = 0,
    fail_above: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 1 where a test split shares more than this.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, subsets included.")] = False,
) -> None:
    """Report the texts of evaluation tasks that occur, exactly or nearly, in training pairs."""
    from udever.evaluation.contamination import overlap as run

    found = run(
        train, eval_folder, threshold=threshold, min_chars=min_chars, num_examples=num_examples, show_progress=True
    )
    if json:
        import json as encoder

        typer.echo(printable(encoder.dumps(found.as_dict(), ensure_ascii=False)))
    else:
        from udever.report.console import show_overlap

        show_overlap(found, console())
    if fail_above is not None and found.worst_share > fail_above:
        typer.echo(f"udever: a test split shares {found.worst_share:.1%}, more than {fail_above:.1%}", err=True)
        raise typer.Exit(1)
