"""What the trained model is worth: a choice by development questions, and the table of held-out ones."""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from udever.adaptation.attempts import Attempt
from udever.adaptation.choice import SHARES, choose, move
from udever.adaptation.folder import DEVELOPMENT, HELD_OUT, RESULTS
from udever.adaptation.settings import AdaptSettings, scored_in, texts_to_choose
from udever.embedder import Embedder
from udever.errors import DataError
from udever.evaluation.comparison import ADAPTED, ADAPTED_WORDS, BASE, BASE_WORDS, WORDS, Comparison
from udever.evaluation.held_out import read_questions, score_held_out, write_held_out
from udever.evaluation.lexical import FusedSearch, lexical_model
from udever.evaluation.models_under_test import ModelUnderTest
from udever.evaluation.mteb_model import MtebModel, as_mteb
from udever.evaluation.tasks import FolderTask
from udever.model.configuration import stored_dtype
from udever.pairs.mining import ASKED, Mined
from udever.pairs.schema import Pair, Split
from udever.progress import progress_bar
from udever.search.exact import top_k
from udever.training import FRESH, Recipe
from udever.training.card import FIGURE
from udever.training.recipe import RECIPE_FILE
from udever.training.run import TRAINING_FILE, open_recipe

AVERAGED = "each way, averaged"


@dataclass(frozen=True)
class Scored:
    """What was chosen: its attempt, the model with all that it has embedded, the table of the held-out questions.

    Of all together `attempt` is the first. `words_weight` is what words weigh beside it, `sentence` how it was chosen.
    """

    attempt: Attempt
    model: MtebModel
    results: Comparison
    words_weight: float
    sentence: str


def score(attempts: Sequence[Attempt], mined: Mined, settings: AdaptSettings, kept: Path, console: Console) -> Scored:
    """Choose by development questions, and ask the held-out ones, once.

    What is chosen lies in the output folder of its attempt's recipe afterwards. Behind several attempts stands a model
    whose weights are the mean of theirs, which finds more than they do on the average (dev/LOG.md).
    """
    recipe = attempts[0].recipes[0]
    dtype = scored_in(recipe.model.base)
    base = open_recipe(recipe, dtype)[0]
    num_texts = texts_to_choose(recipe.model.base, settings)
    chosen_by = tasks_of(mined, "development", settings, kept / DEVELOPMENT, num_texts)
    candidates = _candidates(attempts)
    trained = (_averaged(folders, dtype) for folders in candidates.values())
    base_model = as_mteb(base, name=BASE)
    num_models = 1 + len(candidates) * (1 + len(SHARES))
    with progress_bar("choosing", num_models, enabled=bool(chosen_by)) as advance:
        choice = choose(base, trained, chosen_by[0] if chosen_by else None, base_model, advance)
    sentence = choice.sentence(list(candidates))
    console.print(sentence, markup=False, highlight=False)
    attempt = attempts[choice.number] if choice.number < len(attempts) else attempts[0]
    folders = list(candidates.values())[choice.number]
    embedder = _averaged(folders, dtype)
    if choice.share < 1 or len(folders) > 1:
        del embedder
        _save_chosen(attempt.recipes[0], folders, choice.share, sentence)
        embedder = Embedder.load(attempt.recipes[0].output.folder, dtype=dtype)
    tasks = tasks_of(mined, "held_out", settings, kept / HELD_OUT, len(mined.corpus))
    models = {BASE: base_model, ADAPTED: as_mteb(embedder, name=ADAPTED)}
    systems = {
        WORDS: lexical_model("bm25", "1"),
        **models,
        BASE_WORDS: FusedSearch(BASE_WORDS, models[BASE], choice.base_weight),
        ADAPTED_WORDS: FusedSearch(ADAPTED_WORDS, models[ADAPTED], choice.words_weight),
    }
    tested = [ModelUnderTest(name, None, lambda system=system: system) for name, system in systems.items()]
    scores = score_held_out(tested, tasks, kept / RESULTS, show_progress=True)
    results = Comparison(scores, read_questions(tasks))
    return Scored(attempt, models[ADAPTED], results, choice.words_weight, sentence)


