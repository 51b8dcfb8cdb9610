"""Data sets as the `datasets` package has them: folders it saved, and names on a hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from udever.errors import DataError, first_line, needs
from udever.files import is_saved_dataset, pairs_format, printable
from udever.nearest import near_path, nearest

_UNNAMED = "train"


def open_dataset(
    location: str,
    split: str | None = None,
    *,
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    choose_by: str = "",
) -> Any:
    """The data set saved in the folder `location`, or the hub's of that name, as `datasets` has it.

    Of the splits the one named `split`; without a name there must be one alone. One that was saved without a name is
    `train`. `choose_by` says in messages how a person names one. Raises DataError in one line for what cannot be had.
    """
    saved = is_saved_dataset(Path(location))
    with needs("datasets", "train", "a data set of the hub, or one it saved,"):
        import datasets
    try:
        if saved:
            opened: Any = datasets.load_from_disk(location)
        else:
            if not Path(location).exists():
                _check_reachable(location)
            with _quiet_hub():
                opened = datasets.load_dataset(location, config, split=split, revision=revision, streaming=streaming)
    except Exception as error:  # whatever the hub's client and the readers raise: there is no common base
        near = near_path(location)
        hint = "check name, config, split and the network" if near is None else f"did you mean {near}?"
        what = "opened" if Path(location).exists() else "loaded from the hub (there is no such path here)"
        raise DataError(f"{printable(location)} cannot be {what}: {first_line(error).rstrip('.')}; {hint}") from error
    if saved and not isinstance(opened, dict):
        opened = {str(opened.split or _UNNAMED): opened}
    return _of_split(opened, split, location, choose_by) if isinstance(opened, dict) else opened


def _check_reachable(name: str) -> None:
    """Ask the hub once, since `datasets` asks for half a minute. Raises ConnectionError where nothing is answered.

    What is answered is for `datasets` to tell, as is what there is on this machine where nobody may be asked.
    """
    from datasets import config
    from huggingface_hub import HfApi, constants, errors

    if config.HF_HUB_OFFLINE:
        return
    # The client's own error of a broken connection, of whichever HTTP library this version uses.
    transport: type[Exception] = next(kind for kind in errors.HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    try:
        HfApi().dataset_info(name, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (errors.HfHubHTTPError, errors.HFValidationError):
        return
    except (transport, OSError) as error:
        away = "the hub cannot be reached (HF_HUB_OFFLINE=1 takes a copy that is on this machine)"
        raise ConnectionError(away) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """The hub's client does not say on standard error what it tries again: what comes of it is told."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _of_split(opened: dict[Any, Any], split: str | None, location: str, choose_by: str) -> Any:
    names = [str(name) for name in opened]
    if split is None and len(names) == 1:
        return opened[names[0]]
    if split in names:
        return opened[split]
    near = nearest(split or "", names)
    hint = f"choose one {choose_by}".strip() if near is None else f"did you mean {near!r} ({choose_by})?"
    raise DataError(f"{location} has the splits {', '.join(names)}; {hint}")


def open_pairs(path: Path) -> Any:
    """The training rows of a data set named where tables of pairs are: those of its split `train`."""
    if is_saved_dataset(path):
        several = (path / "dataset_dict.json").is_file()  # one alone was chosen by its folder
        return open_dataset(str(path), "train" if several else None, choose_by=f"by its folder in {path}")
    return _fetched(str(path))


@lru_cache(maxsize=8)
def _fetched(name: str) -> Any:
    """A hub is asked once for a name, however often its columns, files and rows are wanted."""
    return open_dataset(name, "train", choose_by="in a recipe, as hub_split")


def arrow_tables(dataset: Any, rows: int) -> Iterator[pa.Table]:
    """The rows of an opened data set in order, `rows` at a time. Raises DataError where it cannot be read on."""
    try:
        yield from dataset.with_format("arrow").iter(rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"the data set cannot be read: {first_line(error)}") from error


def files_of(dataset: Any) -> list[Path]:
    """The files on this machine that hold the rows of a data set that does not stream."""
    return [Path(file["filename"]) for file in dataset.cache_files]


def stream_files(paths: list[Path]) -> Any:
    """Local files as a stream."""
    kinds = sorted({pairs_format(path).kind for path in paths})
    if kinds not in (["jsonl"], ["parquet"]):
        raise DataError(
            f"{paths[0]}: streamed files are of {', '.join(kinds)}; give Parquet files or JSONL files alone"
        )
    kind = "json" if kinds == ["jsonl"] else "parquet"
    with needs("datasets", "train", "a stream"):
        import datasets
    try:
        return datasets.load_dataset(kind, data_files=[str(path) for path in paths], split="train", streaming=True)
    except Exception as error:  # as above
        raise DataError(f"{paths[0]} cannot be streamed: {first_line(error)}") from error
