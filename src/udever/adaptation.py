"""The main job: from a person's own files to an embedder for them, with the table that shows what it is worth.

Mine pairs or read tables of them, write a recipe, train by it, score the held-out questions over all that the files
hold, before and after, with BM25 and beside it, and write everything into one folder:

    pairs.parquet   every pair that asks something, with its split
    studied.parquet pairs that are learned from alone, where there are some
    model/          the embedder (`Embedder.load`), with its recipe
    held_out/       the held-out pairs as tasks, for `udever eval --data`
    results/        the scores of every row of the table, as `udever eval` writes them
    report.html     the table, and what lies behind it

The folder appears whole at the end. Until then the run lives in a folder of its own beside it, with the pairs, what
was asked for, the log, the checkpoints and the model; a run that was stopped goes on there.
"""

import json
import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from udever.choice import Choice, choose, move
from udever.embedder import Embedder
from udever.errors import DataError, OutputError, UdeverError
from udever.evaluation import Comparison, as_mteb, read_questions, score_held_out, write_held_out
from udever.evaluation.comparison import ADAPTED, ADAPTED_WORDS, BASE, BASE_WORDS, WORDS
from udever.evaluation.fused import FusedSearch
from udever.evaluation.lexical import lexical_model
from udever.evaluation.models_under_test import ModelUnderTest
from udever.evaluation.tasks import FolderTask
from udever.model.weights import read_config
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.gathering import Gathering, gather, is_table_of_pairs, told_columns
from udever.pairs.mining import ASKED, KINDS, STANDARD_LIBRARY_EXCLUDE, Mined
from udever.pairs.mining.pieces import read_pieces, write_pieces
from udever.pairs.schema import Pair, Split
from udever.pairs.settings import DataSettings
from udever.report.adaptation import Extras, write_adaptation_report
from udever.search import top_k
from udever.search.fusion import write_words_weight
from udever.storage import atomic_file, atomic_folder, check_replaceable, remove_output
from udever.training import (
    FRESH,
    SEEDLING,
    ModelSettings,
    OutputSettings,
    Recipe,
    TrainingSettings,
    WatchSettings,
    train,
)
from udever.training.checkpoint import checkpoints, claimed, differences
from udever.training.figure import FIGURE
from udever.training.recipe import RECIPE_FILE
from udever.training.run import TRAINING_FILE, check_begun, forget, open_recipe

_SMALL = {"tuning": "full", "batch_size": 128, "schedule": "cosine"}
_SUITED = {
    FRESH: TrainingSettings(**_SMALL, epochs=4.0, learning_rate=3e-3, warmup=0.05),
    SEEDLING: TrainingSettings(**_SMALL, epochs=3.0, learning_rate=5e-4, warmup=0.1),  # trained already: a little
}


_ASKED, _CORPUS, _MODEL = "adapt.json", "corpus.parquet", "model"
_PAIRS, _STUDIED = "pairs.parquet", "studied.parquet"
_HELD_OUT, _DEVELOPMENT, _RESULTS = "held_out", "development", "results"
_CHECKPOINT_EVERY = 100
_MAX_TO_CHOOSE = 4000


def default_training(base: str) -> TrainingSettings:
    """The settings that suit a base: the paper's and its three epochs, or what a small model needs."""
    return _SUITED.get(base, TrainingSettings(epochs=3.0))


@dataclass(frozen=True)
class AdaptSettings:
    """What `adapt` mines, how it trains and what it scores.

    `kinds`, `exclude`, `language`, `held_out`, `development`, and for tables of pairs `held_out_by`, `columns` and
    `skip_empty` are those of `gather`; `max_queries` bounds the held-out queries, `max_studied` the pairs of kinds
    that are learned from alone (a sample is taken), `max_seen` the rows that training sees, by fewer passes; `training`
    None takes what suits the base; `questions` are answered at the end from all that was mined.
    """

    kinds: Collection[str] = KINDS
    exclude: Sequence[str] = ()
    language: str | None = None
    held_out: float = 0.1
    development: float = 0.1
    held_out_by: str = "text"
    columns: Mapping[str, str] = field(default_factory=dict)
    skip_empty: bool = False
    max_queries: int = 2000
    max_studied: int = 20_000
    max_seen: int | None = 60_000
    training: TrainingSettings | None = None
    max_length: int = 300
    questions: Sequence[str] = ()
    seed: int = 0

    @property
    def gathering(self) -> Gathering:
        """What is gathered."""
        return Gathering(**{part.name: getattr(self, part.name) for part in fields(Gathering)})


