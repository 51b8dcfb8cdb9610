"""Nine small models that differ in the language or the kind of their pairs alone, for the figures that compare those.

    python recipes/figures/arms.py -o runs/arms
    for arm in runs/arms/*; do udever eval -m $arm -o runs/results; done
    udever report runs/results -o runs/report

Each is the seedling, finetuned for a few seconds on pairs from texts.jsonl: forty short statements in six languages,
each with a sentence that goes on from it, the same in other words, and a question that the two sentences answer. A
symmetric pair is a statement and its other wording, an asymmetric one a question and the two sentences. The texts were
written for this and stand in no evaluation set. Forty of them show how the figures are made, not what the languages are
worth: recipes/language_model has the larger experiment.
"""

import argparse
import json
from pathlib import Path

from udever import Recipe, train
from udever.pairs.files import write_pairs
from udever.pairs.schema import Kind, Pair
from udever.pairs.settings import DataSettings
from udever.training import SEEDLING, ModelSettings, OutputSettings, TrainingSettings, WatchSettings

TEXTS = Path(__file__).with_name("texts.jsonl")
LANGUAGES = {
    "eng": "eng-Latn",
    "deu": "deu-Latn",
    "fra": "fra-Latn",
    "rus": "rus-Cyrl",
    "tur": "tur-Latn",
    "cmn": "cmn-Hans",
}
UNSPACED = {"cmn"}
KINDS: dict[str, tuple[Kind, ...]] = {
    "symmetric": ("symmetric",),
    "asymmetric": ("asymmetric",),
    "both": ("symmetric", "asymmetric"),
}
TRAINING = TrainingSettings(  # epochs without end: all take the same number of steps, however many pairs they have
    tuning="full", batch_size=40, epochs=1000, max_steps=40, learning_rate=3e-4, schedule="cosine", warmup=0.1
)


def arms() -> dict[str, list[Pair]]:
    """The pairs of each model, by its name: one language each, then all languages with one kind of pairs each."""
    found = {language: pairs([language], KINDS["both"]) for language in LANGUAGES}
    return found | {name: pairs(list(LANGUAGES), kinds) for name, kinds in KINDS.items()}


def pairs(languages: list[str], kinds: tuple[Kind, ...]) -> list[Pair]:
    """All pairs of these languages and kinds. The same statement in two languages is never a negative of itself."""
    rows = [json.loads(line) for line in TEXTS.read_text(encoding="utf-8").splitlines()]
    return [
        _pair(row[language], language, kind, str(number))
        for kind in kinds
        for language in languages
        for number, row in enumerate(rows)
    ]


def _pair(texts: list[str], language: str, kind: Kind, group: str) -> Pair:
    statement, more, reworded, question = texts
    passage = ("" if language in UNSPACED else " ").join((statement, more))
    anchor, positive = (statement, reworded) if kind == "symmetric" else (question, passage)
    code = LANGUAGES[language]
    return Pair(anchor, positive, anchor_language=code, positive_language=code, kind=kind, group=group)


def main() -> None:
    """Train every model that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/arms"))
    options = parser.parse_args()
    for name, rows in arms().items():
        folder = options.output / name
        if folder.exists():
            continue
        work = options.output.with_name(f"{options.output.name}-work") / name
        write_pairs(rows, work / "pairs.parquet")
        recipe = Recipe(
            model=ModelSettings(base=SEEDLING),
            data=DataSettings(pairs=[str(work / "pairs.parquet")]),
            training=TRAINING,
            watch=WatchSettings(checkpoints=str(work / "checkpoints")),
            output=OutputSettings(folder=str(folder)),
        )
        history = train(recipe, restart=True, show_progress=False)
        print(f"{folder}: {len(rows)} pairs, loss {history.steps[0].loss:.3f} to {history.steps[-1].loss:.3f}")


if __name__ == "__main__":
    main()
