"""What `adapt` would do, and how long it would take, before it does."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from udever.adaptation.attempts import arrangements, budget_s, fitting, prepare, seconds_of
from udever.adaptation.folder import check_places
from udever.adaptation.gathered import gathered, tell
from udever.adaptation.settings import DEFAULTS, AdaptSettings, check_base
from udever.progress import duration
from udever.training import SEEDLING
from udever.training.plan import plan


def plan_adaptation(
    paths: Sequence[str | Path],
    output: str | Path,
    settings: AdaptSettings = DEFAULTS,
    *,
    base: str = SEEDLING,
    resume: bool = False,
    restart: bool = False,
    console: Console,
) -> None:
    """Mine `paths`, time some steps of the first arrangement, and say what would be tried within the time.

    Writes nothing but to the console. Raises what `adapt` raises, given the same, before it trains.
    """
    paths = [Path(path) for path in paths]
    check_places(Path(output), [*paths, base], resume=resume, restart=restart)
    check_base(base, settings)
    mined, mining_s = gathered(paths, settings)
    tell(mined, paths, settings, console)
    tried = arrangements(settings, base, mined)
    with tempfile.TemporaryDirectory(prefix="udever-") as scratch:
        recipe, _ = prepare(tried[0], mined, settings, base, Path(scratch), Path(scratch))
        found = plan(recipe)
    lines = [line.replace(f"{scratch}/", "") for line in found.lines()]
    budget = budget_s(settings, mining_s)
    seconds = seconds_of(tried, found.seconds * tried[0].times, mined, settings)
    chosen = [tried[0], *fitting(tried[1:], seconds[1:], seconds[0], budget)]
    if tried[0].times > 1:
        lines.append(f"trained {tried[0].times} times, from other seeds, for the mean of the weights")
    lines.append(
        f"mined in {duration(mining_s)}; training within {duration(budget)}, the first arrangement in any case:"
    )
    lines += [
        f"  {arrangement.name}: {duration(needed)}{'' if arrangement in chosen else ', for which there is no time'}"
        for arrangement, needed in zip(tried, seconds, strict=True)
    ]
    lines.append("embedding texts to choose and to compare comes on top")
    for line in lines:
        console.print(line, markup=False, highlight=False)
