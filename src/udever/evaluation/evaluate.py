"""`evaluate`: from models and tasks, as a person names them, to scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from udever.errors import RecipeError, first_line
from udever.evaluation.endpoint import EndpointOptions
from udever.evaluation.models_under_test import ModelOptions, model_under_test
from udever.evaluation.mteb_meta import require_mteb
from udever.evaluation.mteb_model import Role
from udever.evaluation.mteb_task import as_mteb_task
from udever.evaluation.run import KnownTasks, Outcome, TaskJob, mteb_version, run
from udever.evaluation.tasks import FolderTask, find_tasks
from udever.nearest import nearest, path_suggestion, suggestion
from udever.storage import check_folder

if TYPE_CHECKING:
    from udever.embedder import Embedder

SUITES = Path(__file__).parent / "suite"


@dataclass(frozen=True)
class Sources:
    """Where tasks come from. `tasks` keeps those named; `overrides` is a JSON file of
    {task folder: {key of task.json: value}}.
    """

    suite: str | None = None
    data: tuple[Path, ...] = ()
    mteb: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    overrides: Path | None = None


def evaluate(
    models: "str | Path | Embedder | Sequence[str | Path | Embedder]",
    tasks: str | Path | Sequence[str | Path] | Sources = "universal",
    *,
    results: str | Path = "results",
    options: ModelOptions | None = None,
    endpoint: EndpointOptions | None = None,
    show_progress: bool = False,
) -> list[Outcome]:
    """Score models on tasks and keep every score in the folder `results`; what is there already is not scored again.

    A model is an `Embedder`, a folder, a hub name, "st:NAME" for sentence-transformers, or a baseline ("bm25",
    "char-tfidf", "random"); with `endpoint` the name of one served there. A task is a folder with task.json or of such
    folders, "universal", or a task or benchmark of mteb by name. Returns what became of each model; `Outcome.scores`
    has its scores. A task that fails is noted in its Outcome and stops no other. Raises RecipeError for an unknown
    task, DataError for a folder that is none, ModelError for the only model where it cannot be loaded, MissingExtra
    without mteb. Prompts for what is no task here or in mteb, no type of tasks and no role are a RecipeError too.
    """
    sources = tasks if isinstance(tasks, Sources) else _sources(tasks)
    results, options = Path(results), options or ModelOptions()
    check_folder(results, [*sources.data, *([sources.overrides] if sources.overrides else [])])
    jobs = plan(sources, results)
    if options.prompts:
        _check_prompts(options.prompts, [*jobs, *_jobs(replace(sources, suite=sources.suite or "universal"), results)])
    listed = [models] if isinstance(models, str | Path) or not isinstance(models, Sequence) else models
    tested = [
        model_under_test(
            str(model) if isinstance(model, Path) else model,
            options,
            replace(endpoint, model=model) if endpoint is not None and isinstance(model, str) else None,
        )
        for model in listed
    ]
    return run(tested, jobs, results, show_progress=show_progress)


def _sources(tasks: str | Path | Sequence[str | Path]) -> Sources:
    """Each by what it is: a folder, a suite inside the package, a name of mteb's."""
    listed = [tasks] if isinstance(tasks, str | Path) else tasks
    data = [Path(task) for task in listed if _is_folder(task)]
    names = [str(task) for task in listed if not _is_folder(task)]
    return Sources(
        suite="universal" if "universal" in names else None,
        data=tuple(data),
        mteb=tuple(name for name in names if name != "universal"),
    )


def _is_folder(task: str | Path) -> bool:
    return isinstance(task, Path) or task.startswith((".", "/", "~")) or Path(task).is_dir()


