"""Checkpoints: everything a run needs to go on as if it had not been stopped.

A checkpoint is a folder `step-00000042` with `checkpoint.json` (step, recipe, what base and data were, positions of
streams, names of the tensors, a digest of all), and for each process `shard-00000.safetensors` with its random state
and what it holds of the trained weights, of their averages and of the optimiser's state: all is in the first one where
nothing is sharded. What stands under `rows.` is for a run of one process, others leave it: the rows of the table that
are brought up to date for the checkpoint, as they were (`table_rows.py`). It is written under another name, synced and
moved; nothing is pickled. Sharded tensors are cut along their first dimension; a checkpoint loads on any number of
processes.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from udever.errors import ModelError, OutputError, UdeverError, first_line
from udever.storage import atomic_folder, clean, held_alone, is_output, refusals, remove_output
from udever.training.distributed import World

STATE_FILE = "checkpoint.json"
_NAME = re.compile(r"step-(\d{8})")
_RANDOM, _CUDA_RANDOM = "random", "random_cuda"
_KINDS = ("weight", "optimizer.step", "optimizer.exp_avg", "optimizer.exp_avg_sq")
"""The tensors of each trained parameter; the optimiser's are AdamW's."""

ROWS = "rows."
_NOTHING: Mapping[str, Tensor] = {}

_DECIDING = (
    "the base", "model.base:", "training.average:", "training.embeddings:", "training.lora_rank:", "training.tuning:"
)  # fmt: skip
"""How changes begin that decide which tensors there are, and of what shapes."""


@dataclass(frozen=True)
class State:
    """What a checkpoint says beside its tensors.

    `base` is the fingerprint of the embedder before it was trained, `data` the mixture's, `streams` its position where
    it streams, `num_truncated` the texts cut so far. `budget` (tokens in a micro-batch, tokens kept), planned for
    `memory_gb`, is part of it because sums in another order round differently.
    """

    step: int
    budget: list[int]
    memory_gb: float | None
    recipe: dict[str, Any]
    base: str
    data: str
    streams: dict[str, Any]
    num_truncated: int


def _name(step: int) -> str:
    return f"step-{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / STATE_FILE).is_file())


def step_of(path: Path) -> int:
    """The step behind which a checkpoint goes on, as its name has it."""
    return int(path.name.rpartition("-")[2])


def save(
    folder: Path,
    state: State,
    optimizer: torch.optim.Optimizer,
    names: dict[int, str],
    world: World,
    more: Mapping[str, Tensor] = _NOTHING,
) -> None:
    """Write a checkpoint of this step into `folder`; every process of `world` calls this.

    `names` are the trained parameters' names by `id`, `more` further tensors by name. Raises OutputError where it
    cannot be written; the checkpoints before it are left alone.
    """
    target = folder / _name(state.step)
    tensors, places = _collect([*_named(optimizer, names), *more.items()])
    if not (world.leads or any(places.values())):  # what is not sharded is written once
        tensors, places = {}, {}
    tensors[_RANDOM] = torch.get_rng_state()
    if torch.cuda.is_initialized():
        tensors[_CUDA_RANDOM] = torch.cuda.get_rng_state()
    parts = folder / f".{target.name}.parts"  # every process writes its own; the leading one moves them in
    if world.leads:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
    world.wait()
    try:
        _write_shard(parts, target.name, world.rank, tensors, places)
        world.wait()
        if world.leads:
            with atomic_folder(target, "checkpoint") as temporary:
                for part in sorted(parts.iterdir()):
                    part.rename(temporary / part.name)
                _write_state(temporary, state, sorted(places))
    finally:
        if world.leads:
            shutil.rmtree(parts, ignore_errors=True)
    world.wait()


def _write_shard(folder: Path, step: str, rank: int, tensors: dict[str, Tensor], places: dict[str, Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = folder / f"shard-{rank:05d}.safetensors"
    try:
        save_file(tensors, path, {"places": json.dumps(places)})
    except SafetensorError as error:
        raise OutputError(f"cannot write the checkpoint {step}: {error}; check the free space") from error


def _local(tensor: Tensor) -> tuple[Tensor, list[int] | None]:
    """What this process holds of `tensor`, and its rows [first, stop, of how many]; None where it holds all."""
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        return tensor.detach(), None
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    rows = [offset[0], offset[0] + shape[0], tensor.shape[0]] if shape and shape[0] else [0, 0, tensor.shape[0]]
    return tensor.to_local().detach(), rows


def _collect(named: Iterable[tuple[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, list[int] | None]]:
    """What this process holds of each tensor, and its place in the whole."""
    tensors: dict[str, Tensor] = {}
    places: dict[str, list[int] | None] = {}
    for name, tensor in named:
        local, place = _local(tensor)
        tensors[name] = local.contiguous()
        places[name] = place
    return tensors, places


def _named(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> Iterator[tuple[str, Tensor]]:
    """The trained weights and the optimiser's state."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            yield f"weight.{name}", parameter
            for key, value in optimizer.state.get(parameter, {}).items():
                yield f"optimizer.{key}.{name}", value


