"""Batches side by side: in order, on one thread each, no more than asked, and nothing left behind."""

import threading
import time

import pytest
import torch

from udever import Embedder
from udever.model.packing import even_budget, plan_batches, side_by_side


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_thread_stays():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


pytestmark = pytest.mark.usefixtures("three_threads", "no_thread_stays")


def test_results_come_in_order_whatever_takes_longest():
    assert list(side_by_side(lambda n: (time.sleep(0.01 * (5 - n)), n)[1], range(6))) == list(range(6))


def test_as_many_run_at_once_as_there_are_threads_and_each_computes_on_one():
    together = threading.Barrier(3, timeout=10)

    def work(_):
        together.wait()
        return torch.get_num_threads(), torch.is_inference_mode_enabled(), threading.get_ident()

    found = list(side_by_side(work, range(6)))
    assert {threads for threads, _, _ in found} == {1}
    assert all(inference for _, inference, _ in found)
    assert len({ident for _, _, ident in found}) == 3
    assert threading.get_ident() not in {ident for _, _, ident in found}


def test_the_caller_and_threads_that_come_later_compute_on_as_many_as_before():
    list(side_by_side(str, range(4)))
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (torch.get_num_threads(), later) == (3, [3])


def test_no_more_are_begun_than_can_run_and_wait_for_one_slow_reader():
    begun = []
    results = side_by_side(lambda n: begun.append(n) or n, range(50))
    assert next(results) == 0
    time.sleep(0.05)
    assert len(begun) <= 5
    results.close()


def test_what_one_raises_is_raised_and_no_further_one_is_begun():
    begun = []

    def work(n):
        begun.append(n)
        if n == 2:
            raise ValueError("the third")
        return n

    with pytest.raises(ValueError, match="the third"):
        list(side_by_side(work, range(100)))
    assert len(begun) < 10


def test_one_item_is_done_by_the_caller_on_all_its_threads():
    assert list(side_by_side(lambda _: (threading.get_ident(), torch.get_num_threads()), [0])) == [
        (threading.get_ident(), 3)
    ]


def test_where_a_thread_cannot_be_started_none_waits_for_it(monkeypatch):
    start, started, failed = threading.Thread.start, [], []

    def two_at_most(thread):
        if thread.name.startswith("udever-batch"):
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    def work():
        with pytest.raises(RuntimeError, match="can't start"):
            list(side_by_side(str, range(6)))
        failed.append(True)

    monkeypatch.setattr(threading.Thread, "start", two_at_most)
    caller = threading.Thread(target=work, daemon=True)
    caller.start()
    caller.join(10)
    assert failed and len(started) == 2


@pytest.mark.parametrize("family", ["gemma3_text", "bloom", "qwen3", "gpt2"])
def test_vectors_are_those_of_one_batch_after_another(family, make, tmp_path):
    embedder = Embedder.load(make.decoder(family, tmp_path), dtype="float32")
    texts = [f"text {n} of many " + "and more " * (n % 40) for n in range(200)]
    many = embedder.encode(texts)
    torch.set_num_threads(1)
    assert torch.allclose(torch.from_numpy(many), torch.from_numpy(embedder.encode(texts)), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_budget_shares_out_evenly(threads):
    lengths = [n % 90 + 1 for n in range(700)]
    total = sum(lengths)
    budget = even_budget(lengths, 2048, threads)
    assert budget <= 2048
    batches = plan_batches(lengths, budget)
    sizes = [sum(lengths[i] for i in batch) for batch in batches]
    rounds = -(-len(batches) // threads)
    assert rounds * max(sizes) <= 1.25 * total / threads or threads == 1


def test_few_tokens_stay_in_one_batch():
    assert even_budget([8] * 10, 2048, 4) == 2048
