"""The files of the package that four things pass, counted while they happen: `python dev/walks.py [--functions]`.

A file is passed where one of its functions runs between beginning and end; class bodies and imports are not counted,
since each thing has happened once before. Files that only check or show are told apart. `load`: the name of a folder to
an embedder. `embed`: a corpus file to shards, the model loaded. `gradient`: a pairs file, opened, to the gradients of
one step. `hits`: a question to an open index, the model loaded.
"""

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import udever
from udever import Embedder, Index, Recipe
from udever.corpus import EmbedStep, Reading, run_job
from udever.pairs.mixture import Mixture
from udever.search.lance import LanceStore
from udever.search.update import IndexSettings, update_index
from udever.training.loop import Trainer

_PACKAGE = f"{Path(udever.__file__).parent}/"
_ASIDE = {"errors.py", "habits.py", "nearest.py", "progress.py", "terminal.py"}
"""Files that only check or show."""


def walk(thing: Callable[[], object]) -> dict[str, dict[str, int]]:
    """How often each function of each file runs while `thing` happens, files in the order in which they are entered."""
    found: dict[str, dict[str, int]] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE):
            functions = found.setdefault(code.co_filename.removeprefix(_PACKAGE), {})
            functions[code.co_qualname] = functions.get(code.co_qualname, 0) + 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        thing()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found


def _write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def things(folder: Path) -> dict[str, Callable[[], object]]:
    """The four, on the bundled model and a few texts written to `folder`."""
    model = Embedder.load("seedling")
    texts = [f"text {number} of a few" for number in range(4)]
    corpus = _write(folder / "corpus.jsonl", [{"text": text} for text in texts])
    pairs = _write(folder / "pairs.jsonl", [{"anchor": text[:6], "positive": text} for text in texts])
    recipe = Recipe.model_validate(
        {
            "model": {"base": "seedling"},
            "data": {"datasets": [{"name": "pairs", "path": pairs}]},
            "training": {"batch_size": 2},
            "output": {"folder": str(folder / "model")},
        }
    )
    (folder / "tree").mkdir()
    (folder / "tree" / "adding.py").write_text("def total(a, b):\n    return a + b\n")
    store = LanceStore(folder / "index")
    update_index(store, [folder / "tree"], lambda _: model, IndexSettings("seedling"))
    index = Index(store)
    trained = Embedder.load("seedling", dtype="float32")
    trainer = Trainer.prepare(trained, Mixture.open(recipe.data, batch_size=2, seed=0), recipe.training, recipe.loss)
    numbers = iter(range(100))

    def gradient() -> None:
        trainer.mixture = Mixture.open(recipe.data, batch_size=2, seed=0)
        trainer.step(0)

    return {
        "load": lambda: Embedder.load("seedling"),
        "embed": lambda: run_job(
            EmbedStep(model), Reading([corpus]), folder / f"out{next(numbers)}", show_progress=False
        ),
        "gradient": gradient,
        "hits": lambda: index.search(model, "adding two numbers", 3),
    }


def main() -> None:
    """Print the four walks."""
    parser = argparse.ArgumentParser(description="The files that four things pass.")
    parser.add_argument("--functions", action="store_true", help="what runs in each file, and how often")
    shown = parser.parse_args().functions
    with tempfile.TemporaryDirectory() as folder:
        for name, thing in things(Path(folder)).items():
            thing()  # what is made once is there
            files = walk(thing)
            print(f"{name}: {len(files)} files, {len(_ASIDE & files.keys())} of which only check or show")
            for file, functions in files.items():
                ran = ": " + ", ".join(f"{function} {count}" for function, count in functions.items())
                print(f"    {file}{ran if shown else ''}")


if __name__ == "__main__":
    main()
