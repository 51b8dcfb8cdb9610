import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from udever.server.scheduling import SHORT_TOKENS, Lane, Pace, Planner, RequestJob, Room

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=30)


def job(lengths, arrival_s=0.0, skip=0):
    return RequestJob([[7] * length for length in lengths], skip, arrival_s, answer=None)


def planner(batch_tokens=1024, age_cap_s=2.0, pads=False):
    made = Planner(batch_tokens=batch_tokens, age_cap_s=age_cap_s, pads=pads)
    made.pace = Pace(fixed_s=0.01, token_s=0.0001)  # an empty pass costs as much as 100 tokens
    return made


def drain(made, now_s=100.0):
    batches = []
    while batch := made.take(now_s):
        batches.append(batch)
    return batches


@given(requests=st.lists(st.tuples(LENGTHS, st.integers(0, 1)), min_size=1, max_size=6), pads=st.booleans())
def test_every_text_runs_once_within_the_budget_and_beside_its_like(requests, pads):
    made = planner(pads=pads)
    jobs = [job(lengths, arrival_s, skip) for arrival_s, (lengths, skip) in enumerate(requests)]
    for one in jobs:
        made.add(one)
    batches = drain(made)
    ran = sorted((jobs.index(item.job), item.row) for batch in batches for item in batch)
    assert ran == [(number, row) for number, one in enumerate(jobs) for row in range(len(one.sequences))]
    assert len(made) == 0
    for batch in batches:
        lengths = [item.length for item in batch]
        rectangle = max(lengths) * len(lengths)
        assert len({item.job.skip for item in batch}) == 1
        if len(batch) > 1:
            assert (rectangle if pads else sum(lengths)) <= 1024
        if pads:
            assert rectangle - sum(lengths) <= 50 + 0.12 * rectangle


def test_a_text_longer_than_the_budget_runs_alone():
    made = planner(batch_tokens=64)
    made.add(job([500, 3, 3]))
    assert sorted(sorted(item.length for item in batch) for batch in drain(made)) == [[3, 3], [500]]


def test_a_short_query_waits_for_no_more_than_the_batch_that_runs():
    made = planner()
    made.add(job([50] * 500))
    made.take(0.0)
    query = job([9], arrival_s=0.1)
    made.add(query)
    assert [item.job for item in made.take(0.1)] == [query]


def test_a_flood_of_short_queries_leaves_bulk_every_second_turn():
    made = planner()
    bulk = job([50] * 400)
    made.add(bulk)
    turns = []
    for number in range(12):
        for _ in range(30):
            made.add(job([9], arrival_s=float(number)))
        turns.append(made.take(float(number))[0].job is bulk)
    assert sum(turns) == 6
    assert turns[1::2] in ([True] * 6, [False] * 6)


def test_batches_are_small_while_short_queries_come_and_large_otherwise():
    made = planner(batch_tokens=100_000)
    made.add(job([9], arrival_s=0.0))
    made.add(job([50] * 500, arrival_s=0.0))
    made.take(0.0)
    brisk = sum(item.length for item in made.take(0.1))
    patient = sum(item.length for item in made.take(60.0))
    assert 150 <= brisk <= 200  # two empty passes
    assert 1500 <= patient <= 1600  # sixteen


def test_a_flood_of_short_queries_runs_in_large_batches_and_takes_half_of_the_time():
    made = planner(batch_tokens=100_000)
    bulk = job([50] * 500)
    made.add(bulk)
    for _ in range(80):
        made.add(job([9], arrival_s=0.0))
    sizes = [sum(item.length for item in made.take(0.1)) for _ in range(2)]
    assert sizes[0] == 80 * 9
    assert sizes[0] - 50 < sizes[1] <= sizes[0]


