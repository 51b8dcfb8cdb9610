"""The main job: from a person's own files to an embedder for them, with the table that shows what it is worth.

Mine pairs, write them and a recipe, train as `udever train` would, score the held-out files before and after beside
BM25, and write everything into one folder:

    pairs.parquet   every mined pair, with its split
    model/          the embedder (`Embedder.load`), with its recipe
    results.json    the table
    report.html     the same to look at

The folder appears whole at the end. Until then the run lives in a folder of its own beside it, with the pairs, what
was asked for, the log and the checkpoints; a run that was stopped goes on there.
"""

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from udever.embedder import Embedder
from udever.errors import DataError, OutputError, UdeverError
from udever.evaluation import Results, RetrievalSet, score_bm25, score_embedder
from udever.model.markers import Markers
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.mining import KINDS, STANDARD_LIBRARY_EXCLUDE, Mined, mine, standard_library
from udever.pairs.schema import Pair
from udever.pairs.settings import DataSettings
from udever.report.comparison_page import Extras, write_report
from udever.search import top_k
from udever.storage import atomic_file, atomic_folder, check_replaceable
from udever.training import FRESH, SEEDLING, History
from udever.training.checkpoint import checkpoints, differences
from udever.training.claim import LOCK, claimed
from udever.training.recipe import ModelSettings, OutputSettings, Recipe, TrainingSettings, WatchSettings
from udever.training.run import Start, check_begun, fit_recipe, forget, open_recipe

FRESH_TRAINING = TrainingSettings(
    tuning="full", batch_size=128, epochs=4.0, learning_rate=3e-3, schedule="cosine", warmup=0.05
)
"""What a base with random weights needs in place of the paper's settings."""

SEEDLING_TRAINING = TrainingSettings(
    tuning="full", batch_size=128, epochs=2.0, learning_rate=3e-4, schedule="cosine", warmup=0.1
)
"""For a small embedder that is trained already: all of it moves, a little."""

_CHECKPOINT_EVERY = 100

DEMO_QUESTIONS = (
    "how do I copy a whole directory tree",
    "parse a date written in ISO format",
    "split a shell command line into its arguments",
)


PRETRAINED_TRAINING = TrainingSettings(epochs=3.0)
"""The paper's settings, and its three epochs."""


def default_training(base: str) -> TrainingSettings:
    """The settings that suit a base."""
    return {FRESH: FRESH_TRAINING, SEEDLING: SEEDLING_TRAINING}.get(base, PRETRAINED_TRAINING)


@dataclass(frozen=True)
class Job:
    """What `adapt` is asked to do; `settings` None takes what suits the base."""

    paths: Sequence[Path]
    output: Path
    base: str = SEEDLING
    kinds: Collection[str] = KINDS
    exclude: Sequence[str] = ()
    language: str | None = None
    held_out: float = 0.1
    max_queries: int = 2000
    settings: TrainingSettings | None = None
    markers: Markers = "auto"
    max_length: int = 300
    questions: Sequence[str] = field(default=())
    seed: int = 0


def demo_job(output: Path, base: str = SEEDLING) -> Job:
    """`adapt` on the standard library of the interpreter that runs."""
    return Job(
        paths=[standard_library()],
        output=output,
        base=base,
        kinds=("code",),
        exclude=STANDARD_LIBRARY_EXCLUDE,
        language="eng-Latn",
        questions=DEMO_QUESTIONS,
    )


def run_folder(output: Path) -> Path:
    """Where a run lives until its output is written."""
    return output.with_name(f"{output.name}-checkpoints")


def adapt(job: Job, console: Console, *, resume: bool = False, restart: bool = False) -> Results | None:
    """Run the whole job and print as it goes; return the table, or None where a signal stopped the training.

    `resume` goes on with what was mined and trained before, `restart` throws it away; raises OutputError for neither
    where a run was begun, and for another job than was begun. Raises before any work where the output folder holds
    something else, DataError where the files give no pairs to train on or none to score on.
    """
    check_replaceable(job.output, "adapted", [*job.paths, job.base])
    kept = run_folder(job.output)
    check_begun(kept, resume=resume, restart=restart)
    mined = _begun(job, kept) if resume and (kept / _JOB).is_file() else None
    fresh = mined is None
    mined = mined or mine(
        job.paths,
        kinds=job.kinds,
        exclude=job.exclude,
        held_out=job.held_out,
        seed=job.seed,
        language=job.language,
    )
    train, held_out = _split(mined)
    console.print(
        f"{mined.num_files:,} files gave {len(train):,} training pairs and {len(held_out):,} held-out pairs "
        f"(other files; {sum(mined.skipped.values()):,} files and rows left out)"
    )
    with claimed(kept, job.output):
        if fresh:
            forget(kept)
            _begin(job, mined, kept)
        try:
            results = _run(job, mined, Start(resume=resume), console)
        except UdeverError:
            if not checkpoints(kept):  # nothing to go on with
                _clear(kept)
            raise
    if results is not None:
        _clear(kept)
        console.print(f"written: {job.output}/model, results.json, report.html, pairs.parquet")
    return results


