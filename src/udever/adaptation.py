"""The main job: from a person's own files to an embedder for them, with the table that shows what it is worth.

Mine pairs or read tables of them, write a recipe, train by it, score what was held out before and after beside BM25,
and write everything into one folder:

    pairs.parquet   every pair, with its split
    model/          the embedder (`Embedder.load`), with its recipe
    held_out/       the held-out pairs as tasks, for `udever eval --data`
    results.json    the table
    report.html     the same to look at

The folder appears whole at the end. Until then the run lives in a folder of its own beside it, with the pairs, what
was asked for, the log, the checkpoints and the model; a run that was stopped goes on there.
"""

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from udever.embedder import Embedder
from udever.errors import DataError, OutputError, UdeverError
from udever.evaluation import Comparison, score_bm25, score_embedder, write_held_out
from udever.evaluation.tasks import FolderTask
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.gathering import Gathering, gather, is_table_of_pairs, told_columns
from udever.pairs.mining import KINDS, STANDARD_LIBRARY_EXCLUDE, Mined
from udever.pairs.schema import Pair
from udever.pairs.settings import DataSettings
from udever.report.adaptation import Extras, write_adaptation_report
from udever.search import top_k
from udever.storage import atomic_file, atomic_folder, check_replaceable, remove_output
from udever.training import (
    FRESH,
    SEEDLING,
    History,
    ModelSettings,
    OutputSettings,
    Recipe,
    TrainingSettings,
    WatchSettings,
    train,
)
from udever.training.checkpoint import checkpoints, claimed, differences
from udever.training.recipe import RECIPE_FILE
from udever.training.run import check_begun, forget, open_recipe

_SMALL = {"tuning": "full", "batch_size": 128, "schedule": "cosine"}
_SUITED = {
    FRESH: TrainingSettings(**_SMALL, epochs=4.0, learning_rate=3e-3, warmup=0.05),
    SEEDLING: TrainingSettings(**_SMALL, epochs=2.0, learning_rate=3e-4, warmup=0.1),  # trained already: a little
}


_ASKED, _PAIRS, _MODEL = "adapt.json", "pairs.parquet", "model"
_CHECKPOINT_EVERY = 100


def default_training(base: str) -> TrainingSettings:
    """The settings that suit a base: the paper's and its three epochs, or what a small model needs."""
    return _SUITED.get(base, TrainingSettings(epochs=3.0))


@dataclass(frozen=True)
class AdaptSettings:
    """What `adapt` mines, how it trains and what it scores.

    `kinds`, `exclude`, `language`, `held_out`, and for tables of pairs `held_out_by`, `columns` and `skip_empty` are
    those of `gather`; `max_queries` bounds the held-out queries;
    `training` None takes what suits the base; `questions` are answered at the end from all that was mined.
    """

    kinds: Collection[str] = KINDS
    exclude: Sequence[str] = ()
    language: str | None = None
    held_out: float = 0.1
    held_out_by: str = "text"
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_empty: bool = False
    max_queries: int = 2000
    training: TrainingSettings | None = None
    max_length: int = 300
    questions: Sequence[str] = ()
    seed: int = 0

    @property
    def gathering(self) -> Gathering:
        """What is gathered."""
        return Gathering(**{part.name: getattr(self, part.name) for part in fields(Gathering)})


DEMO = AdaptSettings(
    kinds=("code",),
    exclude=STANDARD_LIBRARY_EXCLUDE,
    language="eng-Latn",
    questions=(
        "how do I copy a whole directory tree",
        "parse a date written in ISO format",
        "split a shell command line into its arguments",
    ),
)
"""For the standard library of the interpreter that runs (`udever.pairs.mining.standard_library`)."""


def run_folder(output: Path) -> Path:
    """Where a run lives until its output is written."""
    return output.with_name(f"{output.name}-checkpoints")


