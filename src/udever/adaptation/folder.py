"""The folder that a run of `adapt` lives in until its output is written, and what is written there and then."""

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from udever.errors import OutputError
from udever.evaluation.comparison import Comparison
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.mining import ASKED, Mined
from udever.pairs.mining.pieces import read_pieces, write_pieces
from udever.pairs.settings import DataSettings
from udever.report.adaptation import Extras, write_adaptation_report
from udever.saving import add_to_card
from udever.search.words_weight import write_words_weight
from udever.storage import (
    MARKER,
    atomic_file,
    atomic_folder,
    check_folder,
    check_replaceable,
    listed,
    remove_output,
    write_marker,
)
from udever.training import OutputSettings, Recipe, WatchSettings
from udever.training.checkpoint import checkpoints, differences
from udever.training.log import LOG_FILE
from udever.training.recipe import RECIPE_FILE
from udever.training.run import check_begun, forget
from udever.training.run_folder import check_own, take

ASKED_FOR, CORPUS, MODEL, CARD = "adapt.json", "corpus.parquet", "model", "README.md"
PAIRS, STUDIED = "pairs.parquet", "studied.parquet"
HELD_OUT, DEVELOPMENT, RESULTS = "held_out", "development", "results"
ATTEMPTS, TRIED = "attempts", "tried.json"
_FOLDERS, _FILES = (HELD_OUT, DEVELOPMENT, RESULTS, ATTEMPTS), (ASKED_FOR, PAIRS, STUDIED, CORPUS, TRIED)
_NAMES = {*_FOLDERS, *_FILES, MODEL, LOG_FILE}
"""What lies in the folder of a run, beside checkpoints, which have markers of their own."""


def run_folder(output: Path) -> Path:
    """Where a run lives until its output is written."""
    return output.with_name(f"{output.name}-checkpoints")


def check_places(output: Path, inputs: Iterable[str | Path], *, resume: bool, restart: bool) -> None:
    """Raise OutputError where a run may not write its output, or live beside it until then."""
    inputs = list(inputs)
    check_replaceable(output, "adapted", inputs)
    kept = run_folder(output)
    check_folder(kept, inputs)
    check_begun(kept, resume=resume, restart=restart)
    if resume and checkpoints(kept) and not (kept / ASKED_FOR).is_file():
        raise OutputError(
            f"{kept} holds checkpoints that no run of adapt has left; begin anew with --restart, or give another "
            f"output folder"
        )
    check_own(kept, sorted(_NAMES))


def going_on(kept: Path, *, resume: bool, restart: bool) -> str | None:
    """What is taken over of a run that was stopped in `kept`, in a line; None where none is there or sought."""
    is_begun = (kept / ASKED_FOR).is_file()
    if restart or not (is_begun or resume):
        return None
    if not is_begun:
        return f"there is no run to go on with in {kept}: it begins anew"
    if not resume:
        return (
            f"the run in {kept} was stopped before its first checkpoint and begins anew; --resume takes its pairs over"
        )
    if not checkpoints(kept):
        taken = "its pairs are taken over; there is no checkpoint yet, so training begins anew"
    else:
        taken = "its pairs and its training up to the last checkpoint are taken over"
    return f"going on with the run in {kept}: {taken}"


def write_gathered(mined: Mined, folder: Path) -> None:
    """Pairs that ask something, and apart from them those that are learned from alone, where there are some."""
    num_asked = sum(kind in ASKED for kind in mined.kinds)
    write_pairs(mined.pairs[:num_asked], folder / PAIRS)
    if mined.pairs[num_asked:]:
        write_pairs(mined.pairs[num_asked:], folder / STUDIED)


def data_of(mined: Mined, folder: Path) -> DataSettings:
    """What `write_gathered` wrote into a folder, as the data of a recipe: batches of both."""
    is_more = any(kind not in ASKED for kind in mined.kinds)
    return DataSettings(pairs=[str(folder / name) for name in (PAIRS, *((STUDIED,) * is_more))], mixed=is_more)


def begin(asked: dict[str, Any], mined: Mined, mining_s: float, kept: Path) -> None:
    """Write what was mined, how long that took, and what for; what an earlier run left is gone before.

    What it was for comes last: a folder without it holds no run that could be resumed.
    """
    clear(kept)
    take(kept, sorted(_NAMES))
    write_gathered(mined, kept)
    write_pieces(mined.corpus, kept / CORPUS)
    content = {"asked": asked, "skipped": mined.skipped, "num_files": mined.num_files, "kinds": mined.kinds}
    content["mining_s"] = mining_s
    with atomic_file(kept / ASKED_FOR) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def begun_in(asked: dict[str, Any], kept: Path) -> tuple[Mined, float]:
    """What the run that was begun in `kept` has mined, and how long that took.

    Raises OutputError where something else was asked for.
    """
    try:
        content = json.loads((kept / ASKED_FOR).read_text(encoding="utf-8"))
        changed = differences(content["asked"], asked)
        pairs = [pair for name in (PAIRS, STUDIED) if (kept / name).is_file() for pair in read_pairs(kept / name)]
        corpus = read_pieces(kept / CORPUS)
        mined = Mined(pairs, content["skipped"], content["num_files"], corpus, content["kinds"])
        mining_s = float(content["mining_s"])
        if len(pairs) != len(mined.kinds):
            raise ValueError(f"it has {len(pairs)} pairs and the kinds of {len(mined.kinds)}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"the run in {kept} cannot be resumed: {error}; start over with --restart") from error
    if changed:
        raise OutputError(f"the run in {kept} was started with other options ({changed[0]}); give them, or --restart")
    return mined, mining_s


def clear(kept: Path) -> None:
    """Remove what a run wrote into its folder, and the folder where nothing else lies in it.

    Pairs go after what they were mined for, so that what is left is never taken for a whole run.
    """
    forget(kept)
    if not listed(kept, "run") >= _NAMES:  # no run of adapt
        return
    remove_output(kept / MODEL, "model")
    for name in _FOLDERS:
        shutil.rmtree(kept / name, ignore_errors=True)
    for name in (*_FILES, MARKER):
        (kept / name).unlink(missing_ok=True)
    with suppress(OSError):
        kept.rmdir()


def write_output(
    output: Path, recipe: Recipe, mined: Mined, results: Comparison, extras: Extras, words_weight: float
) -> None:
    """The whole output at once; the recipe in it, and the pairs, as those lie there that were trained on."""
    update = {
        "data": data_of(mined, output),
        "watch": WatchSettings(evaluate_queries=0),  # held-out code is learned from: the rows would count as leaks
        "output": OutputSettings(folder=str(output / MODEL)),
    }
    kept = run_folder(output)
    with atomic_folder(output, "adapted") as folder:
        write_gathered(mined, folder)
        shutil.move(recipe.output.folder, folder / MODEL)
        for name in (HELD_OUT, RESULTS):
            shutil.move(kept / name, folder / name)
        own = folder / MODEL / RECIPE_FILE  # as training resolved it
        own.write_text(Recipe.read(own).model_copy(update=update).to_toml(), encoding="utf-8")
        add_to_card(folder / MODEL / CARD, results.to_results(), results.to_markdown())
        write_words_weight(folder / MODEL, words_weight)
        write_marker(folder / MODEL, "model")  # it lists what has come to the model here
        write_adaptation_report(folder / "report.html", results, extras)
