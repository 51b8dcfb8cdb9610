"""A corpus job: sources in, a folder of shards out, resumable at every point.

scan     read and hash every row; which windows have no shard yet?
reuse    what they share with one another and with older shards
run      spool -> tokens -> model -> shard, each in a thread of its own, windows in order
end      failed rows, manifest; shards nobody needs any more go
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from udever.corpus import folder as layout
from udever.corpus.inputs import BadRow, Columns, InputRow, Source, check_columns, check_split, find_sources, read_rows
from udever.corpus.scan import FailedFile, Scan, hash_bytes, read_failed, scan
from udever.corpus.shards import (
    Reuse,
    ShardName,
    WindowJob,
    find_reuse,
    finish,
    nothing,
    plan,
    read_columns,
    read_info,
    texts_of,
)
from udever.corpus.step import Output, Step, Tick, digest_of
from udever.errors import RecipeError
from udever.files import is_hub_name
from udever.progress import Advance, progress_bar
from udever.storage import atomic_file, digest_file

_TICK_ROWS = 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read and how it is cut: the choices of a job that are not the step's.

    `inputs` are files, folders, globs, saved datasets or a hub dataset; `split` is a dataset's. A window is
    what is sorted by length, embedded and written together.
    """

    inputs: list[str]
    columns: Columns = field(default_factory=Columns)
    split: str | None = None
    window_rows: int = 8192

    @property
    def choice(self) -> dict[str, str | None]:
        """What is read of a row: a job that goes on must read the same."""
        return {"column": self.columns.text, "id_column": self.columns.id, "split": self.split}

    def sources(self, skipped: Counter[str] | None = None) -> list[Source]:
        """The sources in order; raises DataError and counts in `skipped`, as `find_sources`."""
        return find_sources(self.inputs, self.split, skipped)

    def check(self, skipped: Counter[str] | None = None) -> None:
        """Raise DataError for a wrong path, split or column, before any work; `skipped` as for `sources`."""
        sources = self.sources(skipped)
        check_split(sources, self.split)
        check_columns(sources, self.columns)

    def rows(self) -> Iterator[InputRow | BadRow]:
        """Every row of every source, in order."""
        for source in self.sources():
            yield from read_rows(source, self.columns)


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a run did and what is there now.

    `num_rows` rows were read, `num_failed` of them have no result (see _failed.parquet), `num_texts` distinct
    texts went through the model in this run, as `num_tokens` tokens. `num_truncated` rows were cut to fit.
    `duplicate_ids` counts ids that several rows have, `examples` are some of them.
    `skipped` counts what the inputs' folders hold besides, by reason.
    """

    num_rows: int
    num_failed: int
    num_texts: int
    num_tokens: int
    num_truncated: int
    num_shards_made: int
    duplicate_ids: int
    examples: list[str]
    seconds: float
    skipped: dict[str, int]

    @property
    def whole(self) -> bool:
        """Whether every row has a result and an id of its own."""
        return not self.num_failed and not self.duplicate_ids


Runner = Callable[[Iterator[WindowJob], Step, Reuse, Tick], None]
"""Does jobs, all of them: `runner(jobs, step, reuse, tick)`. `tick` counts rows, not shares, and tokens."""


def run_here(jobs: Iterator[WindowJob], step: Step, reuse: Reuse, tick: Tick) -> None:
    """The jobs in this process: planning, tokenising, the model and writing overlap."""

    def prepared() -> Iterator[tuple[WindowJob, object]]:
        with closing(ahead(jobs)) as planned:
            for job in planned:
                yield job, step.prepare(texts_of(job)) if job.num_texts else None

    with closing(ahead(prepared())) as ready, behind() as do:
        for job, tokens in ready:
            do(finish, job, _run(job, tokens, step, tick), step, reuse)


def _run(job: WindowJob, prepared: object, step: Step, tick: Tick) -> Output:
    if not job.num_texts:
        tick(job.num_rows, 0)
        return nothing(step)
    done = 0.0
    counted = 0

    def whole_rows(share: float, num_tokens: int) -> None:
        nonlocal done, counted
        done += share
        rows = round(done * job.num_rows)
        tick(rows - counted, num_tokens)
        counted = rows

    return step.run(prepared, whole_rows)


class _Counter:
    """Moves the bar and says tokens a second; time left is the bar's own."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._started = time.perf_counter()
        self.num_tokens = 0

    def tick(self, num_rows: float, num_tokens: int) -> None:
        """Rows and tokens that were done."""
        self.num_tokens += num_tokens
        rate = self.num_tokens / max(time.perf_counter() - self._started, 1e-9)
        self._advance(num_rows, f"{rate:,.0f} tokens/s")


def _counted(rows: Iterator[InputRow | BadRow], advance: Advance) -> Iterator[InputRow | BadRow]:
    number = 0
    for number, row in enumerate(rows, 1):
        yield row
        if number % _TICK_ROWS == 0:
            advance(_TICK_ROWS)
    advance(number % _TICK_ROWS)


