"""The main job: from a person's own files to an embedder for them, with the table that shows what it is worth.

Mine pairs, take a base, score it, finetune it on the training files, score it on the held-out files beside
BM25, and write everything into one folder:

    pairs.parquet   every mined pair, with its split
    model/          the embedder (`Embedder.load`), with its recipe
    results.json    the table
    report.html     the same to look at
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from udever.config import DataSettings, ModelSettings, OutputSettings, Recipe, TrainingSettings
from udever.data.mixture import Mixture
from udever.data.pairs import Pair, write_pairs
from udever.embedder import Embedder
from udever.errors import DataError
from udever.evaluate import Extras, Results, RetrievalSet, Scores, score_bm25, score_embedder, write_report
from udever.index import top_k
from udever.mine import KINDS, STANDARD_LIBRARY_EXCLUDE, Mined, mine, standard_library
from udever.model.markers import Markers
from udever.storage import atomic_folder, check_replaceable
from udever.train import FRESH, SEEDLING, History, finetune
from udever.train.recipe import load_base, save_trained

FRESH_TRAINING = TrainingSettings(
    tuning="full", batch_size=128, epochs=4.0, learning_rate=3e-3, schedule="cosine", warmup=0.05
)
"""What a base with random weights needs in place of the paper's settings."""

SEEDLING_TRAINING = TrainingSettings(
    tuning="full", batch_size=128, epochs=2.0, learning_rate=3e-4, schedule="cosine", warmup=0.1
)
"""For a small embedder that is trained already: all of it moves, a little."""

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


def adapt(job: Job, console: Console) -> Results:
    """Run the whole job and print as it goes; return the table.

    Raises before any work where the output folder holds something else, DataError where the files give
    no pairs to train on or none to score on. The output appears whole or not at all.
    """
    check_replaceable(job.output, "adapted", [*job.paths, job.base])
    mined = mine(
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
    recipe = _recipe(job)
    mixture = Mixture.of_pairs(train, recipe.training.batch_size, job.seed)
    embedder = load_base(recipe.model, mixture.texts(), job.seed)
    with atomic_folder(job.output, "adapted") as folder:
        write_pairs(mined.pairs, folder / "pairs.parquet")
        rows, history = _score_and_train(embedder, recipe, mixture, held_out, job)
        save_trained(embedder, recipe, history, mixture, folder / "model")
        results = Results(rows, details=_details(embedder, job, mined, history))
        results.show(console)
        examples = _answer(embedder, job.questions, mined.pairs, console)
        results.write(folder / "results.json")
        extras = Extras(
            losses=[(step.number, step.loss) for step in history.steps],
            counts={"training pairs": len(train), "held-out pairs": len(held_out), **mined.skipped},
            examples=examples,
            settings=_settings(recipe),
        )
        write_report(folder / "report.html", results, extras)
    console.print(f"written: {job.output}/model, results.json, report.html, pairs.parquet")
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


def _score_and_train(
    embedder: Embedder, recipe: Recipe, mixture: Mixture, held_out: Sequence[Pair], job: Job
) -> tuple[dict[str, Scores], History]:
    questions = RetrievalSet.from_pairs(held_out, max_queries=job.max_queries, seed=job.seed)
    rows = {"bm25": score_bm25(questions), "before": score_embedder(embedder, questions, show_progress=True)}
    history = finetune(embedder, mixture, recipe.training, recipe.loss, show_progress=True)
    rows["after"] = score_embedder(embedder, questions, show_progress=True)
    return rows, history


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