def test_a_short_query_under_bulk_is_answered_within_three_times_its_idle_time():
    made = planner(batch_tokens=4096)
    made.pace = Pace(fixed_s=0.0055, token_s=0.00007)
    clock_s, waited = 0.0, []
    queries = iter(range(1, 400))
    due_s, asked = 1.0, {}
    while len(waited) < 200:
        while len(made) < 256:
            made.add(job([4 + (number * 37) % 60 for number in range(64)], arrival_s=clock_s))
        if clock_s >= due_s:
            query = job([8], arrival_s=due_s)
            asked[id(query)] = query
            made.add(query)
            due_s = math.inf
        batch = made.take(clock_s)
        num_tokens = sum(item.length for item in batch)
        seconds = 0.005 + 0.00005 * num_tokens
        clock_s += seconds
        made.pace.observe(num_tokens, seconds)
        if id(batch[0].job) in asked:
            waited.append(clock_s - asked.pop(id(batch[0].job)).arrival_s)
            due_s = clock_s + 0.02 + 0.0007 * (next(queries) % 13)  # at any moment of a batch
    idle_s = 0.005 + 0.00005 * 8
    waited.sort()
    assert waited[len(waited) // 2] <= 2.5 * idle_s
    assert waited[len(waited) * 95 // 100] <= 3 * idle_s


@given(
    requests=st.lists(st.tuples(st.floats(0, 20), st.lists(st.integers(40, 300), min_size=3, max_size=9)), max_size=8),
    cap_s=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_nothing_heads_a_batch_before_a_text_that_came_more_than_the_age_cap_earlier(requests, cap_s):
    made = planner(age_cap_s=cap_s)
    for arrival_s, lengths in sorted(requests):
        made.add(job(lengths, arrival_s))
    waiting = [(item.job.arrival_s, item.number) for batch in drain(_copy(made)) for item in batch]
    while batch := made.take(100.0):
        head = batch[0]
        for arrival_s, number in waiting:
            assert number == head.number or head.job.arrival_s <= arrival_s + cap_s
        taken = {item.number for item in batch}
        waiting = [(arrival_s, number) for arrival_s, number in waiting if number not in taken]


def _copy(made):
    """The same waiting texts in another planner."""
    other = planner()
    jobs = []
    for lane in (made._short, made._bulk):
        for bucket in lane._buckets.values():
            for item in bucket:
                jobs.append(item)
    for item in jobs:
        other._bulk.put(item)
    return other


def test_a_small_request_passes_the_tail_of_a_large_one():
    made = planner()
    large, small = job([60] * 400, arrival_s=0.0), job([60] * 3, arrival_s=0.01)
    made.add(large)
    made.add(small)
    order = [item.job for batch in drain(made) for item in batch]
    assert order.index(small) < 10


def test_the_dead_are_passed_over_and_swept():
    made = planner()
    alive = job([200], arrival_s=0.0)
    made.add(alive)
    for _ in range(10):
        gone = job([60] * 1000, arrival_s=1.0)
        made.add(gone)
        gone.dead = True
        made.gave_up(gone)
    assert len(made) <= 5001, "texts of jobs given up pile up"
    assert [item.job for batch in drain(made) for item in batch] == [alive]
    assert len(made) == 0


def test_room_with_and_without_padding():
    assert Room(100).fits(3, 90, 100)
    assert not Room(100).fits(3, 90, 101)
    assert Room(100, padding=5).fits(2, 50, 92)
    assert not Room(100, padding=5).fits(2, 51, 102)
    assert not Room(100, padding=5).fits(2, 50, 60)


def test_an_empty_lane_has_no_head():
    assert Lane().head() is None
    assert Lane().take(Room(10)) == []


def test_pace_learns_both_costs_and_forgets_slowly():
    pace = Pace(fixed_s=1.0, token_s=1.0)
    pace.observe(8, 0.005, weight=1)
    pace.observe(1000, 0.1, weight=1)
    assert (pace.fixed_s, pace.token_s) == pytest.approx((0.005, 0.0001))
    assert pace.tokens_in(0.01) == pytest.approx(100, abs=1)
    assert pace.seconds_of(500) == pytest.approx(0.05)
    pace.observe(8, 0.105)
    assert 0.005 < pace.fixed_s < 0.02
    before = (pace.fixed_s, pace.token_s)
    pace.observe(SHORT_TOKENS + 1, 99.0)  # neither
    assert (pace.fixed_s, pace.token_s) == before
    assert math.isfinite(pace.token_s)
