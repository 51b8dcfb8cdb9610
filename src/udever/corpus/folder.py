"""The output folder of a job.

    job.json          what the job is: format and identity; there from the start
    manifest.json     what the last run that came to its end made: shards in input order, counts, inputs
    shards/KEY.parquet
    failed.parquet    rows that could not be embedded, where there are any
    .lock             held while a run is at work
    .work-*           texts and results under way; of no use to any other run

A run adds shards beside the old ones, then replaces the manifest, then removes shards the manifest no longer
names: whoever reads by the manifest sees one whole version at any time.
"""

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from udever.corpus.shards import read_info
from udever.corpus.steps import FORMAT
from udever.errors import ContractError, DataError, OutputError
from udever.storage import atomic_file

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

JOB, MANIFEST, FAILED, SHARDS, LOCK = "job.json", "manifest.json", "failed.parquet", "shards", ".lock"
_WORK = ".work-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a job that came to its end says. `shards` are file and number of rows, in input order.

    `num_rows` counts the input's rows: `num_failed` of them have no result, all others have one.
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
    shards: list[dict[str, Any]]

    def files(self, folder: Path) -> list[Path]:
        """The shards in input order."""
        return [folder / shard["file"] for shard in self.shards]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **content}, indent=1, ensure_ascii=False) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != FORMAT:
            raise DataError(f"{path} is of another version of udever; make the folder anew")
        return content
    except (OSError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({error}); is its folder the output of a corpus job?") from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a job that came to its end. Raises DataError where there is none."""
    if (folder / JOB).is_file() and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: its job has not come to the end; run the same command again")
    try:
        return Manifest(**_read_json(folder / MANIFEST))
    except TypeError as error:
        raise DataError(f"{folder / MANIFEST} is damaged ({error}); run the job again") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest, then remove the shards it does not name."""
    _write_json(folder / MANIFEST, asdict(manifest))
    named = {path.name for path in manifest.files(folder)}
    for path in shards_in(folder):
        if path.name not in named:
            path.unlink()


def shards_in(folder: Path) -> list[Path]:
    """Every shard of the folder, whatever run it is from."""
    return sorted(path for path in (folder / SHARDS).glob("*.parquet") if not path.name.startswith("."))


def check_output(folder: Path, identity: dict[str, str]) -> None:
    """Raise ContractError or OutputError unless `folder` is new, empty, or an output of the same step."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"cannot write {folder}: it is a file; the output is a folder, give another name")
    if (folder / JOB).is_file():
        found = _read_json(folder / JOB).get("identity", {})
        for name in sorted({*found, *identity}):
            if found.get(name) != identity.get(name):
                short = name.removeprefix("udever.")
                raise ContractError(
                    f"{folder} holds results with {short} {found.get(name)}, this job has {identity.get(name)}; "
                    f"they cannot be mixed: give another folder, or remove that one"
                )
    elif folder.is_dir() and any(path.name != LOCK and not _is_beginning(path) for path in folder.iterdir()):
        raise OutputError(f"{folder} holds files that are no corpus job's; give a new or empty folder")


def _is_beginning(path: Path) -> bool:
    """Whether a run that was killed at its very start left this."""
    return path.name.startswith(f".{JOB}.") and path.suffix == ".tmp"


def _locked(folder: Path) -> Any:
    if fcntl is None:
        raise OutputError(f"{folder} cannot be locked on Windows, where corpus jobs do not run; use WSL or Linux")
    handle = (folder / LOCK).open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise OutputError(f"another run is writing to {folder}; wait for it, or give another folder") from error
    return handle


@contextmanager
def at_work(folder: Path, identity: dict[str, str]) -> Iterator[Path]:
    """Take the output folder for one run and yield its work folder; what dead runs left is removed.

    Raises as `check_output`, and OutputError while another run has it.
    """
    check_output(folder, identity)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            _clean(folder)
            if not (folder / JOB).is_file():
                _write_json(folder / JOB, {"identity": identity})
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


def _clean(folder: Path) -> None:
    for path in folder.glob(f"{_WORK}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in [*folder.glob(".*.tmp"), *(folder / SHARDS).glob(".*.tmp")]:
        with suppress(OSError):
            path.unlink()


def usable_shards(folder: Path, step_digest: str) -> dict[str, Path]:
    """Shards of this step by key; a file that is none, is damaged or is another step's is removed."""
    usable: dict[str, Path] = {}
    for path in shards_in(folder):
        try:
            fits = read_info(path).step == step_digest
        except DataError:
            fits = False
        if fits:
            usable[path.stem] = path
        else:
            path.unlink()
    return usable