_JOB, _PAIRS = "adapt.json", "pairs.parquet"


def _clear(kept: Path) -> None:
    """Remove what a run of `adapt` wrote into its folder, and the folder where nothing else lies in it."""
    forget(kept)
    for name in (_JOB, _PAIRS, LOCK):
        (kept / name).unlink(missing_ok=True)
    with suppress(OSError):
        kept.rmdir()


def _asked(job: Job) -> dict[str, Any]:
    """The job as JSON has it, so that it can be compared with one that was begun."""
    values = {**vars(job), "settings": _recipe(job).training.model_dump(mode="json")}
    values["kinds"] = sorted(job.kinds)
    return json.loads(json.dumps(values, default=str))


def _begin(job: Job, mined: Mined, kept: Path) -> None:
    write_pairs(mined.pairs, kept / _PAIRS)
    content = {"job": _asked(job), "skipped": mined.skipped, "num_files": mined.num_files}
    with atomic_file(kept / _JOB) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _begun(job: Job, kept: Path) -> Mined:
    """What the run that was begun in `kept` has mined. Raises OutputError where it was begun for another job."""
    try:
        content = json.loads((kept / _JOB).read_text(encoding="utf-8"))
        changed = differences(content["job"], _asked(job))
        mined = Mined(read_pairs(kept / _PAIRS), content["skipped"], content["num_files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{kept} cannot be gone on with: {error}; begin anew with --restart") from error
    if changed:
        raise OutputError(f"{kept} was begun with other options ({changed[0]}); give the same, or --restart")
    return mined


def _run(job: Job, mined: Mined, start: Start, console: Console) -> Results | None:
    train, held_out = _split(mined)
    recipe = _recipe(job)
    own = recipe.model_copy(
        update={
            "data": DataSettings(pairs=[str(run_folder(job.output) / _PAIRS)]),
            "watch": WatchSettings(checkpoints=str(run_folder(job.output)), checkpoint_every=_CHECKPOINT_EVERY),
        }
    )
    opened = open_recipe(own)
    questions = RetrievalSet.from_pairs(held_out, max_queries=job.max_queries, seed=job.seed)
    rows = {"bm25": score_bm25(questions), "before": score_embedder(opened[0], questions, show_progress=True)}
    trained = fit_recipe(own, opened, start)
    if trained.history.stopped:
        return None
    embedder, history = trained.embedder, trained.history
    rows["after"] = score_embedder(embedder, questions, show_progress=True)
    results = Results(rows, details=_details(embedder, job, mined, history))
    results.show(console)
    examples = _answer(embedder, job.questions, mined.pairs, console)
    extras = Extras(
        losses=[(step.number, step.loss) for step in history.steps],
        counts={"training pairs": len(train), "held-out pairs": len(held_out), **mined.skipped},
        examples=examples,
        settings=_settings(recipe),
    )
    with atomic_folder(job.output, "adapted") as folder:
        write_pairs(mined.pairs, folder / _PAIRS)
        trained.save(folder / "model", recipe)
        results.write(folder / "results.json")
        write_report(folder / "report.html", results, extras)
    return results


def _split(mined: Mined) -> tuple[list[Pair], list[Pair]]:
    train = [pair for pair in mined.pairs if pair.split == "train"]
    held_out = [pair for pair in mined.pairs if pair.split == "held_out"]
    if len(train) < 2 or not held_out:
        raise DataError(
            f"the files give {len(train)} training and {len(held_out)} held-out pairs; expected at least 2 and 1 "
            f"from different files: give more files, or change --held-out"
        )
    return train, held_out


def _recipe(job: Job) -> Recipe:
    return Recipe(
        model=ModelSettings(base=job.base, markers=job.markers, max_length=job.max_length),
        data=DataSettings(pairs=[str(job.output / "pairs.parquet")]),
        training=(job.settings or default_training(job.base)).model_copy(update={"seed": job.seed}),
        output=OutputSettings(folder=str(job.output / "model")),
    )


def _details(embedder: Embedder, job: Job, mined: Mined, history: History) -> dict[str, object]:
    return {
        "base": job.base,
        "fingerprint": embedder.fingerprint,
        "num_files": mined.num_files,
        "skipped": mined.skipped,
        "num_steps": len(history.steps),
        "num_trainable": history.num_trainable,
        "num_truncated": history.num_truncated,
    }


def _settings(recipe: Recipe) -> dict[str, object]:
    sections = recipe.model_dump(include={"model", "training"})
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def _answer(
    embedder: Embedder, questions: Sequence[str], pairs: Sequence[Pair], console: Console
) -> list[tuple[str, list[tuple[float, str, str]]]]:
    """For each question the three nearest of all mined texts; print them."""
    if not questions:
        return []
    distinct = {pair.positive: pair for pair in pairs}
    documents = list(distinct)
    vectors = embedder.encode_document(documents, show_progress=True)
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