def _candidates(attempts: Sequence[Attempt]) -> dict[str, list[str]]:
    """By name the model folders whose weights' mean each candidate has: every attempt, and of several all together.

    Not of a base that each draws anew, vocabulary and weights: they are no neighbours, and have no mean.
    """
    found = {attempt.name: attempt.folders for attempt in attempts}
    if len(attempts) > 1 and attempts[0].recipes[0].model.base != FRESH:
        found[AVERAGED] = [folder for folders in found.values() for folder in folders]
    return found


def _averaged(folders: Sequence[str], dtype: str) -> Embedder:
    """A model whose weights are the mean of those in `folders`."""
    average = Embedder.load(folders[0], dtype=dtype)
    for number, folder in enumerate(folders[1:], 2):
        move(average, Embedder.load(folder, dtype=dtype), 1 / number)
    return average


def _save_chosen(recipe: Recipe, trained: Sequence[str], share: float, sentence: str) -> None:
    """Write what lies between base and trained weights in place of the trained model, beside the same files.

    In the precision of what was trained, and in float32 where that would round a base that is given back, whose weights
    a file in fewer bits may hold: the base that is given back is the base.
    """
    folder, base = Path(recipe.output.folder), open_recipe(recipe)[0]
    files = {name: (folder / name).read_text(encoding="utf-8") for name in (RECIPE_FILE, TRAINING_FILE, FIGURE)}
    stored = stored_dtype(folder)
    if share:
        move(base, _averaged(trained, "float32"), share)
    elif stored and not _is_exact(base, stored):
        stored = None
    base.save(
        folder,
        base=recipe.model.base,
        notes=f"\n## Chosen\n\nOf what training gave: {sentence}.\n",
        extra_files=files,
        dtype=stored,
    )


def _is_exact(model: Embedder, dtype: torch.dtype) -> bool:
    """Whether the weights are numbers of that precision."""
    weights = model.backbone.state_dict().values()  # pyright: ignore[reportAttributeAccessIssue]
    return all(torch.equal(t.to(dtype).to(t.dtype), t) for t in weights if t.is_floating_point())


def tasks_of(mined: Mined, split: Split, settings: AdaptSettings, folder: Path, max_texts: int) -> list[FolderTask]:
    """The questions of a split over everything that was mined; [] where it has none that can be scored to choose by.

    Of those to choose by, over their answers and a sample of `max_texts` of the rest: what was mined, and what tables
    answer.
    """
    shutil.rmtree(folder, ignore_errors=True)
    wanted = [pair for pair in mined.pairs if pair.split == split]
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    others = [pair for pair in asked if pair.split != split]
    corpus = [Pair(piece.source, piece.text) for piece in mined.corpus]
    if split == "development":
        files = {piece.source for piece in mined.corpus}
        rest = [*corpus, *(pair for pair in others if pair.source not in files)]
        others, corpus = [], random.Random(settings.seed).sample(rest, min(len(rest), max_texts))
    try:
        return write_held_out(
            wanted, folder, others=[*others, *corpus], max_queries=settings.max_queries, seed=settings.seed
        )
    except DataError:
        if split == "development":
            return []
        raise


def answer(
    model: MtebModel, questions: Sequence[str], mined: Mined, console: Console
) -> list[tuple[str, list[tuple[float, str, str]]]]:
    """For each question the three nearest of all texts that were mined; print them."""
    if not questions:
        return []
    asked = [pair for pair, kind in zip(mined.pairs, mined.kinds, strict=True) if kind in ASKED]
    sources = {pair.positive: pair.source for pair in asked} | {piece.text: piece.source for piece in mined.corpus}
    documents = list(sources)
    vectors = model.embed(documents, "document", None, "files")  # most of them were embedded for the table
    scores, indices = top_k(model.embed(questions, "query", None, "questions"), vectors, 3)
    answers = []
    for question, row, hits in zip(questions, scores, indices, strict=True):
        found = [(float(s), sources[documents[i]] or "", documents[i]) for s, i in zip(row, hits, strict=True)]
        console.print(f"\n{question}", style="bold", markup=False)
        for score, source, text in found:
            console.print(f"  {score:.2f}  {source}: {_first_line(text)}", markup=False, highlight=False)
        answers.append((question, found))
    return answers


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip() and not line.startswith("@")), "")
