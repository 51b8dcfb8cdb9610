"""Steps 3 and 4: every arm is finetuned by `udever train` and scored -> results.jsonl, a line an arm.

    python arms.py [NAME ...] [--steps 80] [--list]

Arms that have a line already are left out, so a run that was killed goes on with the arm it was in. All arms of a
backbone take the same number of steps with batches of the same size; an arm differs from `main-en` in what its name
says. Recipes are kept in recipes/, models are not, but for those in KEPT.
"""

import argparse
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from common import DATA, TRAIN, WORK
from score import make_sets, score

from udever import Embedder
from udever.pairs.settings import DatasetSettings, DataSettings
from udever.training import train
from udever.training.recipe import ModelSettings, OutputSettings, Recipe, TrainingSettings
from udever.training.run import load_base

BATCH, MAX_LENGTH, ROWS = 64, 64, 2410
RATES = {"full": 1e-3, "lora": 2e-3, "bitfit": 1e-2}
KEPT = ("main-en", "bilingual-en")
SYMMETRIC = "nli_xnli_dev"
ASYMMETRIC = ("docs_d365", "docs_heading_passage")


@dataclass(frozen=True)
class Arm:
    """One training run; with `steps` 0 the backbone as it is. `language` is a key of `TRAIN` or "all"."""

    name: str
    base: str = "main"
    language: str = "eng-Latn"
    kind: Literal["symmetric", "asymmetric", "both"] = "both"
    tuning: Literal["full", "lora", "bitfit"] = "full"
    markers: Literal["roles", "eos"] = "roles"
    pooling: Literal["last", "mean", "weighted_mean"] = "last"
    attention: Literal["causal", "bidirectional"] = "causal"
    seed: int = 0
    steps: int | None = None


def backbone_arms(base: str, languages: tuple[str, ...], **settings: Any) -> list[Arm]:
    """Before, and after training on each of these languages."""
    before = Arm(f"{base}-before", base, steps=0, **settings)
    return [before, *(Arm(f"{base}-{TRAIN.get(name, name)}", base, name, **settings) for name in languages)]


def make_arms() -> list[Arm]:
    """Every arm, the most important first."""
    english = Arm("main-en")
    arms = [
        *backbone_arms("main", ("eng-Latn",)),
        *backbone_arms("small", ("eng-Latn",)),
        *(replace(english, name=f"main-{TRAIN[name]}", language=name) for name in TRAIN if name != "eng-Latn"),
        replace(english, name="main-all", language="all"),
        *(replace(english, name=f"main-en-{kind}", kind=kind) for kind in ("symmetric", "asymmetric")),
        *(replace(english, name=f"main-en-{tuning}", tuning=tuning) for tuning in ("lora", "bitfit")),
        replace(english, name="main-en-eos", markers="eos"),
        *(replace(english, name=f"main-en-{pooling}", pooling=pooling) for pooling in ("weighted_mean", "mean")),
        replace(english, name="main-en-bidirectional", attention="bidirectional"),
        replace(english, name="main-en-bidirectional-mean", attention="bidirectional", pooling="mean"),
    ]
    changes = ({}, {"kind": "symmetric"}, {"kind": "asymmetric"})
    for seed in (1, 2):
        for change in changes:
            name = "-".join(("main-en", *change.values(), f"seed{seed}"))
            arms.append(replace(english, name=name, seed=seed, **change))
        arms.append(Arm(f"small-en-seed{seed}", "small", seed=seed))
    arms.append(Arm("small-all", "small", "all"))
    arms.append(replace(english, name="main-before-mean", pooling="mean", steps=0))
    arms += backbone_arms("random", ("eng-Latn",)) + backbone_arms("bilingual", ("eng-Latn", "fra-Latn", "all"))
    return arms + backbone_arms("aligned", ("eng-Latn", "fra-Latn", "cmn-Hans"), markers="eos")


def recipe_of(arm: Arm, steps: int) -> Recipe:
    """The arm as `udever train` reads it."""
    languages = None if arm.language == "all" else [TRAIN[arm.language]]
    cap = None if arm.language == "all" else ROWS
    pairs = DATA / "pairs"
    datasets = [
        DatasetSettings(name="symmetric", path=str(pairs / f"{SYMMETRIC}.parquet"), languages=languages, weight=1.0,
                        num_negatives=1),
        DatasetSettings(name="asymmetric", path=[str(pairs / f"{name}.parquet") for name in ASYMMETRIC],
                        languages=languages, weight=1.0, cap=cap),
    ]  # fmt: skip
    return Recipe(
        model=ModelSettings(base=str(WORK / arm.base), markers=arm.markers, pooling=arm.pooling,
                            attention=arm.attention, max_length=MAX_LENGTH),
        data=DataSettings(datasets=[one for one in datasets if arm.kind in ("both", one.name)]),
        training=TrainingSettings(tuning=arm.tuning, batch_size=BATCH, epochs=1000, max_steps=steps, seed=arm.seed,
                                  learning_rate=RATES[arm.tuning], schedule="cosine", warmup=0.1, memory_gb=2.0),
        output=OutputSettings(folder=str(WORK / "models" / arm.name)),
    )  # fmt: skip


def run(arm: Arm, steps: int) -> tuple[Embedder, dict[str, Any]]:
    """The trained embedder and what is known of its training."""
    recipe = recipe_of(arm, steps)
    began = time.process_time()
    if not (steps if arm.steps is None else arm.steps):
        return load_base(recipe.model), {"steps": 0, "num_trainable": 0}
    (WORK / "recipes").mkdir(exist_ok=True)
    (WORK / "recipes" / f"{arm.name}.toml").write_text(recipe.to_toml())
    history = train(recipe, restart=True, show_progress=False)
    last = [step.loss for step in history.steps[-10:]]
    known = {"steps": len(history.steps), "num_trainable": history.num_trainable, "loss": sum(last) / len(last),
             "tokens": sum(step.num_tokens for step in history.steps),
             "train_cpu_s": round(time.process_time() - began, 1)}  # fmt: skip
    return Embedder.load(recipe.output.folder, dtype="float32"), known


def main() -> None:
    """Run the arms that are named, or all, that are not there yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    arms = [arm for arm in make_arms() if not options.names or arm.name in options.names]
    if options.list:
        print("\n".join(arm.name for arm in arms))
        return
    results, sets = WORK / "results.jsonl", None
    for arm in arms:
        lines = results.read_text().splitlines() if results.exists() else []
        if any(json.loads(line)["arm"]["name"] == arm.name for line in lines) or not (WORK / arm.base).is_dir():
            continue
        sets = sets or make_sets()
        embedder, known = run(arm, options.steps)
        began = time.process_time()
        found = score(embedder, sets)
        known |= {"size": sum(p.numel() for p in embedder.backbone.parameters()),
                  "score_cpu_s": round(time.process_time() - began, 1)}  # fmt: skip
        with results.open("a") as file:
            file.write(json.dumps({"arm": asdict(arm), **known, **found}) + "\n")
        print(arm.name, known, found["nearest"], flush=True)
        if arm.name not in KEPT:
            for folder in (arm.name, f"{arm.name}-checkpoints"):
                shutil.rmtree(WORK / "models" / folder, ignore_errors=True)


if __name__ == "__main__":
    main()