def run_job(
    step: Step, reading: Reading, output: str | Path, *, runner: Runner = run_here, show_progress: bool = True
) -> JobSummary:
    """Do `step` for every row of `reading`; write the folder `output`. What is there already is not done again.

    A row that cannot be embedded goes to `_failed.parquet` and the others go on. Raises DataError (an input),
    ContractError (the folder has another model's vectors), OutputError (disk, permissions, another run).
    """
    started = time.perf_counter()
    if reading.window_rows < 1:
        raise RecipeError(f"window_rows is {reading.window_rows}; expected at least 1")
    folder = Path(output)
    skipped: Counter[str] = Counter()
    reading.check(skipped)  # before anything is written
    with layout.at_work(folder, step.identity, reading.choice, reading.inputs) as work:
        digest = digest_of(step)
        shards = layout.usable_shards(folder, digest.hex())
        with progress_bar("reading", None, enabled=show_progress) as advance:
            rows = _counted(reading.rows(), advance)
            found = scan(rows, step_digest=digest, done=shards.keys(), window_rows=reading.window_rows, work=work)
        reuse = find_reuse(found, list(shards.values()), step.columns, work)
        missing = found.missing
        num_texts = 0

        def jobs() -> Iterator[WindowJob]:
            nonlocal num_texts
            for number in missing:
                window = found.windows[number]
                assert window.spool is not None
                job = plan(window.spool, folder / layout.SHARDS, number, window.key, reuse)
                num_texts += job.num_texts
                yield job

        num_rows = sum(found.windows[number].num_rows for number in missing)
        with progress_bar("embedding", num_rows, enabled=show_progress) as advance:
            counter = _Counter(advance)
            runner(jobs(), step, reuse, counter.tick)
        manifest = _end(step, reading, folder, found, work)
        examples = _names(found, manifest.files(folder))
    return JobSummary(
        num_rows=manifest.num_rows,
        num_failed=manifest.num_failed,
        num_texts=num_texts,
        num_tokens=counter.num_tokens,
        num_truncated=manifest.num_truncated,
        num_shards_made=len(missing),
        duplicate_ids=found.duplicate_ids,
        examples=examples,
        seconds=time.perf_counter() - started,
        skipped=dict(skipped),
    )


def _end(step: Step, reading: Reading, folder: Path, found: Scan, work: Path) -> layout.JobManifest:
    """Write failed rows and manifest from what the shards say."""
    shards = layout.place_shards(folder, [window.key for window in found.windows])
    num_tokens = num_truncated = num_failed = 0
    entries = []
    target = folder / layout.FAILED
    with atomic_file(target) as temporary:
        with FailedFile(temporary) as failed:
            for row in read_failed(work / "failed.parquet"):
                failed.add(row)
            for shard in shards:
                info = read_info(shard)
                num_tokens += info.num_tokens
                num_truncated += info.num_truncated
                name = ShardName.parse(shard.name)
                assert name is not None
                entry = {"file": f"{layout.SHARDS}/{shard.name}", "rows": info.num_rows, "digest": name.digest}
                entries.append(entry)
                for row in info.failed_rows():
                    failed.add(row)
        num_failed = failed.num_rows
    manifest = layout.JobManifest(
        identity=step.identity,
        inputs=[given if is_hub_name(given) else str(Path(given).absolute()) for given in reading.inputs],
        columns=reading.columns._asdict(),
        split=reading.split,
        num_rows=found.num_rows,
        num_failed=num_failed,
        num_tokens=num_tokens,
        num_truncated=num_truncated,
        duplicate_ids=found.duplicate_ids,
        failed_digest=digest_file(target) if num_failed else "",
        shards=entries,
    )
    layout.write_manifest(folder, manifest)
    if not num_failed:
        target.unlink()
    return manifest


def _names(found: Scan, shards: list[Path]) -> list[str]:
    """The ids behind the scan's examples of duplicates."""
    names = []
    for wanted, window in found.duplicate_examples:
        ids = read_columns(shards[window], ["id"]).column(0).to_pylist()
        names += [name for name in ids if hash_bytes(name.encode()) == wanted][:1]
    return names


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """`items` in order, made in a thread of their own; at most `depth` of them lie waiting.

    What `items` raises is raised here. To be closed where it is not read to the end: the thread then ends
    with the item in hand.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        made = deque(pool.submit(next, iterator, end) for _ in range(depth + 1))
        try:
            while (item := made.popleft().result()) is not end:
                made.append(pool.submit(next, iterator, end))
                yield cast(T, item)
        finally:
            pool.shutdown(cancel_futures=True)
            if isinstance(items, Generator):
                items.close()


@contextmanager
def behind(depth: int = 1) -> Iterator[Callable[..., None]]:
    """Yield `do(call, *arguments)`, which runs calls one after the other in a thread of its own.

    At most `depth` lie waiting, then `do` waits. An exception of a call is raised by a later `do` or at the end of the
    block; calls after it are not run. An exception of the block leaves the calls before it to be done.
    """
    waiting: deque[Future[None]] = deque()
    failed = False

    def run(call: Callable[..., None], *arguments: Any) -> None:
        nonlocal failed
        if failed:  # what comes after may build on what failed
            return
        try:
            call(*arguments)
        except BaseException:
            failed = True
            raise

    with ThreadPoolExecutor(1) as pool:

        def do(call: Callable[..., None], *arguments: Any) -> None:
            while len(waiting) > depth or (waiting and waiting[0].done()):
                waiting.popleft().result()
            waiting.append(pool.submit(run, call, *arguments))

        yield do
    while waiting:
        waiting.popleft().result()
