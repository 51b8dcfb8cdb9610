"""`adapt`, from the files to the folder."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from udever.adaptation.folder import (
    ASKED_FOR,
    MODEL,
    begin,
    begun_in,
    check_own,
    clear,
    data_of,
    run_folder,
    write_output,
)
from udever.adaptation.scores import answer, score
from udever.adaptation.settings import DEFAULTS, AdaptSettings, default_training
from udever.errors import DataError, UdeverError
from udever.evaluation import Comparison
from udever.pairs.gathering import gather, is_table_of_pairs, told_columns
from udever.pairs.mining import ASKED, Mined
from udever.pairs.schema import Pair
from udever.report.adaptation import Extras
from udever.storage import check_replaceable
from udever.training import SEEDLING, ModelSettings, OutputSettings, Recipe, WatchSettings, train
from udever.training.checkpoint import checkpoints, claimed
from udever.training.run import check_begun

_CHECKPOINT_EVERY = 100


def adapt(
    paths: Sequence[str | Path],
    output: str | Path,
    settings: AdaptSettings = DEFAULTS,
    *,
    base: str = SEEDLING,
    resume: bool = False,
    restart: bool = False,
    console: Console | None = None,
) -> Comparison | None:
    """Gather pairs from `paths`, train `base` on them, score it, and write it all to `output`; return the table.

    None where a signal stopped the training. `resume` goes on with what was mined and trained before, `restart` throws
    it away; raises OutputError for neither where a run was begun, and for other settings than it was begun with. Raises
    before any work where the output folder holds something else, DataError where the files give no pairs to train on
    or none to score on.
    """
    paths, output, console = [Path(path) for path in paths], Path(output), console or Console(quiet=True)
    check_replaceable(output, "adapted", [*paths, base])
    kept = run_folder(output)
    check_begun(kept, resume=resume, restart=restart)
    check_own(kept)
    training = (settings.training or default_training(base)).model_copy(update={"seed": settings.seed})
    asked = {**vars(settings), "paths": paths, "base": base, "kinds": sorted(settings.kinds)}
    asked = json.loads(json.dumps({**asked, "training": training.model_dump(mode="json")}, default=str))
    begun = begun_in(asked, kept) if resume and (kept / ASKED_FOR).is_file() else None
    mined = begun or _sampled(gather(paths, settings.gathering), settings)
    for path in filter(is_table_of_pairs, paths):
        console.print(told_columns(path, settings.columns), markup=False, highlight=False)
    train_pairs, held_out = _split(mined)
    if settings.max_seen is not None:
        passes = min(training.epochs, max(1.0, settings.max_seen / len(train_pairs)))
        training = training.model_copy(update={"epochs": passes})
    console.print(
        f"{mined.num_files:,} files gave {len(train_pairs):,} training pairs and {len(held_out):,} held-out pairs "
        f"(no question of theirs in training; {sum(mined.skipped.values()):,} files and rows left out)"
    )
    recipe = Recipe(
        model=ModelSettings(base=base, max_length=settings.max_length),
        data=data_of(mined, kept),
        training=training,
        watch=WatchSettings(checkpoints=str(kept), checkpoint_every=_CHECKPOINT_EVERY, evaluate_queries=0),
        output=OutputSettings(folder=str(kept / MODEL)),
    )
    with claimed(output):
        if begun is None:
            begin(asked, mined, kept)
        try:
            history = train(recipe, resume=begun is not None, restart=begun is None)
        except UdeverError:
            if not checkpoints(kept):  # nothing to go on with
                clear(kept)
            raise
        if history.stopped:
            return None
        model, results, words_weight = score(recipe, mined, settings, kept, console)
        results.show(console)
        extras = Extras(
            losses=[(step.number, step.loss) for step in history.steps],
            counts={
                "training pairs": len(train_pairs),
                "held-out pairs": len(held_out),
                **{f"pairs of {kind}": count for kind, count in mined.counts.items()},
                **mined.skipped,
            },
            examples=answer(model, settings.questions, mined, console),
            settings={
                f"{section}.{key}": value
                for section, values in recipe.model_dump(include={"model", "training"}).items()
                for key, value in values.items()
            },
        )
        write_output(output, recipe, mined, results, extras, words_weight)
        clear(kept)
    console.print(f"written: {output}/model, report.html, results, pairs.parquet, held_out")
    if results.shortfall:
        console.print(results.shortfall, markup=False, highlight=False)
    return results


def _sampled(mined: Mined, settings: AdaptSettings) -> Mined:
    """Mined with at most `max_studied` pairs of kinds that are learned from alone."""
    studied = [place for place, kind in enumerate(mined.kinds) if kind not in ASKED]
    if len(studied) <= settings.max_studied:
        return mined
    left_out = set(studied) - set(random.Random(settings.seed).sample(studied, settings.max_studied))
    kept = [place for place in range(len(mined.pairs)) if place not in left_out]
    pairs, kinds = [mined.pairs[place] for place in kept], [mined.kinds[place] for place in kept]
    skipped = {**mined.skipped, f"row: beyond {settings.max_studied:,} to learn from alone": len(left_out)}
    return replace(mined, pairs=pairs, kinds=kinds, skipped=skipped)


def _split(mined: Mined) -> tuple[list[Pair], list[Pair]]:
    train_pairs = [pair for pair in mined.pairs if pair.split == "train"]
    held_out = [pair for pair in mined.pairs if pair.split == "held_out"]
    if len(train_pairs) < 2 or not held_out:
        raise DataError(
            f"the files give {len(train_pairs)} training and {len(held_out)} held-out pairs; expected at least 2 and 1 "
            f"that share no file and no text: give more, or change --held-out"
        )
    return train_pairs, held_out
