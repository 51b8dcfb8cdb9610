"""What `udever adapt` is worth on projects that the seedling has not been trained on, with ablations.

    python bench/adapt.py --work runs/bench-adapt                        # fetch all, adapt to each, the table so far
    python bench/adapt.py --work runs/bench-adapt --only viem celery --ablations
    python bench/adapt.py --work runs/bench-adapt --checkout mine=path/to/repository
    python bench/adapt.py --work runs/bench-adapt --beside path/to/all-MiniLM-L6-v2
    python bench/adapt.py --work runs/bench-english --base runs/english/model --only ethers scrapy go-git
    python bench/adapt.py --work runs/bench-adapt --only osmium --shuffled   # as usual, each text with another's answer
    python bench/adapt.py --work runs/try --only activesync sequel --quick   # that it works: a few steps each

Packages of pinned versions come by `pip download`, `npm pack` and, on Debian 12, `apt-get download`; none of them has a
history, so what commits are worth is seen in checkouts that are named. Each run is an ordinary `adapt` whose results
folder is read; what is there is not run again. A run takes minutes; all of them with ablations take hours.
"""

import argparse
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from udever import Embedder
from udever.adaptation import AdaptSettings, adapt
from udever.adaptation.settings import default_training
from udever.evaluation.comparison import ADAPTED, ADAPTED_WORDS, BASE, BASE_WORDS, WORDS, Comparison
from udever.evaluation.held_out import read_held_out, read_questions, score_held_out
from udever.evaluation.lexical import FusedSearch
from udever.evaluation.models_under_test import ModelUnderTest
from udever.evaluation.mteb_model import as_mteb
from udever.evaluation.statistics import paired_bootstrap
from udever.evaluation.tasks import find_tasks
from udever.pairs.files import read_pairs, write_pairs
from udever.pairs.mining import ASKED, USUAL_KINDS
from udever.pairs.mining.within import MINERS
from udever.training import Recipe, WatchSettings, train

EXCLUDE = ("test/", "tests/", "*_test.go", "_cjs/", "_esm/", "lib.commonjs/", "lib.esm/", "dist/", "*.min.js", "*.d.ts")
HELD_OUT = 0.2
SYSTEMS = {WORDS: "baseline/bm25", **{name: name for name in (BASE, ADAPTED, BASE_WORDS, ADAPTED_WORDS)}}
BESIDE, BESIDE_WORDS = "beside", "beside + words"


@dataclass(frozen=True)
class Project:
    """A package (`name==version` of pip, `name@version` of npm, `name=version` of Debian), or a folder in it.

    `asked` are the kinds that it is asked for.
    """

    name: str
    language: str
    package: str
    folder: str = "."
    asked: tuple[str, ...] = ("code",)

    @property
    def fetching(self) -> list[str]:
        """The command that fetches it into the folder it runs in."""
        if "==" in self.package:
            name = self.package.partition("==")[0]
            return [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, self.package]
        if "@" in self.package:
            return ["npm", "pack", "--silent", self.package]
        return ["apt-get", "download", "-q", self.package]


PROJECTS = (
    Project("viem", "TypeScript", "viem@2.21.0"),
    Project("ethers", "TypeScript", "ethers@6.13.2", "package/src.ts"),
    Project("react-native-java", "Java", "react-native@0.74.0", "package/ReactAndroid"),
    Project("react-native-cpp", "C++", "react-native@0.74.0", "package/ReactCommon"),
    Project("jpype", "Java, C++", "JPype1==1.5.0"),
    Project("osmium", "C++", "osmium==3.7.0"),
    Project("celery", "Python", "celery==5.4.0"),
    Project("scrapy", "Python", "scrapy==2.11.2"),
    Project("go-git", "Go", "golang-github-go-git-go-git-dev=5.4.2-3"),
    Project("containers-storage", "Go", "golang-github-containers-storage-dev=1.43.0+ds1-8"),
    Project("sequoia", "Rust", "librust-sequoia-openpgp-dev=1.12.0-2"),
    Project("cargo", "Rust", "librust-cargo-dev=0.66.0-1"),
    Project("activesync", "PHP", "php-horde-activesync=2.41.9-1"),
    Project("sequel", "Ruby", "ruby-sequel=5.63.0-1"),
    Project("celery-docs", "English", "celery==5.4.0", asked=("docs",)),
    Project("scrapy-docs", "English", "scrapy==2.11.2", asked=("docs",)),
    Project(
        "handbook-fr",
        "French",
        "debian-handbook=11.20220922",
        "usr/share/doc/debian-handbook/html/fr-FR",
        asked=("docs",),
    ),
)


