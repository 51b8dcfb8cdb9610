"""`audit`: proof that an output folder holds one good result for every row of its input, and nothing else."""

from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from udever.corpus import folder as layout
from udever.corpus.inputs import Columns
from udever.corpus.job import Reading
from udever.corpus.scan import HASH, HashLog, hash_bytes, hashed, repeated
from udever.corpus.shards import ShardInfo, read_columns, read_identity, read_info, read_schema
from udever.corpus.step import Step
from udever.corpus.vectors import mapped
from udever.errors import ContractError, DataError
from udever.progress import progress_bar
from udever.records import open_parquet, to_numpy
from udever.storage import digest_file

_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}
_SHOWN = 20
_FARTHEST = {"float32": 1e-2, "other": 1e-1}
"""How far, in length, a value may lie from the one computed again, by the precision of the model. Sums in another
order move it by a thousandth of that; another text's vector is nowhere near."""


@dataclass
class Audit:
    """What was found. `findings` is empty where everything holds; `more` counts those too many to list."""

    num_rows: int = 0
    num_results: int = 0
    num_failed: int = 0
    num_sampled: int = 0
    findings: list[str] = field(default_factory=list)
    more: int = 0

    @property
    def whole(self) -> bool:
        """Whether every row of the input has one good result and nothing else is there."""
        return not self.findings

    def note(self, finding: str) -> None:
        """One more finding."""
        if len(self.findings) < _SHOWN:
            self.findings.append(finding)
        else:
            self.more += 1


class _Sample:
    """Some rows, drawn before they are met, whose texts go through the step once more."""

    def __init__(self, step: Step, num_rows: int, size: int, seed: int) -> None:
        self._step = step
        chosen = np.random.default_rng(seed).choice(num_rows, min(size, num_rows), replace=False)
        self._chosen = np.sort(chosen)
        self._first = 0
        self._kept: list[pa.Table] = []

    def meet(self, table: pa.Table) -> None:
        """Take the chosen rows of the next shard."""
        here = self._chosen[(self._chosen >= self._first) & (self._chosen < self._first + len(table))]
        names = ["id", "text", *(self._step.columns.names or ())]
        if len(here) and set(names) <= set(table.column_names):
            self._kept.append(table.select(names).take(pa.array(here - self._first)))
        self._first += len(table)

    def check(self, audit: Audit, precision: str) -> None:
        """Note every row that is not what the step makes of its text."""
        if not self._kept:
            return
        stored = pa.concat_tables(self._kept)
        output = self._step.run(self._step.prepare(stored.column("text").to_pylist()), lambda *_: None)
        farthest = _FARTHEST.get(precision, _FARTHEST["other"])
        wrong = np.zeros(len(stored), dtype=bool)
        wrong[list(output.failed)] = True
        for name in self._step.columns.names or ():
            there, again = to_numpy(stored.column(name)), output.rows[name]
            if again.dtype.kind == "f":
                gap = there.astype(np.float64) - again.astype(np.float64)
                wrong |= ~(np.linalg.norm(gap.reshape(len(gap), -1), axis=1) <= farthest)
            else:
                wrong |= (there != again).reshape(len(there), -1).any(axis=1)
        audit.num_sampled = len(stored)
        for name in stored.column("id").filter(pa.array(wrong)).to_pylist():
            audit.note(f"the result of id {name!r} is not what the model makes of its text; embed it again")


def _check_values(audit: Audit, name: str, table: pa.Table, unit: bool) -> None:
    """Every number finite, every vector of length 1, every hash that of its text."""
    for column in table.column_names:
        kind = table.schema.field(column).type
        if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
            continue
        stored = table.column(column)
        values = np.empty((0, 0)) if stored.null_count else to_numpy(stored).astype(np.float32)
        if len(values) != len(table):
            audit.note(f"{name}: rows without {column}")
            continue
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            audit.note(f"{name}: {column} is not finite in {int((~finite).sum())} rows, first {int(finite.argmin())}")
        if column == "embedding" and unit:
            tolerance = _TOLERANCE["float16" if kind.value_type == pa.float16() else "float32"]
            wrong = np.abs(np.linalg.norm(values, axis=1) - 1) > tolerance
            if wrong.any():
                audit.note(f"{name}: {int(wrong.sum())} vectors are not of length 1, first row {int(wrong.argmax())}")
    texts, hashes = table.column("text").to_pylist(), table.column("text_hash").to_pylist()
    wrong = [row for row, text in enumerate(texts) if hash_bytes(text.encode()) != hashes[row]]
    if wrong:
        audit.note(f"{name}: the text of row {wrong[0]} is not the one that was embedded ({len(wrong)} such rows)")


@dataclass(frozen=True)
class Again:
    """`size` rows, drawn by `seed`, are to be done again by `step` and compared."""

    step: Step
    size: int
    seed: int = 0


