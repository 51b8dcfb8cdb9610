"""One choice of the experiment at a time: short trainings, each unlike the first in one thing, on development tasks.

    python arms.py --data DIR [--base gemma3-270m] [--output runs/arms] [--steps 40] [--arms random mean ...]

Every arm is a recipe of english.py with a line changed, trained by `udever train` and scored by `udever eval` on the
tasks of development.py. What is done is not done again. Ends with OUTPUT/arms.md.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from data import SOURCES, Source, write_pairs
from development import write_development
from english import recipe, udever
from safetensors.torch import load_file, save_file

TASKS = {"stsb_dev": "STS, 5 languages", "mlqa_dev": "MLQA, 6 languages", "mlqa_across": "over English passages"}


@dataclass(frozen=True)
class Arm:
    """What it is called, the lines of the recipe it changes, the kinds of pairs it sees, whether graded ones too."""

    name: str
    changes: dict[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("symmetric", "asymmetric")
    graded: bool = False

    def sees(self, source: Source) -> bool:
        """Whether it trains on a source; on MLQA's none does, which has the questions that arms are scored by."""
        if source.file == "qa_mlqa_dev" or (source.graded and not self.graded):
            return False
        return source.kind in self.kinds


ARMS = {
    "plain": Arm("LoRA of rank 16, last token, causal"),
    "untrained": Arm("as it comes"),
    "random": Arm("random weights of the same shape"),
    "graded": Arm("with the STS benchmark's grades, in their order", graded=True),
    "symmetric": Arm("symmetric pairs alone", kinds=("symmetric",)),
    "asymmetric": Arm("asymmetric pairs alone", kinds=("asymmetric",)),
    "mean": Arm("mean pooling", {"pooling": "mean"}),
    "weighted": Arm("weighted mean pooling", {"pooling": "weighted_mean"}),
    "bidirectional": Arm("mean pooling, bidirectional", {"pooling": "mean", "attention": "bidirectional"}),
    "roles": Arm("role markers", {"markers": "roles"}),
    "rank64": Arm("LoRA of rank 64", {"lora_rank": "64"}),
}
NUMBERS = ("lora_rank",)


def main() -> None:
    """Train and score the arms that are not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("UDEVER_DATA"), help="folder with pairs/ and eval/")
    parser.add_argument("--base", default="gemma3-270m")
    parser.add_argument("--output", type=Path, default=Path("runs/arms"))
    parser.add_argument("--steps", type=int, default=40, help="of 64 pairs, each arm")
    parser.add_argument("--memory-gb", type=float, default=8.0)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
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
        write_pairs(options.data / "pairs", pairs, options.seed, graded=True)
    if not tasks.is_dir():
        write_development(options.data, tasks)
    for key in options.arms:
        _run(key, options, pairs, tasks)
        (options.output / "arms.md").write_text(table(options.output / "results"))
    print((options.output / "arms.md").read_text())


def _run(key: str, options: argparse.Namespace, pairs: Path, tasks: Path) -> None:
    model = options.output / key
    base = options.base
    if key == "random":
        base = str(options.output / "random-base")
        if not Path(base).is_dir():
            random_weights(options.base, Path(base))
    if key != "untrained" and not (model / "udever.json").is_file():
        shares = {pairs / f"{source.file}.parquet": source.share for source in SOURCES if ARMS[key].sees(source)}
        settings = argparse.Namespace(**{**vars(options), "base": base})
        written = options.output / f"{key}.toml"
        written.write_text(changed(recipe(settings, shares, model), ARMS[key].changes))
        udever("train", str(written), "--resume")
    given = options.base if key == "untrained" else str(model)
    for task in TASKS:
        udever("eval", "-m", given, "--name", key, "--data", str(tasks / task), "-o", str(options.output / "results"))


def changed(text: str, changes: dict[str, str]) -> str:
    """The recipe with its [model] and [training] lines of these names set to these values."""
    lines = [line for line in text.splitlines() if line.split(" = ")[0] not in changes]
    for name, value in changes.items():
        section, written = ("[training]", value) if name in NUMBERS else ("[model]", f'"{value}"')
        lines.insert(lines.index(section) + 1, f"{name} = {written}")
    return "\n".join(lines) + "\n"


def random_weights(base: str, folder: Path) -> None:
    """The base with every matrix replaced by normal noise of its own deviation; norms and tokenizer stay."""
    from udever import Embedder

    source = folder.with_name(folder.name + "-source")
    shutil.rmtree(source, ignore_errors=True)
    Embedder.load(base).save(source)
    rng = torch.Generator().manual_seed(0)
    folder.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.suffix == ".safetensors":
            tensors = {name: _noise(tensor, rng) for name, tensor in load_file(path).items()}
            save_file(tensors, folder / path.name, {"format": "pt"})
        elif path.name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(path, folder)
    shutil.rmtree(source)


def _noise(tensor: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    if tensor.dim() < 2:
        return tensor
    return (torch.randn(tensor.shape, generator=rng) * tensor.float().std()).to(tensor.dtype)


def table(results: Path) -> str:
    """A row for each arm that has results: the mean of a task's subsets."""
    lines = ["| arm | " + " | ".join(TASKS.values()) + " |", "|---|" + "---|" * len(TASKS)]
    for key, arm in ARMS.items():
        scores = dict(_scores(results / f"local__{key}"))
        if scores:
            cells = [f"{scores[task]:.3f}" if task in scores else "" for task in TASKS]
            lines.append(f"| {arm.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _scores(folder: Path) -> Iterator[tuple[str, float]]:
    for task in TASKS:
        for path in folder.glob(f"*/{task}.json"):
            [subsets] = json.loads(path.read_text())["scores"].values()
            yield task, fmean(subset["main_score"] for subset in subsets)


if __name__ == "__main__":
    main()