def fetch(project: Project, work: Path) -> Path:
    """The folder of a project, downloaded and unpacked where it is not there."""
    place = work / "packages" / project.package.replace("/", "_")
    if not place.is_dir():
        archives = place.with_name(f"{place.name}-archive")
        archives.mkdir(parents=True, exist_ok=True)
        subprocess.run(project.fetching, cwd=archives, check=True)
        partial = place.with_name(f"{place.name}-partial")  # so that a fetch that was killed does not count
        packages = list(archives.glob("*.deb"))
        if packages:
            subprocess.run(["dpkg-deb", "-x", packages[0], partial], check=True)
        else:
            with tarfile.open(next(archives.glob("*.t*gz"))) as content:
                content.extractall(partial, filter="data")
        partial.rename(place)
    return place / project.folder


def kinds_of(project: Project, studied: Sequence[str]) -> tuple[str, ...]:
    """What is asked of a project, and what is learned from besides."""
    return (*project.asked, *studied)


EVERY = AdaptSettings(minutes=0)
QUICK = replace(
    EVERY,
    training=default_training("seedling").model_copy(update={"max_steps": 8, "batch_size": 32}),
    max_queries=50,
    max_studied=300,
)


def ablations() -> dict[str, AdaptSettings]:
    """Each by name: the usual kinds, none besides questions, each alone, all but each, more; negatives, rates, time.

    All but the first are trained once.
    """
    every = replace(EVERY, trainings=1)
    found = {
        "as usual": EVERY,
        "trained once": every,
        "questions alone": replace(every, kinds=ASKED),
        "not chosen": replace(every, development=0.0),
        "names and mentions alone": replace(every, kinds=(*ASKED, "names", "mentions")),
        "two hard negatives": replace(every, negatives=2),
        "tried in ten minutes": replace(every, minutes=10.0),
    }
    found |= {f"{kind} alone": replace(every, kinds=(*ASKED, kind)) for kind in MINERS}
    usual = [kind for kind in MINERS if kind in USUAL_KINDS]
    found |= {f"without {kind}": replace(every, kinds=tuple(k for k in USUAL_KINDS if k != kind)) for kind in usual}
    found |= {f"with {kind}": replace(every, kinds=(*USUAL_KINDS, kind)) for kind in MINERS if kind not in usual}
    for epochs, rate in ((4.0, 5e-4), (4.0, 1e-3), (4.0, 4e-3)):
        training = default_training("seedling").model_copy(update={"epochs": epochs, "learning_rate": rate})
        found[f"{epochs:g} passes at {rate:g}"] = replace(every, training=training)
    return found


def run(name: str, folder: Path, settings: AdaptSettings, work: Path, base: str, beside: str | None) -> Comparison:
    """The table of one adaptation, run where it is not there; `beside` is a model to be asked the same questions."""
    output = work / "runs" / name
    if not (output / "report.html").is_file():
        started = time.monotonic()
        if adapt([folder], output, settings, base=base, resume=True) is None:
            sys.exit(130)  # a signal stopped it; the next call goes on
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    tasks = find_tasks(output / "held_out")
    scores = read_held_out(output / "results", tasks, SYSTEMS)
    if beside is not None:
        model = as_mteb(Embedder.load(beside, dtype="float32"), name=BESIDE)
        systems = {BESIDE: model, BESIDE_WORDS: FusedSearch(BESIDE_WORDS, model)}
        tested = [ModelUnderTest(name, None, lambda system=system: system) for name, system in systems.items()]
        scores |= score_held_out(tested, tasks, work / "beside" / name)
    return Comparison(scores, read_questions(tasks))


