"""Trackers that follow a run beside its `log.jsonl`: TensorBoard, trackio and Weights & Biases, by name."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from udever.errors import MissingExtra, needs

TrackerName = Literal["tensorboard", "trackio", "wandb"]


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        with needs("tensorboard", "train", 'watch.trackers = ["tensorboard"]'):
            from torch.utils.tensorboard import SummaryWriter
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Experiment:
    """trackio and wandb, whose calls are the same. Where the numbers go is for their own settings to say."""

    def __init__(self, name: str, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        try:
            self._module: Any = import_module(name)
        except ImportError as error:
            raise MissingExtra(
                f'watch.trackers = ["{name}"] needs {name}, which cannot be imported ({error}); run pip install {name}'
            ) from error
        places = {"dir": str(folder)} if name == "wandb" else {}
        self._module.init(project="udever", name=run, config=dict(config), **places)

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._module.log(dict(values), step=step)

    def close(self) -> None:
        self._module.finish()


Tracker = _TensorBoard | _Experiment
"""Takes numbers by name at a step, until it is closed."""


@contextmanager
def opened(names: Sequence[TrackerName], folder: Path, run: str, config: Mapping[str, Any]) -> Iterator[list[Tracker]]:
    """The trackers named, closed behind the block. TensorBoard's files go below `folder`, the run is called `run`.

    Raises MissingExtra, with the line that installs it, for a tracker whose package is not installed.
    """
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for name in names:
            tracker = _TensorBoard(folder) if name == "tensorboard" else _Experiment(name, folder, run, config)
            stack.callback(tracker.close)
            trackers.append(tracker)
        yield trackers
