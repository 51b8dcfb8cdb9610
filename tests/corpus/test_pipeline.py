import threading

import pytest

from udever.corpus.job import ahead, behind


def test_items_come_in_order_from_another_thread():
    makers = set()

    def items():
        for number in range(20):
            makers.add(threading.get_ident())
            yield number

    assert list(ahead(items())) == list(range(20))
    assert makers and threading.get_ident() not in makers


def test_an_exception_comes_after_the_items_before_it():
    def items():
        yield 1
        raise KeyError("broken")

    reader = ahead(items())
    assert next(reader) == 1
    with pytest.raises(KeyError, match="broken"):
        next(reader)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_ends_the_thread_and_the_items_and_makes_few_too_many(taken):
    made, closed = [], []

    def items():
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    before = threading.active_count()
    reader = ahead(ahead(items()))
    for _ in range(taken):
        next(reader)
    reader.close()
    assert threading.active_count() == before
    assert len(made) <= taken + 6
    assert bool(closed) == bool(made)


def test_calls_run_in_order_and_none_after_a_failure():
    done = []

    def call(number):
        if number == 3:
            raise OSError("disk")
        done.append(number)

    with pytest.raises(OSError, match="disk"), behind() as do:
        for number in range(10):
            do(call, number)
    assert done == [0, 1, 2]


def test_all_calls_are_done_at_the_end_of_the_block():
    done = []
    with behind() as do:
        for number in range(5):
            do(done.append, number)
    assert done == [0, 1, 2, 3, 4]


def test_an_error_of_the_block_leaves_earlier_calls_to_be_done():
    done = []
    with pytest.raises(KeyError, match="model"), behind() as do:
        do(done.append, 1)
        do(done.append, 2)
        raise KeyError("model")
    assert done == [1, 2]