def run_shuffled(name: str, folder: Path, settings: AdaptSettings, work: Path, base: str) -> Comparison:
    """The table of one adaptation beside one training on its pairs, each anchor with another's positive.

    What that gains is not learned from what belongs together; its row stands where the adapted model's does.
    """
    table = run(name, folder, settings, work, base, None)
    output, own = work / "runs" / name, work / "shuffled" / name
    if not (own / "model" / "udever.json").is_file():
        own.mkdir(parents=True, exist_ok=True)
        files = []
        for path in filter(Path.is_file, (output / "pairs.parquet", output / "studied.parquet")):
            pairs = [pair for pair in read_pairs(path) if pair.split == "train"]
            positives = [pair.positive for pair in pairs]
            random.Random(0).shuffle(positives)
            moved = [replace(p, positive=text, negatives=()) for p, text in zip(pairs, positives, strict=True)]
            write_pairs(moved, own / path.name)
            files.append(str(own / path.name))
        used = Recipe.read(output / "model" / "recipe.toml")
        data = used.data.model_copy(update={"pairs": files})
        where = {"output": used.output.model_copy(update={"folder": str(own / "model")}), "watch": WatchSettings()}
        train(used.model_copy(update={"data": data, **where}), restart=True)
    tasks = find_tasks(output / "held_out")
    model = as_mteb(Embedder.load(own / "model", dtype="float32"), name=ADAPTED)
    systems = {ADAPTED: model, ADAPTED_WORDS: FusedSearch(ADAPTED_WORDS, model)}
    tested = [ModelUnderTest(name, None, lambda system=system: system) for name, system in systems.items()]
    found = score_held_out(tested, tasks, work / "shuffled-results" / name)
    scores = read_held_out(output / "results", tasks, SYSTEMS) | found
    return Comparison({name: scores[name] for name in table.rows}, read_questions(tasks))


def show(title: str, found: dict[str, Comparison]) -> None:
    """One Markdown table: MRR@10 of every system, the gain with its interval, the mean over the rows."""
    names = list(next(iter(found.values())).rows)
    print(f"\n{title}\n\n| | questions | texts | {' | '.join(names)} | {ADAPTED} minus {BASE} |")
    print("|---|---|---|" + "---|" * (len(names) + 1))
    for row, table in found.items():
        cells = " | ".join(f"{table.rows[name].means['mrr@10']:.3f}" for name in names)
        values = [table.rows[name].per_query["mrr@10"] for name in (ADAPTED, BASE)]
        gain = paired_bootstrap(*values)
        sure = f"{gain.difference:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
        print(f"| {row} | {table.num_queries} | {table.num_documents} | {cells} | {sure} |")
    means = [np.mean([table.rows[name].means["mrr@10"] for table in found.values()]) for name in names]
    print(f"| mean | | | {' | '.join(f'{mean:.3f}' for mean in means)} | {means[2] - means[1]:+.3f} |", flush=True)


def main() -> None:
    """Fetch, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for packages, runs and results")
    parser.add_argument("--only", nargs="*", default=[], help="projects by name")
    parser.add_argument("--checkout", nargs="*", default=[], metavar="NAME=FOLDER", help="projects of one's own")
    parser.add_argument("--base", default="seedling", help="what is adapted; a folder of its own (--work) for each")
    parser.add_argument("--beside", help="another model's folder or name, scored on the same questions")
    parser.add_argument("--ablations", action="store_true", help="every setting on every project")
    parser.add_argument("--settings", nargs="*", default=[], metavar="NAME", help="of the ablations these alone")
    parser.add_argument("--shuffled", action="store_true", help="train on pairs that do not belong together")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it works; the numbers are none")
    given = parser.parse_args()
    chosen = [project for project in PROJECTS if not given.only or project.name in given.only]
    folders = {project: fetch(project, given.work) for project in chosen}
    for checkout in given.checkout:
        name, _, folder = checkout.partition("=")
        folders[Project(name, "", folder, asked=ASKED)] = Path(folder)
    settings = ablations() if given.ablations else {"quick": QUICK} if given.quick else {"as usual": EVERY}
    if given.settings:
        settings = {name: ablations()[name] for name in given.settings}
    for title, wanted in settings.items():
        found = {}
        for project, folder in folders.items():
            studied = [kind for kind in wanted.kinds if kind not in ASKED]
            asked = replace(wanted, kinds=kinds_of(project, studied), exclude=EXCLUDE, held_out=HELD_OUT)
            name = f"{project.name}-{title.replace(' ', '-')}"
            row = f"{project.name} ({project.language})"
            if given.shuffled:
                found[row] = run_shuffled(name, folder, asked, given.work, given.base)
            else:
                found[row] = run(name, folder, asked, given.work, given.base, given.beside)
            show(f"{title}, shuffled" if given.shuffled else title, found)


if __name__ == "__main__":
    main()
