"""The paper's findings, one choice at a time: short trainings, each unlike the first in one thing.

    python arms.py --data DIR [--base gemma3-270m] [--output runs/arms] [--steps 24] [--arms random mean ...] [--seed 0]

Every arm is a recipe of english.py with a line changed, trained by `udever train` and scored by `udever eval` on the
tasks of development.py. What is done is not done again; another `--seed` is scored beside the first, and the table has
the mean of all and how far they lie apart. Ends with OUTPUT/arms.md.
"""

import argparse
import json
import os
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import correlation, fmean, stdev

from bases import first_layers, random_weights
from data import SOURCES, XNLI, Source, write_entailment, write_pairs
from development import LANGUAGES, write_development
from english import closed_by_words, recipe, udever

from udever.model.markers import ONE_WORD

TASKS = {
    "stsb_dev": "STS, 5 languages",
    "mlqa_dev": "MLQA, 6 languages",
    "mlqa_across": "over English passages",
    "segments": "segments, 19 languages to English",
}
BY_LANGUAGE = {"stsb_dev": TASKS["stsb_dev"], "segments": TASKS["segments"], "headings": "headings, 20 languages"}
"""For arms that differ in the language of their pairs; some headings are English pairs of the others."""


@dataclass(frozen=True)
class Arm:
    """What it is called, the lines of the recipe it changes, and what it is trained on.

    `kinds` of English pairs and whether graded ones too; or entailment in `languages`, the same sentences in each.
    `base` is what is trained: "" as given, "random", or its first layers; with `untrained` it is scored as it comes, or
    with the suffix. `dtype` it is scored in: random weights make something else of a text wherever a sum is rounded.
    """

    name: str
    changes: dict[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("symmetric", "asymmetric")
    graded: bool = False
    languages: tuple[str, ...] = ()
    base: str = ""
    untrained: bool = False
    dtype: str = "auto"

    def sees(self, source: Source) -> bool:
        """Whether it trains on a source; on MLQA's none does, which has the questions that arms are scored by."""
        if source.file == "qa_mlqa_dev" or (source.graded and not self.graded):
            return False
        return source.kind in self.kinds


SUFFIX = {"model.markers": '"auto"', "model.suffix": json.dumps(ONE_WORD)}
CHOICES = {
    "untrained": Arm("as it comes", untrained=True),
    "untrained_suffix": Arm("as it comes, one word asked for", SUFFIX, untrained=True),
    "random_suffix": Arm(
        "random weights of the same shape, one word asked for", SUFFIX, base="random", untrained=True, dtype="float32"
    ),
    "plain": Arm("LoRA of rank 16, last token, causal, 5e-4, temperature 0.05"),
    "random": Arm("random weights of the same shape", base="random", dtype="float32"),
    "symmetric": Arm("symmetric pairs alone", kinds=("symmetric",)),
    "asymmetric": Arm("asymmetric pairs alone", kinds=("asymmetric",)),
    "graded": Arm("with the STS benchmark's grades, in their order", graded=True),
    "mean": Arm("mean pooling", {"model.pooling": '"mean"'}),
    "weighted": Arm("weighted mean pooling", {"model.pooling": '"weighted_mean"'}),
    "bidirectional": Arm("mean pooling, bidirectional", {
        "model.pooling": '"mean"', "model.attention": '"bidirectional"',
    }),
    "suffix": Arm("closed by words in place of a token", SUFFIX),
    "suffix15": Arm("the same, the first 15 layers", SUFFIX, base="15"),
    "suffix_cold": Arm("the same, temperature 0.02", SUFFIX | {"loss.temperature": "0.02"}),
    "suffix_rate2": Arm("the same, 2e-4", SUFFIX | {"training.learning_rate": "2e-4"}),
    "roles": Arm("role markers", {"model.markers": '"roles"'}),
    "rank64": Arm("LoRA of rank 64", {"training.lora_rank": "64"}),
    "full": Arm("all weights but the table, 5e-5", {"training.tuning": '"full"', "training.learning_rate": "5e-5"}),
    "rate2": Arm("2e-4", {"training.learning_rate": "2e-4"}),
    "rate10": Arm("1e-3", {"training.learning_rate": "1e-3"}),
    "cold": Arm("temperature 0.02", {"loss.temperature": "0.02"}),
    "warm": Arm("temperature 0.1", {"loss.temperature": "0.1"}),
    "wide": Arm("a quarter of the steps, batches of 256", {"training.batch_size": "256", "training.max_steps": "6"}),
    "averaged": Arm("a constant rate and averaged weights", {
        "training.schedule": '"constant"', "training.average": "0.99",
    }),
    "others": Arm("anchors and documents among the negatives", {
        "loss.anchor_anchor": "true", "loss.document_document": "true",
    }),
}  # fmt: skip
PAIRS = {
    "steps3": Arm("192 pairs", {"training.max_steps": "3"}),
    "steps8": Arm("512 pairs", {"training.max_steps": "8"}),
    "plain": Arm("1,536 pairs"),
    "steps80": Arm("5,120 pairs", {"training.max_steps": "80"}),
}
LAYERS = {
    "layers6": Arm("the first 6 layers", base="6"),
    "layers12": Arm("the first 12 layers", base="12"),
    "layers15": Arm("the first 15 layers", base="15"),
    "plain": Arm("all 18"),
}
LANGUAGE_STEPS = {"training.max_steps": "13"}
"""One pass over the 830 pairs of a language."""
PAIRS_IN = {
    "untrained": Arm("as it comes", untrained=True),
    **{f"in_{name}": Arm(f"pairs in {name}", LANGUAGE_STEPS, languages=(name,)) for name in XNLI},
    "in_all": Arm("pairs in all of them", LANGUAGE_STEPS, languages=tuple(XNLI)),
}
GROUPS = {
    "One choice at a time": CHOICES,
    "Number of pairs": PAIRS,
    "Layers": LAYERS,
    "Language of the pairs": PAIRS_IN,
}
ARMS = {key: arm for group in GROUPS.values() for key, arm in group.items()} | {"plain": CHOICES["plain"]}


def main() -> None:
    """Train and score the arms that are not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("UDEVER_DATA"), help="folder with pairs/ and eval/")
    parser.add_argument("--base", default="gemma3-270m")
    parser.add_argument("--output", type=Path, default=Path("runs/arms"))
    parser.add_argument("--steps", type=int, default=24, help="of 64 pairs, each arm that sets no other number")
    parser.add_argument("--memory-gb", type=float, default=8.0)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--temperature", type=float, default=0.05)
    parser.set_defaults(suffix="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "eval").is_dir():
        parser.error(
            f"--data is {options.data}; expected a folder with eval/ and pairs/, as english.py names their sets"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    pairs, tasks = options.output / "pairs", options.output / "tasks"
    if not pairs.is_dir():
        write_pairs(options.data / "pairs", pairs, graded=True)
        write_entailment(options.data / "pairs", pairs)
    if not tasks.is_dir():
        write_development(options.data, tasks)
    for key in options.arms:
        _run(key, options, pairs, tasks)
        (options.output / "arms.md").write_text(tables(options.output / "results"))
    print((options.output / "arms.md").read_text())


def _run(key: str, options: argparse.Namespace, pairs: Path, tasks: Path) -> None:
    run = f"{key}-{options.seed}"
    model = str(options.output / run)
    if ARMS[key].untrained:
        base = _base(ARMS[key], options)
        model = base
        if ARMS[key].changes:
            model = closed_by_words(base, ONE_WORD, options.output / run, ARMS[key].dtype)
    elif not (Path(model) / "udever.json").is_file():
        written = options.output / f"{run}.toml"
        written.write_text(_recipe(ARMS[key], options, pairs, Path(model)))
        udever("train", str(written), "--resume")
    for task in {task: None for group in GROUPS.values() if key in group for task in _tasks(group)}:
        results = str(options.output / "results")
        how = ("--name", run, "--dtype", ARMS[key].dtype, "--data", str(tasks / task), "-o", results)
        udever("eval", "-m", model, *how)


def _recipe(arm: Arm, options: argparse.Namespace, pairs: Path, model: Path) -> str:
    if arm.languages:
        shares = {pairs / f"entailment.{language}.parquet": 1 / len(arm.languages) for language in arm.languages}
    else:
        shares = {pairs / f"{source.file}.parquet": source.share for source in SOURCES if arm.sees(source)}
    return changed(recipe(options, _base(arm, options), shares, model), arm.changes)


def _base(arm: Arm, options: argparse.Namespace) -> str:
    if not arm.base:
        return options.base
    folder = options.output / f"base-{arm.base}"
    if not (folder / "config.json").is_file():
        if arm.base == "random":
            random_weights(options.base, folder)
        else:
            first_layers(options.base, folder, int(arm.base))
    return str(folder)


def changed(text: str, changes: dict[str, str]) -> str:
    """The recipe with these keys (`section.key`) set to these values, written as TOML."""
    lines = text.splitlines()
    for name, value in changes.items():
        section, key = name.split(".")
        lines = [line for line in lines if not line.startswith(f"{key} = ")]
        if f"[{section}]" not in lines:
            lines += ["", f"[{section}]"]
        lines.insert(lines.index(f"[{section}]") + 1, f"{key} = {value}")
    return "\n".join(lines) + "\n"


def tables(results: Path) -> str:
    """A table for each group, a row for each arm that has results; pairs by language have a column for each too."""
    parts = []
    for title, group in GROUPS.items():
        tasks = _tasks(group)
        lines = [f"| arm | seeds | {' | '.join(tasks.values())} |", "|---" * (len(tasks) + 2) + "|"]
        for key, arm in group.items():
            runs = [means for path in sorted(results.glob(f"local__{key}-*")) if (means := _means(path, tasks))]
            if runs:
                cells = [_cell([run[task] for run in runs if task in run]) for task in tasks]
                lines.append(f"| {arm.name} | {len(runs)} | {' | '.join(cells)} |")
        parts.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    return "\n".join([*parts, *(_by_language(results, task) for task in ("headings", "segments")), _alike(results)])


def _tasks(group: dict[str, Arm]) -> dict[str, str]:
    return BY_LANGUAGE if group is PAIRS_IN else TASKS


def _by_language(results: Path, task: str) -> str:
    """Scores of a task, a row for each language of the pairs and a column for each language tested."""
    lines = [f"| {task}, pairs in | {' | '.join(LANGUAGES)} |", "|---" * (len(LANGUAGES) + 1) + "|"]
    for key in PAIRS_IN:
        subsets = subsets_of(results / f"local__{key}-0", task)
        if subsets:
            cells = [f"{subsets[found]:.2f}" if (found := _found(subsets, name)) else "" for name in LANGUAGES]
            lines.append(f"| {key.removeprefix('in_')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _alike(results: Path) -> str:
    """How the scores of the languages of segments go together after pairs in one language and in another."""
    found = {name: subsets_of(results / f"local__in_{name}-0", "segments") for name in XNLI}
    pairs = combinations([name for name, subsets in found.items() if subsets], 2)
    lines = ["| segments, pairs in | correlation over languages |", "|---|---|"]
    for one, other in pairs:
        both = sorted(found[one].keys() & found[other].keys())
        value = correlation([found[one][key] for key in both], [found[other][key] for key in both])
        lines.append(f"| {one}, {other} | {value:.2f} |")
    return "\n".join(lines) + "\n"


def _found(subsets: dict[str, float], language: str) -> str:
    return next((name for name in (language, f"{language}-en") if name in subsets), "")


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def _means(folder: Path, tasks: dict[str, str]) -> dict[str, float]:
    return {task: fmean(subsets.values()) for task in tasks if (subsets := subsets_of(folder, task))}


def subsets_of(folder: Path, task: str) -> dict[str, float]:
    """The main score of every subset of a task, of the newest results in a model's folder; {} where there are none."""
    paths = sorted(folder.glob(f"*/{task}.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return {}
    [subsets] = json.loads(paths[-1].read_text())["scores"].values()
    return {subset["hf_subset"]: subset["main_score"] for subset in subsets}


if __name__ == "__main__":
    main()
