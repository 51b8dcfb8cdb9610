"""mteb's own tasks and benchmarks by name."""

import difflib

from udever.errors import RecipeError
from udever.evaluation.mteb_meta import require_mteb


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
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"mteb {mteb.__version__} has no task or benchmark {name!r}{hint}"
