import asyncio
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from udever import Embedder
from udever.server.batcher import BadInputError, Batcher, BrokenError, OverloadedError
from udever.server.scheduling import Planner

RAISES, NOT_FINITE, NO_LENGTH = 13, 14, 15


def stub(ids, skip):
    """A vector that tells the sequence: and what bad sequences do to a whole batch."""
    if any(sequence[0] == RAISES for sequence in ids):
        raise RuntimeError("index out of range in self")
    vectors = np.array([[sequence[0], len(sequence), skip, 1] for sequence in ids], dtype=np.float32)
    if any(sequence[0] == NOT_FINITE for sequence in ids):
        vectors[:] = np.nan  # it takes its neighbours with it
    vectors[[sequence[0] == NO_LENGTH for sequence in ids]] = 0
    return vectors


class Gate:
    """An encode function that waits to be let through, and notes what it was given."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Event()
        self.seen = []

    def __call__(self, ids, skip):
        self.seen += [sequence[0] for sequence in ids]
        self.entered.set()
        assert self.open.wait(20)
        return stub(ids, skip)


@pytest.fixture
def start():
    """start(encode, **options) -> a running Batcher."""
    running = []

    def make(encode, *, queue_tokens=10_000, batch_tokens=256, **options):
        planner = Planner(batch_tokens=batch_tokens, age_cap_s=1.0, pads=False)
        batcher = Batcher(encode, planner, queue_tokens=queue_tokens, **options)
        batcher.start()
        running.append(batcher)
        return batcher

    yield make
    for batcher in running:
        batcher.stop()


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


@given(
    requests=st.lists(
        st.lists(st.lists(st.integers(20, 99), min_size=1, max_size=80), min_size=1, max_size=20),
        min_size=1,
        max_size=8,
    ),
    workers=st.sampled_from([1, 3]),
)
@settings(max_examples=30)
def test_answers_come_back_to_their_requests_in_order(requests, workers):
    planner = Planner(batch_tokens=100, age_cap_s=1.0, pads=True)
    reports = []
    batcher = Batcher(stub, planner, queue_tokens=10**6, on_batch=reports.append, workers=workers)
    batcher.start()

    async def run():
        return await asyncio.gather(*(batcher.submit(one, number % 3) for number, one in enumerate(requests)))

    for number, (one, vectors) in enumerate(zip(requests, asyncio.run(run()), strict=True)):
        np.testing.assert_array_equal(vectors, stub(one, number % 3))
    batcher.stop()
    assert batcher.held_tokens == 0
    assert sum(report.num_tokens for report in reports) == sum(len(text) for one in requests for text in one)


@pytest.mark.parametrize("family", ["bloom", "qwen3", "bert", "falcon"])
def test_a_text_has_the_same_vector_alone_and_in_a_crowd(family, embedders, start):
    embedder = embedders(family, **({"pooling": "mean", "attention": "bidirectional"} if family == "bert" else {}))

    @torch.inference_mode()
    def encode(ids, skip):
        return embedder.embed_tokens(ids, skip).numpy()

    batcher = start(encode, batch_tokens=512)

    @settings(max_examples=6)
    @given(st.lists(st.text(max_size=60), min_size=1, max_size=24))
    def check(texts):
        ids = embedder.tokenize(texts, "query").ids

        async def run():
            return await asyncio.gather(*(batcher.submit([one]) for one in ids), batcher.submit(ids))

        *single, crowd = asyncio.run(run())
        alone = embedder.finish(torch.from_numpy(np.stack([encode([one], 0)[0] for one in ids]))).numpy()
        for vectors in (np.concatenate(single), crowd):
            cosines = (embedder.finish(torch.from_numpy(vectors)).numpy() * alone).sum(1)
            assert cosines.min() >= 0.99999

    check()


def test_in_bfloat16_a_crowd_moves_a_vector_little(decoders, start):
    embedder = Embedder.load(decoders("qwen3"), dtype="bfloat16", device="cpu")
    ids = embedder.tokenize([f"text {'and more ' * (number % 17)}" for number in range(60)], "query").ids

    @torch.inference_mode()
    def encode(sequences, skip):
        return embedder.embed_tokens(sequences, skip).numpy()

    crowd = asyncio.run(start(encode, batch_tokens=512).submit(ids))
    alone = np.concatenate([encode([one], 0) for one in ids])
    cosines = (crowd * alone).sum(1) / np.linalg.norm(crowd, axis=1) / np.linalg.norm(alone, axis=1)
    assert cosines.min() >= 0.999


@pytest.mark.parametrize("bad", [RAISES, NOT_FINITE, NO_LENGTH])
def test_one_bad_input_fails_alone(bad, start):
    gate = Gate()
    batcher = start(gate)

    async def run():
        first = asyncio.create_task(batcher.submit([[20]]))  # holds the worker while the others gather
        await until(gate.entered.is_set)
        good = [asyncio.create_task(batcher.submit([[21 + number] * 5])) for number in range(7)]
        mixed = asyncio.create_task(batcher.submit([[30] * 5, [bad] * 5, [31] * 5]))
        await until(lambda: batcher.num_jobs == 9)
        gate.open.set()
        return await asyncio.gather(first, *good), (await asyncio.gather(mixed, return_exceptions=True))[0]

    good, mixed = asyncio.run(run())
    assert [vectors[0, 0] for vectors in good] == list(range(20, 28))
    assert isinstance(mixed, BadInputError)
    assert mixed.row == 1
    assert batcher.held_tokens == 0
    assert asyncio.run(batcher.submit([[40]]))[0, 0] == 40


def test_the_queue_is_bounded_in_tokens_and_says_when_to_come_again(start):
    gate = Gate()
    batcher = start(gate, queue_tokens=100)

    async def run():
        running = asyncio.create_task(batcher.submit([[20] * 60]))
        await until(gate.entered.is_set)
        with pytest.raises(OverloadedError) as refused:
            await batcher.submit([[21] * 41])
        assert refused.value.retry_after_s >= 1
        fits = asyncio.create_task(batcher.submit([[22] * 40]))
        await until(lambda: batcher.held_tokens == 100)
        gate.open.set()
        return await asyncio.gather(running, fits)

    assert [vectors[0, 0] for vectors in asyncio.run(run())] == [20, 22]
    assert 21 not in gate.seen
    assert batcher.retry_after_s(100) is None


def test_what_could_not_be_answered_in_time_is_refused_at_once(start):
    gate = Gate()
    batcher = start(gate, timeout_s=5.0)
    batcher._planner.pace.token_s = 1.0

    async def run():
        running = asyncio.create_task(batcher.submit([[20] * 9]))
        await until(gate.entered.is_set)
        with pytest.raises(OverloadedError) as refused:
            await batcher.submit([[21]])
        gate.open.set()
        await running
        return refused.value.retry_after_s

    assert asyncio.run(run()) == pytest.approx(4.0)


def test_a_request_given_up_is_not_encoded_and_frees_its_room(start):
    gate = Gate()
    batcher = start(gate)

    async def run():
        running = asyncio.create_task(batcher.submit([[20] * 9]))
        await until(gate.entered.is_set)
        waiting = asyncio.create_task(batcher.submit([[21] * 9] * 50))
        await until(lambda: batcher.num_jobs == 2)
        assert batcher.held_tokens == 51 * 9
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert batcher.held_tokens == 9
        gate.open.set()
        await running
        return await batcher.submit([[22]])

    assert asyncio.run(run())[0, 0] == 22
    assert set(gate.seen) == {20, 22}
    assert batcher.held_tokens == 0
    assert batcher.num_jobs == 0


def test_stopping_answers_what_was_taken_and_takes_no_more(start):
    gate = Gate()
    batcher = start(gate, batch_tokens=64)

    async def run():
        taken = [asyncio.create_task(batcher.submit([[20 + number] * 30] * 4)) for number in range(5)]
        await until(lambda: batcher.num_jobs == 5)
        stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
        await until(lambda: batcher._stopping)
        with pytest.raises(BrokenError):
            await batcher.submit([[50]])
        gate.open.set()
        answers = await asyncio.gather(*taken)
        await stopping
        return answers

    assert [vectors[3, 0] for vectors in asyncio.run(run())] == [20, 21, 22, 23, 24]
    assert not batcher.healthy


def test_a_dead_worker_is_told_to_all_who_wait(start):
    def report(_):
        raise MemoryError

    batcher = start(stub, on_batch=report)

    async def run():
        await batcher.submit([[20]])
        await until(lambda: not batcher.healthy)
        with pytest.raises(BrokenError):
            await batcher.submit([[21]])

    asyncio.run(run())


def test_the_worker_dying_in_a_batch_fails_its_requests(start):
    def die(ids, skip):
        raise SystemExit

    batcher = start(die)
    with pytest.raises(BrokenError, match="SystemExit"):
        asyncio.run(batcher.submit([[20]]))
    assert not batcher.healthy


def test_workers_run_batches_at_once_and_a_request_gets_all_its_texts_back(start):
    together = threading.Barrier(3, timeout=10)
    threads = set()

    def encode(ids, skip):
        if ids[0][0] == 99:
            return stub(ids, skip)
        threads.add((threading.get_ident(), torch.get_num_threads()))
        together.wait()
        return stub(ids, skip)

    before = torch.get_num_threads()
    batcher = start(encode, batch_tokens=64, workers=3, threads=1)
    texts = [[20 + n] * 60 for n in range(12)]

    async def run():
        await batcher.submit([[99]])
        await asyncio.sleep(0.2)  # all workers wait, and one request wakes them
        return await batcher.submit(texts)

    np.testing.assert_array_equal(asyncio.run(run()), stub(texts, 0))
    assert len(threads) == 3 and {count for _, count in threads} == {1}
    assert torch.get_num_threads() == before
    assert batcher.held_tokens == 0


def test_where_a_worker_cannot_be_started_those_that_were_end(monkeypatch):
    begin = threading.Thread.start

    def two_at_most(thread):
        if sum(other.name == "udever-encode" for other in threading.enumerate()) == 2:
            raise RuntimeError("can't start new thread")
        begin(thread)

    batcher = Batcher(stub, Planner(batch_tokens=64, age_cap_s=1.0, pads=False), queue_tokens=100, workers=3)
    monkeypatch.setattr(threading.Thread, "start", two_at_most)
    with pytest.raises(RuntimeError, match="can't start"):
        batcher.start()
    batcher.stop()
    assert not batcher.healthy


def test_one_dead_worker_breaks_the_batcher_for_all(start):
    def encode(ids, skip):
        if ids[0][0] == 99:
            raise SystemExit
        return stub(ids, skip)

    batcher = start(encode, workers=2)

    async def run():
        with pytest.raises(BrokenError):
            await batcher.submit([[99]])
        await until(lambda: not batcher.healthy)
        with pytest.raises(BrokenError):
            await batcher.submit([[20]])

    asyncio.run(run())
    batcher.stop()


def test_several_workers_bring_a_full_queue_to_its_end_sooner(start):
    gate = Gate()
    planner = Planner(batch_tokens=64, age_cap_s=1.0, pads=False)
    waits = []
    for workers in (1, 4):
        batcher = Batcher(gate, planner, queue_tokens=100, workers=workers)
        batcher._held_tokens = 100
        planner.pace.token_s = 1.0
        waits.append(batcher.retry_after_s(100))
    assert waits == [100, 25]
