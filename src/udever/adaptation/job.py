"""`adapt`, from the files to the folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from udever.adaptation.attempts import Attempt, arrangements, train_all
from udever.adaptation.folder import (
    ASKED_FOR,
    PAIRS,
    STUDIED,
    begin,
    begun_in,
    check_places,
    clear,
    going_on,
    run_folder,
    write_output,
)
from udever.adaptation.gathered import gathered, split, tell
from udever.adaptation.scores import answer, score
from udever.adaptation.settings import DEFAULTS, AdaptSettings, check_base
from udever.errors import UdeverError
from udever.evaluation.comparison import Comparison
from udever.pairs.mining import Mined
from udever.report.adaptation import Extras
from udever.training import SEEDLING
from udever.training.checkpoint import checkpoints, claimed


def adapt(
    paths: str | Path | Sequence[str | Path],
    output: str | Path,
    settings: AdaptSettings = DEFAULTS,
    *,
    base: str = SEEDLING,
    resume: bool = False,
    restart: bool = False,
    console: Console | None = None,
) -> Comparison | None:
    """Gather pairs from `paths`, train `base` on them, score it, write it all to `output`, and return the table.

    Returns None where a signal stopped the training, or Ctrl-C anything behind the mining. `resume` continues a stopped
    run with what it mined and trained; `restart` deletes that and starts over.

    Raises OutputError where a stopped run is there and neither was given, where it was started with other settings,
    and, before any work, where the output or the folder beside it holds something else, or an input. Raises DataError
    where the files give no pairs to train on or none to score on, RecipeError and ModelError as `check_base`.
    """
    paths = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    output, console = Path(output), console or Console(quiet=True)
    check_places(output, [*paths, base], resume=resume, restart=restart)
    check_base(base, settings)
    kept = run_folder(output)
    line = going_on(kept, resume=resume, restart=restart)
    if line is not None:
        console.print(line, markup=False, highlight=False)
    training = arrangements(settings, base, Mined([], {}, 0))[0].training
    asked = {**vars(settings), "paths": paths, "base": base, "kinds": sorted(settings.kinds)}
    asked = json.loads(json.dumps({**asked, "training": training.model_dump(mode="json")}, default=str))
    is_begun = resume and (kept / ASKED_FOR).is_file()
    mined, mining_s = begun_in(asked, kept) if is_begun else gathered(paths, settings)
    tell(mined, paths, settings, console)
    with claimed(output):
        check_places(output, [*paths, base], resume=resume, restart=restart)  # again: another may have been stopped
        if not is_begun:
            begin(asked, mined, mining_s, kept)
        try:
            attempts = train_all(mined, settings, base, kept, mining_s, resume=is_begun, console=console)
            results = None if attempts is None else _finished(attempts, mined, settings, output, console)
        except UdeverError:
            if not checkpoints(kept):  # nothing to go on with
                clear(kept)
            raise
        except KeyboardInterrupt:
            results = None
        if results is None:
            return None
        clear(kept)  # the output is whole: an interrupt from here on stops no run
    studied = f", {STUDIED}" if (output / STUDIED).is_file() else ""
    console.print(f"written: {output}/model, report.html, results, held_out, {PAIRS}{studied}")
    if results.shortfall:
        console.print(results.shortfall, markup=False, highlight=False)
    return results


def _finished(
    attempts: Sequence[Attempt], mined: Mined, settings: AdaptSettings, output: Path, console: Console
) -> Comparison:
    """Choose of what was trained, score it, and write all that belongs to it."""
    kept = run_folder(output)
    scored = score(attempts, mined, settings, kept, console)
    attempt, results = scored.attempt, scored.results
    results.show(console)
    extras = Extras(
        chosen=scored.sentence,
        losses=[(step.number, step.loss) for step in attempt.histories[0].steps],
        counts=_counts(attempt.mined, mined),
        examples=answer(scored.model, settings.questions, mined, console),
        settings={
            f"{section}.{key}": value
            for section, values in attempt.recipes[0].model_dump(include={"model", "training"}).items()
            for key, value in values.items()
        },
    )
    write_output(output, attempt.recipes[0], attempt.mined, results, extras, scored.words_weight)
    return results


def _counts(trained: Mined, mined: Mined) -> dict[str, int]:
    train_pairs, held_out = split(trained)
    return {
        "training pairs": len(train_pairs),
        "held-out pairs": len(held_out),
        **{f"pairs of {kind}": count for kind, count in trained.counts.items()},
        "training pairs with hard negatives": sum(bool(pair.negatives) for pair in train_pairs),
        "hard negatives": sum(len(pair.negatives) for pair in train_pairs),
        **mined.skipped,
    }