DEMO = AdaptSettings(
    kinds=("code", "names"),
    max_studied=6_000,
    max_seen=10_000,
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
    mined = begun or _sampled(gather(paths, settings.gathering), settings)
    for path in filter(is_table_of_pairs, paths):
        console.print(told_columns(path, settings.columns), markup=False, highlight=False)
    train_pairs, held_out = _split(mined)
    if settings.max_seen is not None:
        passes = min(training.epochs, settings.max_seen / len(train_pairs))
        training = training.model_copy(update={"epochs": passes})
    console.print(
        f"{mined.num_files:,} files gave {len(train_pairs):,} training pairs and {len(held_out):,} held-out pairs "
        f"(nothing of them in training; {sum(mined.skipped.values()):,} files and rows left out)"
    )
    recipe = Recipe(
        model=ModelSettings(base=base, max_length=settings.max_length),
        data=_data(mined, kept),
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
        embedder, results = _score(recipe, mined, settings, kept, console)
        results.show(console)
        extras = Extras(
            losses=[(step.number, step.loss) for step in history.steps],
            counts={
                "training pairs": len(train_pairs),
                "held-out pairs": len(held_out),
                **{f"pairs of {kind}": count for kind, count in mined.counts.items()},
                **mined.skipped,
            },
            examples=_answer(embedder, settings.questions, mined, console),
            settings={
                f"{section}.{key}": value
                for section, values in recipe.model_dump(include={"model", "training"}).items()
                for key, value in values.items()
            },
        )
        _write(output, recipe, mined, results, extras)
        _clear(kept)
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


def _write_pairs(mined: Mined, folder: Path) -> None:
    """Pairs that ask something, and apart from them those that are learned from alone, where there are some."""
    num_asked = sum(kind in ASKED for kind in mined.kinds)
    write_pairs(mined.pairs[:num_asked], folder / _PAIRS)
    if mined.pairs[num_asked:]:
        write_pairs(mined.pairs[num_asked:], folder / _STUDIED)


def _data(mined: Mined, folder: Path) -> DataSettings:
    """What `_write_pairs` wrote into a folder, as the data of a recipe: batches of both."""
    is_more = any(kind not in ASKED for kind in mined.kinds)
    return DataSettings(pairs=[str(folder / name) for name in (_PAIRS, *((_STUDIED,) * is_more))], mixed=is_more)


def _begin(asked: dict[str, Any], mined: Mined, kept: Path) -> None:
    """Write what was mined, and what for."""
    _write_pairs(mined, kept)
    write_pieces(mined.corpus, kept / _CORPUS)
    content = {"asked": asked, "skipped": mined.skipped, "num_files": mined.num_files, "kinds": mined.kinds}
    with atomic_file(kept / _ASKED) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _begun(asked: dict[str, Any], kept: Path) -> Mined:
    """What the run that was begun in `kept` has mined. Raises OutputError where something else was asked for."""
    try:
        content = json.loads((kept / _ASKED).read_text(encoding="utf-8"))
        changed = differences(content["asked"], asked)
        pairs = [pair for name in (_PAIRS, _STUDIED) if (kept / name).is_file() for pair in read_pairs(kept / name)]
        corpus = read_pieces(kept / _CORPUS)
        mined = Mined(pairs, content["skipped"], content["num_files"], corpus, content["kinds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(f"{kept} cannot be gone on with: {error}; begin anew with --restart") from error
    if changed:
        raise OutputError(f"{kept} was begun with other options ({changed[0]}); give the same, or --restart")
    return mined


def _clear(kept: Path) -> None:
    """Remove what a run wrote into its folder, and the folder where nothing else lies in it."""
    forget(kept)
    remove_output(kept / _MODEL, "model")
    for name in (_HELD_OUT, _DEVELOPMENT, _RESULTS):
        shutil.rmtree(kept / name, ignore_errors=True)
    for name in (_ASKED, _PAIRS, _STUDIED, _CORPUS):
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


def _score(
    recipe: Recipe, mined: Mined, settings: AdaptSettings, kept: Path, console: Console
) -> tuple[Embedder, Comparison]:
    """The embedder that was chosen, and the table of the held-out questions over everything that was mined."""
    base, folder = open_recipe(recipe)[0], Path(recipe.output.folder)
    embedder = Embedder.load(folder, dtype="float32")
    chosen_by = _tasks(mined, "development", settings, kept / _DEVELOPMENT)
    choice = choose(base, embedder, chosen_by[0] if chosen_by else None)
    console.print(choice.sentence(), markup=False, highlight=False)
    if choice.share < 1:
        embedder = _save_chosen(recipe, base, embedder, choice)
        base = open_recipe(recipe)[0]
    write_words_weight(folder, choice.words_weight)
    tasks = _tasks(mined, "held_out", settings, kept / _HELD_OUT)
    models = {BASE: as_mteb(base, name=BASE), ADAPTED: as_mteb(embedder, name=ADAPTED)}
    systems = {
        WORDS: lexical_model("bm25", WORDS),
        **models,
        BASE_WORDS: FusedSearch(BASE_WORDS, models[BASE], choice.base_weight),
        ADAPTED_WORDS: FusedSearch(ADAPTED_WORDS, models[ADAPTED], choice.words_weight),
    }
    tested = [ModelUnderTest(name, None, lambda system=system: system) for name, system in systems.items()]
    scores = score_held_out(tested, tasks, kept / _RESULTS, show_progress=True)
    return embedder, Comparison(scores, read_questions(tasks))


def _save_chosen(recipe: Recipe, base: Embedder, trained: Embedder, choice: Choice) -> Embedder:
    """Write what lies between base and trained weights in place of the trained model, beside the same files."""
    folder = Path(recipe.output.folder)
    files = {name: (folder / name).read_text(encoding="utf-8") for name in (RECIPE_FILE, TRAINING_FILE, FIGURE)}
    dtype = read_config(folder).dtype
    if choice.share:
        move(base, trained, choice.share)
    base.save(
        folder,
        base=recipe.model.base,
        notes=f"\n## Chosen\n\nOf what training gave: {choice.sentence()}.\n",
        extra_files=files,
        dtype=dtype,
    )
    return Embedder.load(folder, dtype="float32")


def _tasks(mined: Mined, split: Split, settings: AdaptSettings, folder: Path) -> list[FolderTask]:
    """The questions of a split over everything that was mined; [] where it has none."""
    shutil.rmtree(folder, ignore_errors=True)
    wanted = [pair for pair in mined.pairs if pair.split == split]
    if not wanted:
        return []
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    others = [pair for pair in asked if pair.split != split]
    corpus = [Pair(piece.source, piece.text) for piece in mined.corpus]
    if split == "development":  # several models embed it: fewer texts tell the same
        others, corpus = [], random.Random(settings.seed).sample(corpus, min(len(corpus), _MAX_TO_CHOOSE))
    return write_held_out(
        wanted, folder, others=[*others, *corpus], max_queries=settings.max_queries, seed=settings.seed
    )


def _write(output: Path, recipe: Recipe, mined: Mined, results: Comparison, extras: Extras) -> None:
    """The whole output at once; the recipe in it names the files as they lie there."""
    update = {
        "data": _data(mined, output),
        "watch": WatchSettings(evaluate_queries=0),  # held-out code is learned from: the rows would count as leaks
        "output": OutputSettings(folder=str(output / _MODEL)),
    }
    kept = Path(recipe.output.folder).parent
    with atomic_folder(output, "adapted") as folder:
        _write_pairs(mined, folder)
        for name in (_MODEL, _HELD_OUT, _RESULTS):
            shutil.move(kept / name, folder / name)
        (folder / _MODEL / RECIPE_FILE).write_text(recipe.model_copy(update=update).to_toml(), encoding="utf-8")
        write_adaptation_report(folder / "report.html", results, extras)


def _answer(
    embedder: Embedder, questions: Sequence[str], mined: Mined, console: Console
) -> list[tuple[str, list[tuple[float, str, str]]]]:
    """For each question the three nearest of all texts that were mined; print them."""
    if not questions:
        return []
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    sources = {pair.positive: pair.source for pair in asked} | {piece.text: piece.source for piece in mined.corpus}
    documents = list(sources)
    vectors = embedder.encode_document(documents, show_progress_bar=True)
    scores, indices = top_k(embedder.encode_query(questions), vectors, 3)
    answers = []
    for question, row, hits in zip(questions, scores, indices, strict=True):
        found = [(float(s), sources[documents[i]] or "", documents[i]) for s, i in zip(row, hits, strict=True)]
        console.print(f"\n[bold]{question}?[/bold]")
        for score, source, text in found:
            console.print(f"  {score:.2f}  {source}: {_first_line(text)}", markup=False, highlight=False)
        answers.append((question, found))
    return answers


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("@")), "")