def _write_state(folder: Path, state: State, tensors: list[str]) -> None:
    """`checkpoint.json`: what to go on with, the names of all tensors, and a digest of everything."""
    content: dict[str, Any] = {"state": asdict(state), "tensors": tensors}
    content["digest"] = _digest(folder, content)
    (folder / STATE_FILE).write_text(json.dumps(content, ensure_ascii=False, indent=1))


def _digest(folder: Path, content: dict[str, Any]) -> str:
    """Of the shards and of what `checkpoint.json` says beside this digest."""
    said = json.dumps({key: value for key, value in content.items() if key != "digest"}, sort_keys=True)
    digest = hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=16)
    for path in sorted(folder.glob("shard-*.safetensors")):
        digest.update(f"\0{path.name}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _unfit(path: Path, reason: object, changed: Sequence[str] = ()) -> UdeverError:
    said = first_line(reason)
    decisive = [change for change in changed if change.startswith(_DECIDING)]
    if decisive:
        return OutputError(
            f"{path} does not fit what was changed ({', '.join(decisive)}): {said}; undo that, or begin anew with "
            f"--restart"
        )
    return ModelError(f"{path} is damaged or of another version: {said}; delete it to use the checkpoint before it")


def _read(path: Path) -> tuple[State, list[str]]:
    try:
        content = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if content["digest"] != _digest(path, content):
            raise ValueError("its files are not as they were written")
        state = TypeAdapter(State).validate_json(json.dumps(content["state"]), strict=True)
        if state.step < 1 or path.name != _name(state.step):
            raise ValueError(f"it says step {state.step}")
        return state, list(content["tensors"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unfit(path, f"no {error}" if isinstance(error, KeyError) else error) from error


def read_state(path: Path) -> State:
    """What the checkpoint says. Raises ModelError where any of its files is not as it was written."""
    return _read(path)[0]


def load(
    path: Path,
    optimizer: torch.optim.Optimizer,
    names: dict[int, str],
    world: World,
    more: Mapping[str, Tensor] = _NOTHING,
    changed: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Put weights, optimiser, random state and `more` back, in place, on however many processes there are.

    Returns the tensors under `rows.`, if any. A process that is new keeps its own random state. Raises ModelError,
    before anything is changed, where a file is damaged or weights or moments are missing, and OutputError where that
    comes of what was `changed` since (see `changes`).
    """
    from safetensors import SafetensorError, safe_open

    _, tensors = _read(path)
    wanted = {f"{kind}.{names[id(p)]}" for kind in _KINDS for group in optimizer.param_groups for p in group["params"]}
    wanted |= more.keys()
    tensors = {name for name in tensors if not name.startswith(ROWS)}
    differing = sorted(wanted ^ tensors)
    if differing:
        which = "lacks" if differing[0] in wanted else "holds, unlike this run,"
        raise _unfit(path, f"it {which} {differing[0]}", changed)
    shards = []
    try:
        for file in sorted(path.glob("shard-*.safetensors")):
            opened = safe_open(file, "pt")
            shards.append((opened, json.loads(opened.metadata()["places"])))
        source = _Source(shards)
        found = {name for name in source.keys() if not name.startswith(ROWS)}  # noqa: SIM118 # `_Source.keys`
        if found - {_RANDOM, _CUDA_RANDOM} != wanted:
            raise ValueError("its shards hold other tensors than it says")
        _restore(optimizer, names, source)
        for name, tensor in more.items():
            _fill(tensor, name, source)
        rows = {name: source.whole(name) for name in source.keys() if name.startswith(ROWS)}  # noqa: SIM118
        if world.rank < len(shards):
            _restore_random(shards[world.rank][0])
    except (SafetensorError, OSError, KeyError, RuntimeError, IndexError, ValueError) as error:
        raise _unfit(path, error, changed) from error
    return rows


def _restore_random(shard: Any) -> None:
    torch.set_rng_state(shard.get_tensor(_RANDOM))
    if _CUDA_RANDOM in shard.keys() and torch.cuda.is_available():  # noqa: SIM118 # safe_open has no `in`
        torch.cuda.set_rng_state(shard.get_tensor(_CUDA_RANDOM))


@dataclass(frozen=True)
class _Source:
    """The shards of a checkpoint as whole tensors, read by rows."""

    shards: list[tuple[Any, dict[str, list[int] | None]]]

    def keys(self) -> set[str]:
        return {name for shard, _ in self.shards for name in shard.keys()}  # noqa: SIM118

    def rows(self, name: str, first: int, stop: int) -> Tensor:
        """Rows `first` to `stop` of a tensor that was sharded."""
        parts = []
        for shard, places in self.shards:
            if name not in places:
                continue
            start, end, _ = places[name] or [0, stop, stop]
            low, high = max(first, start), min(stop, end)
            if low < high:
                parts.append(shard.get_slice(name)[low - start : high - start])
        return torch.cat(parts) if parts else self.shards[0][0].get_tensor(name)[:0]

    def whole(self, name: str) -> Tensor:
        """All of a tensor."""
        shard, places = self.shards[0]
        place = places[name]
        return shard.get_tensor(name) if place is None else self.rows(name, 0, place[2])


@torch.no_grad()
def _restore(optimizer: torch.optim.Optimizer, names: dict[int, str], source: _Source) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            _fill(parameter, f"weight.{name}", source)
            state = optimizer.state[parameter]
            state["step"] = source.whole(f"optimizer.step.{name}").to(parameter.device)  # where fused AdamW counts
            for what in ("exp_avg", "exp_avg_sq"):
                state[what] = torch.zeros_like(parameter)
                _fill(state[what], f"optimizer.{what}.{name}", source)


def _fill(tensor: Tensor, name: str, source: _Source) -> None:
    local, place = _local(tensor)
    local.copy_(source.whole(name) if place is None else source.rows(name, place[0], place[1]))


@contextmanager
def claimed(place: Path, *, enabled: bool = True) -> Iterator[None]:
    """Take the place of an output for one run, by a lock beside it; its parent folder is made.

    Raises OutputError while another process has it. Nothing happens where not `enabled`.
    """
    if not enabled:
        yield
        return
    path = place.with_name(f".{place.name}.lock")
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    busy = OutputError(f"another run is writing to {place}; wait for it, or give another output folder")
    with held_alone(path, busy):
        try:
            yield
        finally:
            with suppress(OSError):  # some systems delete no open file
                path.unlink(missing_ok=True)


def clean_up(folder: Path) -> None:
    """Remove what killed runs left half-written in a folder of checkpoints."""
    for path in folder.glob("step-*"):
        if _NAME.fullmatch(path.name) and path.is_dir() and not (path / STATE_FILE).is_file():
            remove_output(path, "checkpoint")
            with suppress(OSError):  # empty: killed before it was gone
                path.rmdir()
    for path in folder.glob(".step-*.parts"):
        shutil.rmtree(path, ignore_errors=True)
    clean(folder)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the last `keep` checkpoints, and what killed runs left of older ones; anything else stays."""
    if not folder.is_dir():
        return
    clean(folder)
    kept = checkpoints(folder)[-keep:] if keep else []
    for path in sorted(folder.iterdir()):
        if _NAME.fullmatch(path.name) and path not in kept and is_output(path, "checkpoint"):
            (path / STATE_FILE).unlink(missing_ok=True)  # first, so that a half-deleted folder is no checkpoint
            remove_output(path, "checkpoint")


def differences(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """Every key whose value is another, as `training.seed: 0 -> 1`."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{where}{key}.")
        elif old != new:
            found.append(f"{where}{key}: {json.dumps(old)} -> {json.dumps(new)}")
    return found


def changes(state: State, recipe: dict[str, Any], base: str, data: str) -> list[str]:
    """What is not as it was when the run was begun, each as a few words."""
    changed = differences(state.recipe, recipe)
    if state.base != base:
        changed.append("the base's weights, tokenizer or contract")
    if state.data != data:
        changed.append("the data files' content")
    return changed


def check_same(changed: Sequence[str], path: Path) -> None:
    """Raise OutputError where anything of the run in `path` was changed."""
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise OutputError(
            f"{path} was begun with another recipe ({changed[0]}{more}); begin anew with --restart, or, of "
            f"udever train, go on with --allow-changes"
        )