def plan(sources: Sources, results: Path) -> list[TaskJob]:
    """Every job, in the order given; the universal suite where no source is named.

    Raises RecipeError for an unknown suite or task, naming the nearest, and for two tasks of one name; DataError for
    a folder that is none.
    """
    jobs = _chosen(_jobs(sources, results), sources.tasks)
    names = [job.name for job in jobs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise RecipeError(f"two of the tasks are called {twice!r}; score them into different results folders")
    return jobs


def _jobs(sources: Sources, results: Path) -> list[TaskJob]:
    nothing = not (sources.data or sources.mteb or sources.suite)
    suite = "universal" if nothing else sources.suite
    overrides = _read_object(sources.overrides) if sources.overrides else {}
    folders = [*([_suite(suite)] if suite else []), *sources.data]
    found = [task for folder in folders for task in find_tasks(folder, overrides)]
    unused = set(overrides) - {task.folder.name for task in found}
    if unused:
        raise RecipeError(f"{sources.overrides} names {sorted(unused)[0]!r}, which is no task folder; correct it")
    return [*folder_jobs(found), *public_jobs(sources.mteb, results)]


def read_prompts(path: Path | None) -> dict[str, str]:
    """{task, type or role: prompt} from a JSON file; {} for none. Raises RecipeError for anything else."""
    if path is None:
        return {}
    content = _read_object(path)
    bad = next((name for name, prompt in content.items() if not isinstance(prompt, str)), None)
    if bad is not None:
        raise RecipeError(f"{path}: the prompt of {bad!r} is {content[bad]!r}; expected a text")
    return dict(content)


def _check_prompts(prompts: Mapping[str, str], jobs: Sequence[TaskJob]) -> None:
    """Raise RecipeError for a prompt that nothing can ever ask for."""
    roles = get_args(Role)
    here = {*roles, *(job.name for job in jobs), *(job.also_called or job.name for job in jobs)}
    for key in prompts:
        name, _, role = key.rpartition("-")
        name = name if name and role in roles else key
        if name not in here and not _is_mtebs(name):
            near = nearest(name, [*here, *_types()])
            hint = f"did you mean {near!r}?" if near else f"expected one of them, or a role ({', '.join(roles)})"
            raise RecipeError(f"there is a prompt for {key!r}, which is no task and no type of tasks; {hint}")


def _is_mtebs(name: str) -> bool:
    """Whether mteb has a task, or a type of tasks, of this name."""
    if name in _types():
        return True
    import mteb

    try:
        mteb.get_task(name)
    except KeyError:
        return False
    return True


def _types() -> tuple[str, ...]:
    require_mteb()
    from mteb.abstasks.task_metadata import TaskType

    return get_args(TaskType)


def _suite(name: str) -> Path:
    """The folder of a suite; its tasks lie in it directly, "universal" being the only one."""
    if name != "universal":
        raise RecipeError(f"there is no suite {name!r}; {suggestion(name, ['universal'])}")
    return SUITES


def _chosen(jobs: list[TaskJob], wanted: Sequence[str]) -> list[TaskJob]:
    known = {job.name: job for job in jobs}
    for name in wanted:
        if name not in known:
            raise RecipeError(f"there is no task {name!r}; {suggestion(name, known, 'there are')}")
    return [known[name] for name in dict.fromkeys(wanted)] if wanted else jobs


def _read_object(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        hint = path_suggestion(path, "give a JSON object")
        raise RecipeError(f"{path} cannot be read as JSON: {first_line(error)}; {hint}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} is not a JSON object")
    return content


def folder_jobs(tasks: Sequence[FolderTask]) -> list[TaskJob]:
    """A job for every folder task."""
    return [
        TaskJob(task.name, task.fingerprint(), partial(as_mteb_task, task), task.spec.mteb_name, task.fingerprint)
        for task in tasks
    ]


def public_jobs(names: Sequence[str], results: Path) -> list[TaskJob]:
    """Jobs for mteb's tasks and benchmarks by name. Raises RecipeError for an unknown one, naming the nearest."""
    known = KnownTasks(results)
    found: dict[str, TaskJob] = {}
    for name in names:
        key = f"{name} {mteb_version()}"
        tasks = known.get("public", key)
        if tasks is None:
            tasks = expand(name)
            known.note("public", key, tasks)
        for task in tasks:
            found.setdefault(task, TaskJob(task, None, partial(_public_task, task)))
    return list(found.values())


def _public_task(name: str) -> Any:
    import mteb

    return mteb.get_task(name)


def expand(name: str) -> list[str]:
    """The names of the text tasks that a task's or benchmark's name stands for; an aggregate stands for its parts.

    Raises RecipeError for an unknown name, with the nearest known one, and for a task that is not about text.
    """
    require_mteb()
    import mteb

    try:
        chosen = [mteb.get_task(name)]
    except KeyError:
        try:
            chosen = list(mteb.get_benchmark(name).tasks)
        except KeyError:
            raise RecipeError(_unknown(name)) from None
    parts = [part for task in chosen for part in getattr(task.metadata, "tasks", None) or [task]]
    found = [part.metadata.name for part in parts if part.metadata.modalities == ["text"]]
    if not found:
        raise RecipeError(f"{name} is not about text; expected a text task")
    return list(dict.fromkeys(found))


def _unknown(name: str) -> str:
    import mteb

    tasks = mteb.get_tasks(exclude_superseded=False, exclude_aggregate=False)
    known = [*(task.metadata.name for task in tasks), *(benchmark.name for benchmark in mteb.get_benchmarks())]
    near = nearest(name, known)
    hint = f"; did you mean {near!r}?" if near else ""
    return f"mteb {mteb.__version__} has no task or benchmark {name!r}{hint}"
