"""The output folder of a job.

    _job.json         what the job is: format, identity, what it reads of a row; there from the start
    _manifest.json    what the last run that came to its end made: shards in input order, their digests, counts, inputs
    shards/NUMBER-KEY-DIGEST.parquet    see `shards`
    _failed.parquet   rows that could not be embedded, where there are any
    .lock             held while a run is at work
    .work-*           texts and results under way; of no use to any other run
    .vectors-DIGEST.npy    a copy of all vectors in one array, made when it is first asked for (see `vectors`), with
                           the digest of its manifest

Readers of Parquet folders pass over names that begin with `_` or `.`. Both JSON files end with a digest of their
content.

A run adds shards beside the old ones, then replaces the manifest, then removes shards the manifest no longer
names: whoever reads by the manifest sees one whole version at any time.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from udever.corpus.shards import ShardName, read_info
from udever.corpus.step import FORMAT
from udever.errors import ContractError, DataError, OutputError
from udever.nearest import path_suggestion
from udever.storage import JOB, atomic_file, check_folder, clean, digest_file, held_alone, is_job

MANIFEST, FAILED, SHARDS, LOCK = "_manifest.json", "_failed.parquet", "shards", ".lock"
_WORK = ".work-"
_SUFFIXES = (".parquet", ".json", ".npy")


@dataclass(frozen=True, slots=True)
class JobManifest:
    """What a job that came to its end says. `shards` are file, digest and number of rows, in input order.

    `failed_digest` is that of the file of failed rows, "" where there is none. `num_rows` counts the input's rows:
    `num_failed` of them have no result, all others have one.
    """

    identity: dict[str, str]
    inputs: list[str]
    columns: dict[str, str]
    split: str | None
    num_rows: int
    num_failed: int
    num_tokens: int
    num_truncated: int
    duplicate_ids: int
    failed_digest: str
    shards: list[dict[str, Any]]

    def files(self, folder: Path) -> list[Path]:
        """The shards in input order."""
        return [folder / shard["file"] for shard in self.shards]


def vectors_file(folder: Path, manifest: JobManifest) -> Path:
    """Where the vectors of this version of the output are copied to."""
    return folder / f".vectors-{_digest(asdict(manifest))}.npy"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    told = {"format": FORMAT, **content}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps({**told, "digest": _digest(told)}, indent=1) + "\n")


def _digest(content: dict[str, Any]) -> str:
    told = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT:
            raise DataError(f"{path} is of another version of udever; make the folder anew")
        if content.pop("digest") != _digest(content):
            raise DataError(f"{path} is damaged: its digest is not that of its content; run the job again")
        content.pop("format")
        return content
    except (OSError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        hint = path_suggestion(path.parent, "is its folder the output of a corpus job?")
        raise DataError(f"{path} cannot be read ({error}); {hint}") from error


def read_manifest(folder: Path) -> JobManifest:
    """The manifest of a job that came to its end. Raises DataError where there is none."""
    if is_job(folder) and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: its job has not finished; run the same command again")
    try:
        return JobManifest(**_read_json(folder / MANIFEST))
    except TypeError as error:
        raise DataError(f"{folder / MANIFEST} is damaged ({error}); run the job again") from error


def write_manifest(folder: Path, manifest: JobManifest) -> None:
    """Replace the manifest, then remove the shards it does not name and copies of other vectors."""
    _write_json(folder / MANIFEST, asdict(manifest))
    for path in folder.glob(".vectors-*.npy"):
        if path != vectors_file(folder, manifest):
            path.unlink(missing_ok=True)
    named = {path.name for path in manifest.files(folder)}
    for path in shards_in(folder):
        if path.name not in named:
            path.unlink()


def shards_in(folder: Path) -> dict[Path, ShardName]:
    """Every shard of the folder, whatever run it is from, with what its name says."""
    named = ((path, ShardName.parse(path.name)) for path in sorted((folder / SHARDS).glob("*.parquet")))
    return {path: name for path, name in named if name is not None}


def place_shards(folder: Path, keys: Sequence[str]) -> list[Path]:
    """The shards of windows with these keys, in order, each under the number of its place.

    One that stands under another number gets a second name: who reads by the old manifest finds it still.
    """
    names = shards_in(folder)
    placed = {(name.number, name.key): path for path, name in names.items()}
    by_key = {name.key: path for path, name in names.items()}
    found = []
    for number, key in enumerate(keys):
        if (number, key) not in placed:
            other = by_key.get(key)
            if other is None:
                raise OutputError(f"a shard has gone from {folder / SHARDS} meanwhile; run the same command again")
            target = other.with_name(str(names[other]._replace(number=number)))
            try:
                os.link(other, target)
            except OSError:  # a file system without links
                with atomic_file(target) as temporary:
                    shutil.copyfile(other, temporary)
            placed[number, key] = target
        found.append(placed[number, key])
    return found


def check_place(folder: Path, reading: Mapping[str, str | None], inputs: Sequence[str | Path] = ()) -> None:
    """Raise ContractError or OutputError unless `folder` is new, empty, or the output of a job that reads the same.

    `reading` says which columns and split are read. The folder must not lie in one of `inputs`.
    """
    check_folder(folder, inputs, _SUFFIXES)
    if is_job(folder):
        _check_same(folder, _read_json(folder / JOB)["reading"], reading)
        for path in sorted((folder / SHARDS).glob("[!.]*")):
            if ShardName.parse(path.name) is None:
                raise OutputError(f"{folder / SHARDS} holds {path.name}, which udever did not write; move it away")
    elif folder.is_dir():
        for path in sorted(folder.iterdir()):
            is_beginning = path.name.startswith(f".{JOB}.") and path.suffix == ".tmp"  # of a run that was killed then
            if path.name != LOCK and not is_beginning:
                raise OutputError(
                    f"{folder} holds files that are no corpus job's, such as {path.name}; give a new or empty folder"
                )


def _check_same(folder: Path, found: Mapping[str, str | None], wanted: Mapping[str, str | None]) -> None:
    for name in sorted({*found, *wanted}):
        if found.get(name) != wanted.get(name):
            short = name.removeprefix("udever.")
            raise ContractError(
                f"{folder} holds results with {short} {found.get(name)}, this job has {wanted.get(name)}; "
                f"they cannot be mixed: give another folder, or remove that one"
            )


@contextmanager
def at_work(
    folder: Path, identity: dict[str, str], reading: Mapping[str, str | None], inputs: Sequence[str] = ()
) -> Iterator[Path]:
    """Take the output folder for one run and yield its work folder; what dead runs left is removed.

    Raises as `check_place`, ContractError where it has the results of another step, and OutputError while another run
    has it.
    """

    def check() -> None:
        check_place(folder, reading, inputs)
        if is_job(folder):
            _check_same(folder, _read_json(folder / JOB)["identity"], identity)

    check()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        busy = OutputError(f"another run is writing to {folder}; wait for it, or give another folder")
        with held_alone(folder / LOCK, busy):
            check()  # again: another may have begun there meanwhile
            for path in folder.glob(f"{_WORK}*"):
                shutil.rmtree(path, ignore_errors=True)
            for place in (folder, folder / SHARDS):
                clean(place)
            if not is_job(folder):
                _write_json(folder / JOB, {"identity": identity, "reading": dict(reading)})
            (folder / SHARDS).mkdir(exist_ok=True)
            work = folder / f"{_WORK}{uuid.uuid4().hex[:8]}"
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write to {folder}: {reason}; check permissions and free space") from error


def usable_shards(folder: Path, step_digest: str) -> dict[str, Path]:
    """Shards of this step by key; one whose bytes have changed or that is another step's is removed."""
    usable: dict[str, Path] = {}
    for path, name in shards_in(folder).items():
        try:
            fits = digest_file(path) == name.digest and read_info(path).step == step_digest
        except (DataError, OSError):
            fits = False
        if fits:
            usable[name.key] = path
        else:
            path.unlink()
    return usable
