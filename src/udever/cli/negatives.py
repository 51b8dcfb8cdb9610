"""`udever negatives`: hard negatives for training pairs."""

from pathlib import Path
from typing import Annotated

import typer

from udever.cli.app import (
    MODEL,
    Anchor,
    Device,
    Dtype,
    Mode,
    Positive,
    Seed,
    SkipEmpty,
    Threads,
    app,
    console,
    named_columns,
)
from udever.model_process import load_quietly


@app.command()
def negatives(
    pairs: Annotated[Path, typer.Argument(help="Table of pairs: a file or a data set.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    num_negatives: Annotated[int, typer.Option("--num-negatives", "-n", min=1, help="Negatives per row.")] = 4,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help=f"{MODEL}; not needed with --mode words.", show_default=False)
    ] = None,
    mode: Annotated[Mode, typer.Option(help="What finds candidates.")] = "meaning",
    anchor: Anchor = None,
    positive: Positive = None,
    skip_empty: SkipEmpty = False,
    corpus: Annotated[Path | None, typer.Option(help="Texts to search; the pairs' positives if left out.")] = None,
    column: Annotated[str, typer.Option(help="Column of the corpus that holds the text.")] = "text",
    max_share: Annotated[float, typer.Option(help="Drop what scores above this share of the positive's score.")] = 0.95,
    margin: Annotated[float | None, typer.Option(help="Drop what scores above the positive's score less this.")] = None,
    skip_top: Annotated[int, typer.Option(min=0, help="Leave out this many of the best that remain.")] = 0,
    sample_from: Annotated[int | None, typer.Option(help="Draw from this many of the best; else the best.")] = None,
    siblings: Annotated[bool, typer.Option("--siblings", help="In turns with the best of the same file.")] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Write the scores, for distillation.")] = False,
    instruction: Annotated[str | None, typer.Option(help="Instruction of the anchors.")] = None,
    seed: Seed = 0,
    dtype: Dtype = "auto",
    device: Device = "auto",
    _threads: Threads = None,
) -> None:
    """Find hard negatives for training pairs: texts that look like the positive and are none."""
    from udever.pairs.gathering import told_columns
    from udever.pairs.negatives import Options, mine_negatives

    options = Options(
        num_negatives=num_negatives,
        mode=mode,
        corpus=corpus,
        column=column,
        max_share=max_share,
        margin=margin,
        skip_top=skip_top,
        sample_from=sample_from,
        siblings=siblings,
        scores=scores,
        instruction=instruction,
        columns=named_columns(anchor, positive),
        skip_empty=skip_empty,
        seed=seed,
    )
    embedder = None if model is None or mode == "words" else load_quietly(model, dtype, device)
    found = mine_negatives(embedder, pairs, output, options, show_progress=True)
    out = console()
    out.print(told_columns(pairs, options.columns))
    out.print(
        f"{output}: {found.num_rows:,} pairs, {found.num_train:,} of split train; {found.num_full:,} with "
        f"{num_negatives} negatives, {found.num_without:,} with none; {found.num_documents:,} texts searched; "
        f"{found.num_replaced:,} rows had negatives, which were replaced"
    )