class _Check:
    """An audit under way, which meets the shards in order: what it found, and what goes along from one to the next."""

    def __init__(
        self, folder: Path, manifest: layout.JobManifest, reading: Reading, again: Again | None, ids: HashLog
    ) -> None:
        self.found = Audit()
        self._folder, self._manifest, self._ids = folder, manifest, ids
        self._rows = hashed(reading.rows(), self._refuse)
        self._aligned = True
        num_rows = sum(shard["rows"] for shard in manifest.shards)
        self._sample = _Sample(again.step, num_rows, again.size, again.seed) if again is not None else None
        self._copied = layout.vectors_file(folder, manifest)
        self._copy = mapped(self._copied)
        if self._copy is not None and len(self._copy) != num_rows:
            said = f"{self._copied.name} has {len(self._copy)} rows, the shards {num_rows}"
            self.found.note(f"{said}; remove it, it is made again")
            self._copy = None

    def _refuse(self, _: object) -> None:
        self.found.num_failed += 1

    def shard(self, entry: dict[str, Any]) -> None:
        """Check a shard by the manifest's entry."""
        path = self._folder / entry["file"]
        if not path.is_file():
            self.found.note(f"{path.name} is gone with its {entry['rows']} rows; run the job again")
            return
        changed = digest_file(path) != entry["digest"]
        if changed:
            self.found.note(f"{path.name}: its bytes are not those that were written (digest); run the job again")
        try:
            self._content(path, entry["rows"])
        except (pa.ArrowException, LookupError, ValueError):
            if not changed:  # what changed bytes say may be no text, no number and no column
                raise

    def _content(self, path: Path, rows: int) -> None:
        name, found, wanted = path.name, self.found, self._manifest.identity
        try:
            info, identity = read_info(path), read_identity(path)
            table = read_columns(path, read_schema(path).names)
        except DataError as error:
            found.note(str(error))
            return
        for key in sorted({*identity, *wanted}):
            if identity.get(key) != wanted.get(key):
                short = key.removeprefix("udever.")
                found.note(f"{name} has {short} {identity.get(key)}, the job {wanted.get(key)}")
        if not len(table) == info.num_rows == rows:
            found.note(f"{name} has {len(table)} rows; the manifest says {rows}, the shard {info.num_rows}")
        _check_values(found, name, table, wanted.get("udever.unit") == "true")
        if self._aligned:
            self._compare(name, info, table)
        if self._sample is not None:
            self._sample.meet(table)
        if self._copy is not None and "embedding" in table.column_names:
            copied = self._copy[found.num_results : found.num_results + len(table)]
            if not np.array_equal(copied, to_numpy(table.column("embedding"))):
                found.note(f"{self._copied.name} has other vectors than {name}; remove it, it is made again")
        found.num_results += len(table)
        found.num_failed += len(info.failed)
        self._ids.add(np.array([hash_bytes(i.encode()) for i in table.column("id").to_pylist()], HASH), 0)

    def _compare(self, name: str, info: ShardInfo, table: pa.Table) -> None:
        """Note where ids or texts of a shard are not those of the input's next rows; that ends the comparing."""
        expected = [(row.id, text_hash) for row, text_hash, _ in islice(self._rows, info.num_input_rows)]
        failed = {note["offset"] for note in info.failed}
        expected = [entry for offset, entry in enumerate(expected) if offset not in failed]
        found = list(zip(table.column("id").to_pylist(), table.column("text_hash").to_pylist(), strict=True))
        if found == expected:
            return
        self._aligned = False
        pairs = zip(found, expected, strict=False)
        row = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
        here = f"id {found[row][0]!r}" if row < len(found) else "no row"
        there = f"id {expected[row][0]!r}" if row < len(expected) else "no row"
        self.found.note(
            f"{name} row {row} is not the input's: {here} there, {there} in the input or its text differs; "
            f"the input changed: run the job again"
        )

    def end(self) -> None:
        """Note rows of the input that no shard has, samples that come out otherwise, and ids that come twice."""
        left = sum(1 for _ in self._rows)  # which counts the rows that cannot be read, too
        if self._aligned and left:
            self.found.note(f"{left} rows at the end of the input have no result; run the job again")
        if self._sample is not None:
            self._sample.check(self.found, self._manifest.identity.get("udever.precision", "float32"))
        num_twice = sum(len(entries) for entries in repeated(self._ids))
        if num_twice:
            self.found.note(f"{num_twice} ids have several rows; give every row an id of its own")


def audit(
    folder: str | Path, inputs: list[str] | None = None, *, again: Again | None = None, show_progress: bool = False
) -> Audit:
    """Check the output folder of a job row by row against its input (`inputs` where it has moved).

    What must hold: every byte of every shard is the one that was written; every row of the input has one result, in
    order, with its id and the hash of its text; all numbers are finite and all vectors of length 1; one fingerprint
    and one set of options; no id twice; no shard too many; the rows of `again` come out alike. Rows in
    _failed.parquet are a finding: they have no vector. Raises DataError where the folder is no job's that came to its
    end, or the input cannot be read, ContractError where `again` has another step.
    """
    folder = Path(folder)
    manifest = layout.read_manifest(folder)
    if again is not None and again.step.identity != manifest.identity:
        raise ContractError(f"{folder} was made by another model or with other options; give the one that made it")
    reading = Reading(inputs or manifest.inputs, Columns(**manifest.columns), manifest.split)
    with TemporaryDirectory() as temporary:
        check = _Check(folder, manifest, reading, again, HashLog(Path(temporary) / "ids"))
        with progress_bar("auditing", len(manifest.shards), enabled=show_progress) as advance:
            for shard in manifest.shards:
                check.shard(shard)
                advance()
        check.end()
    result = check.found
    result.num_rows = result.num_results + result.num_failed
    named = {path.name for path in manifest.files(folder)}
    extra = [path.name for path in layout.shards_in(folder) if path.name not in named]
    if extra:
        result.note(f"{len(extra)} shards are not of this job's last run, such as {extra[0]}; run the job again")
    _check_failed(result, folder, manifest.failed_digest)
    return result


def _check_failed(result: Audit, folder: Path, digest: str) -> None:
    path = folder / layout.FAILED
    if path.is_file() and digest_file(path) != digest:
        result.note(f"{path}: its bytes are not those that were written (digest); run the job again")
    listed = 0
    if path.is_file():
        with suppress(pa.ArrowException, OSError), open_parquet(path) as file:
            listed = file.metadata.num_rows
    if result.num_failed:
        result.note(f"{result.num_failed} rows have no result; {path} says which and why")
    if listed != result.num_failed:
        result.note(f"{path} lists {listed} rows, {result.num_failed} have no result; run the job again")