def adapt(
    paths: Sequence[str | Path],
    output: str | Path,
    settings: AdaptSettings = AdaptSettings(),
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
    training = (settings.training or default_training(base)).model_copy(update={"seed": settings.seed})
    asked = {**vars(settings), "paths": paths, "base": base, "kinds": sorted(settings.kinds)}
    asked = json.loads(json.dumps({**asked, "training": training.model_dump(mode="json")}, default=str))
    begun = _begun(asked, kept) if resume and (kept / _ASKED).is_file() else None
    mined = begun or gather(paths, settings.gathering)
    for path in filter(is_table_of_pairs, paths):
        console.print(told_columns(path, settings.columns), markup=False, highlight=False)
    train_pairs, held_out = _split(mined)
    console.print(
        f"{mined.num_files:,} files gave {len(train_pairs):,} training pairs and {len(held_out):,} held-out pairs "
        f"(nothing of them in training; {sum(mined.skipped.values()):,} files and rows left out)"
    )
    recipe = Recipe(
        model=ModelSettings(base=base, max_length=settings.max_length),
        data=DataSettings(pairs=[str(kept / _PAIRS)]),
        training=training,
        watch=WatchSettings(checkpoints=str(kept), checkpoint_every=_CHECKPOINT_EVERY, evaluate_queries=0),
        output=OutputSettings(folder=str(kept / _MODEL)),
    )
    with claimed(output):
        if begun is None:
            _begin(asked, mined, kept)
        try:
            history = train(recipe, resume=begun is not None, restart=begun is None)
        except UdeverError:
            if not checkpoints(kept):  # nothing to go on with
                _clear(kept)
            raise
        if history.stopped:
            return None
        embedder, results = _score(recipe, mined, settings, history)
        results.show(console)
        extras = Extras(
            losses=[(step.number, step.loss) for step in history.steps],
            counts={"training pairs": len(train_pairs), "held-out pairs": len(held_out), **mined.skipped},
            examples=_answer(embedder, settings.questions, mined.pairs, console),
            settings={
                f"{section}.{key}": value
                for section, values in recipe.model_dump(include={"model", "training"}).items()
                for key, value in values.items()
            },
        )
        _write(output, recipe, mined, settings, results, extras)
        _clear(kept)
    console.print(f"written: {output}/model, results.json, report.html, pairs.parquet, held_out")
    return results


def _begin(asked: dict[str, Any], mined: Mined, kept: Path) -> None:
    """Write what was mined, and what for."""
    write_pairs(mined.pairs, kept / _PAIRS)
    content = {"asked": asked, "skipped": mined.skipped, "num_files": mined.num_files}
    with atomic_file(kept / _ASKED) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _begun(asked: dict[str, Any], kept: Path) -> Mined:
    """What the run that was begun in `kept` has mined. Raises OutputError where something else was asked for."""
    try:
        content = json.loads((kept / _ASKED).read_text(encoding="utf-8"))
        changed = differences(content["asked"], asked)
        mined = Mined(read_pairs(kept / _PAIRS), content["skipped"], content["num_files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{kept} cannot be gone on with: {error}; begin anew with --restart") from error
    if changed:
        raise OutputError(f"{kept} was begun with other options ({changed[0]}); give the same, or --restart")
    return mined


def _clear(kept: Path) -> None:
    """Remove what a run wrote into its folder, and the folder where nothing else lies in it."""
    forget(kept)
    remove_output(kept / _MODEL, "model")
    for name in (_ASKED, _PAIRS):
        (kept / name).unlink(missing_ok=True)
    with suppress(OSError):
        kept.rmdir()


def _split(mined: Mined) -> tuple[list[Pair], list[Pair]]:
    train_pairs = [pair for pair in mined.pairs if pair.split == "train"]
    held_out = [pair for pair in mined.pairs if pair.split == "held_out"]
    if len(train_pairs) < 2 or not held_out:
        raise DataError(
            f"the files give {len(train_pairs)} training and {len(held_out)} held-out pairs; expected at least 2 and 1 "
            f"that share no file and no text: give more, or change --held-out"
        )
    return train_pairs, held_out


def _score(recipe: Recipe, mined: Mined, settings: AdaptSettings, history: History) -> tuple[Embedder, Comparison]:
    """The embedder that was written, and the table of the held-out pairs: BM25, the base, the embedder."""
    embedder = Embedder.load(recipe.output.folder, dtype="float32")
    with tempfile.TemporaryDirectory() as scratch:
        tasks = _held_out_tasks(mined, settings, Path(scratch))
        rows = {
            "bm25": score_bm25(tasks),
            "before": score_embedder(open_recipe(recipe)[0], tasks, show_progress=True),
            "after": score_embedder(embedder, tasks, show_progress=True),
        }
    details = {
        "base": recipe.model.base,
        "fingerprint": embedder.fingerprint,
        "num_files": mined.num_files,
        "skipped": mined.skipped,
        "num_steps": len(history.steps),
        "num_trainable": history.num_trainable,
        "num_truncated": history.num_truncated,
    }
    return embedder, Comparison(rows, details=details)


def _held_out_tasks(mined: Mined, settings: AdaptSettings, folder: Path) -> list[FolderTask]:
    return write_held_out(_split(mined)[1], folder, max_queries=settings.max_queries, seed=settings.seed)


def _write(
    output: Path, recipe: Recipe, mined: Mined, settings: AdaptSettings, results: Comparison, extras: Extras
) -> None:
    """The whole output at once; the recipe in it names the files as they lie there."""
    update = {
        "data": DataSettings(pairs=[str(output / _PAIRS)]),
        "watch": WatchSettings(),
        "output": OutputSettings(folder=str(output / _MODEL)),
    }
    with atomic_folder(output, "adapted") as folder:
        write_pairs(mined.pairs, folder / _PAIRS)
        shutil.move(recipe.output.folder, folder / _MODEL)
        (folder / _MODEL / RECIPE_FILE).write_text(recipe.model_copy(update=update).to_toml(), encoding="utf-8")
        results.write(folder / "results.json")
        _held_out_tasks(mined, settings, folder / "held_out")
        write_adaptation_report(folder / "report.html", results, extras)


def _answer(
    embedder: Embedder, questions: Sequence[str], pairs: Sequence[Pair], console: Console
) -> list[tuple[str, list[tuple[float, str, str]]]]:
    """For each question the three nearest of all mined texts; print them."""
    if not questions:
        return []
    distinct = {pair.positive: pair for pair in pairs}
    documents = list(distinct)
    vectors = embedder.encode_document(documents, show_progress_bar=True)
    scores, indices = top_k(embedder.encode_query(questions), vectors, 3)
    answers = []
    for question, row, hits in zip(questions, scores, indices, strict=True):
        found = [(float(s), distinct[documents[i]].source or "", documents[i]) for s, i in zip(row, hits, strict=True)]
        console.print(f"\n[bold]{question}?[/bold]")
        for score, source, text in found:
            console.print(f"  {score:.2f}  {source}: {_first_line(text)}", markup=False, highlight=False)
        answers.append((question, found))
    return answers


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("@")), "")
