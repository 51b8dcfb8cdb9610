"""From the options of a run to its list of jobs."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udever.errors import RecipeError
from udever.evaluation.run import SUITES, Job, folder_jobs, public_jobs
from udever.evaluation.tasks import find_tasks


@dataclass(frozen=True)
class Sources:
    """Where tasks come from. `tasks` keeps those named, with commas between; `overrides` is a JSON file of
    {task folder: {key of task.json: value}}.
    """

    suite: str | None = None
    data: tuple[Path, ...] = ()
    mteb: tuple[str, ...] = ()
    tasks: str | None = None
    overrides: Path | None = None


def plan(sources: Sources, results: Path) -> list[Job]:
    """Every job, in the order given; the universal suite where no source is named.

    Raises RecipeError for an unknown suite or task, naming the nearest, and for two tasks of one name; DataError for
    a folder that is none.
    """
    nothing = not (sources.data or sources.mteb or sources.suite)
    suite = "universal" if nothing else sources.suite
    overrides = _read_object(sources.overrides) if sources.overrides else {}
    folders = [*([_suite(suite)] if suite else []), *sources.data]
    found = [task for folder in folders for task in find_tasks(folder, overrides)]
    unused = set(overrides) - {task.folder.name for task in found}
    if unused:
        raise RecipeError(f"{sources.overrides} names {sorted(unused)[0]!r}, and no task folder is called so")
    jobs = _chosen([*folder_jobs(found), *public_jobs(sources.mteb, results)], sources.tasks)
    names = [job.name for job in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise RecipeError(f"two of the tasks are called {twice!r}; score them into different results folders")
    return jobs


def read_prompts(path: Path | None) -> dict[str, str]:
    """{task, type or role: prompt} from a JSON file; {} for none. Raises RecipeError for anything else."""
    if path is None:
        return {}
    content = _read_object(path)
    bad = next((name for name, prompt in content.items() if not isinstance(prompt, str)), None)
    if bad is not None:
        raise RecipeError(f"{path}: the prompt of {bad!r} is {content[bad]!r}; expected a text")
    return dict(content)


def _suite(name: str) -> Path:
    """The folder of a suite; its tasks lie in it directly, "universal" being the only one."""
    if name != "universal":
        raise RecipeError(f"there is no suite {name!r}; expected universal")
    return SUITES


def _chosen(jobs: list[Job], tasks: str | None) -> list[Job]:
    if tasks is None:
        return jobs
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    known = {job.name: job for job in jobs}
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise RecipeError(f"there is no task {name!r}; {hint}")
    return [known[name] for name in dict.fromkeys(wanted)]


def _read_object(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} cannot be read as JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is not a JSON object")
    return content
