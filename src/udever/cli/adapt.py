"""`udever adapt`, `demo` and `pairs`: from a person's own files to a model of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from udever.cli.app import (
    Anchor,
    ChooseFrom,
    Exclude,
    HeldOut,
    HeldOutBy,
    Kinds,
    Language,
    Paths,
    Positive,
    Seed,
    SkipEmpty,
    Threads,
    app,
    console,
    named_columns,
)
from udever.terminal import quiet_transformers

_BASE = "Backbone: folder, .gguf file, hub name, 'seedling', 'gemma3-270m', or 'fresh' (random weights)."


@app.command()
def adapt(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model, table and report.")],
    base: Annotated[str, typer.Option("--base", "-m", help=_BASE)] = "seedling",
    kind: Kinds = None,
    exclude: Exclude = None,
    language: Language = None,
    held_out: HeldOut = 0.1,
    held_out_by: HeldOutBy = "text",
    choose_from: ChooseFrom = "train",
    anchor: Anchor = None,
    positive: Positive = None,
    skip_empty: SkipEmpty = False,
    tuning: Annotated[
        Literal["auto", "full", "bitfit", "lora"] | None, typer.Option(help="Weights that are trained.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the training pairs; what suits the base if left out.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per step; what suits the base if left out.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate; what suits the base if left out.")
    ] = None,
    negatives: Annotated[int, typer.Option(min=0, help="Hard negatives for each pair.")] = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Minutes to try training settings; five times the mining if left out.")
    ] = None,
    trainings: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings from different seeds to average; if left out 2 for the seedling, else 1."),
    ] = None,
    max_length: Annotated[
        int, typer.Option(help="Longest text in tokens; in training 128 but for 'seedling' and 'fresh'.")
    ] = 300,
    ask: Annotated[list[str] | None, typer.Option(help="A question to answer at the end.")] = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw a stopped run away and begin anew.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be tried and how long training takes.")] = False,
    _threads: Threads = None,
) -> None:
    """Take pairs from your own files or a table of them, finetune an embedder, and show what it is worth."""
    from udever.adaptation import AdaptSettings, default_training, plan_adaptation
    from udever.adaptation import adapt as run
    from udever.pairs.mining import USUAL_KINDS
    from udever.training.recipe import training_settings

    quiet_transformers()
    given = {"tuning": tuning, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    chosen: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if epochs is not None:
        chosen["max_steps"] = None  # so many passes are asked for, whatever they take
    settings = AdaptSettings(
        kinds=[str(k) for k in kind] if kind else USUAL_KINDS,
        exclude=exclude or (),
        language=language,
        held_out=held_out,
        held_out_by=held_out_by,
        choose_from=choose_from,
        columns=named_columns(anchor, positive),
        skip_empty=skip_empty,
        training=training_settings(**{**default_training(base).model_dump(), **chosen}) if chosen else None,
        minutes=minutes,
        trainings=trainings,
        negatives=negatives,
        min_seen=AdaptSettings.min_seen if epochs is None else 0,
        max_seen=AdaptSettings.max_seen if epochs is None else None,
        max_length=max_length,
        questions=ask or (),
        seed=seed,
    )
    if plan:
        plan_adaptation(paths, output, settings, base=base, resume=resume, restart=restart, console=console())
        return
    with _told_when_stopped():
        results = run(paths, output, settings, base=base, resume=resume, restart=restart, console=console())
    _ended(results, restart)


@contextmanager
def _told_when_stopped() -> Iterator[None]:
    """Exit with 130 where Ctrl-C came before there was anything to go on with."""
    try:
        yield
    except KeyboardInterrupt:
        console().print("stopped before training; give the same command again")
        raise typer.Exit(130) from None


def _ended(results: object, restart: bool) -> None:
    """Exit with 130 where a run was stopped that can be gone on with."""
    if results is None:
        instead = " instead of --restart" if restart else ""
        console().print(f"stopped; go on with the same command and --resume{instead}")
        raise typer.Exit(130)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the result.")] = Path("runs/demo"),
    base: Annotated[str, typer.Option("--base", "-m", help=_BASE)] = "seedling",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw a stopped run away and begin anew.")] = False,
    _threads: Threads = None,
) -> None:
    """Run `adapt` on Python's own standard library: docstring -> function; on a part of it for a large base."""
    from udever.adaptation import adapt as run
    from udever.adaptation import demo_of

    quiet_transformers()
    paths, settings = demo_of(base)
    with _told_when_stopped():
        results = run(paths, output, settings, base=base, resume=resume, restart=restart, console=console())
    _ended(results, restart)


@app.command()
def pairs(
    paths: Paths,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file to write.")],
    kind: Kinds = None,
    exclude: Exclude = None,
    language: Language = None,
    held_out: HeldOut = 0.1,
    held_out_by: HeldOutBy = "text",
    anchor: Anchor = None,
    positive: Positive = None,
    skip_empty: SkipEmpty = False,
    seed: Seed = 0,
) -> None:
    """Mine training pairs (docstring -> function, heading -> section, source -> translation); split tables of them."""
    from udever.files import may_hold_pairs
    from udever.pairs.files import check_pairs_output, write_pairs
    from udever.pairs.gathering import Gathering, gather, told_columns
    from udever.pairs.mining import ASKED, USUAL_KINDS

    settings = Gathering(
        kinds=[str(k) for k in kind] if kind else USUAL_KINDS,
        exclude=exclude or (),
        held_out=held_out,
        held_out_by=held_out_by,
        seed=seed,
        language=language,
        columns=named_columns(anchor, positive),
        skip_empty=skip_empty,
    )
    check_pairs_output(output, paths)
    mined = gather(paths, settings)
    write_pairs(mined.pairs, output)
    out = console()
    for path in filter(may_hold_pairs, paths):
        out.print(told_columns(path, settings.columns))
    num_held_out = sum(pair.split == "held_out" for pair in mined.pairs)
    files = f"{mined.num_files:,} file{'s' * (mined.num_files != 1)}"
    out.print(f"{output}: {len(mined.pairs):,} pairs from {files}, {num_held_out:,} held out")
    studied = {kind: count for kind, count in mined.counts.items() if kind not in ASKED}
    if studied and not num_held_out:  # adapt would hold out of all rows
        counts = ", ".join(f"{kind}: {count:,}" for kind, count in studied.items())
        out.print(
            f"  {sum(studied.values()):,} of them are for training alone ({counts}), and a table does not tell them "
            f"apart: for udever adapt leave them out with {' '.join(f'--kind {kind}' for kind in ASKED)}"
        )
    for reason, count in mined.skipped.items():
        out.print(f"  left out {count:,}  {reason}" if count else f"  {reason}")
