from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairsmith.config import Sampling
from pairsmith.llms.endpoint.limits import AdaptiveConcurrency, Breaker, Rates, tokens_at_most
from pairsmith.protocol import Request


def test_places_shrink_under_overload_and_grow_again() -> None:
    concurrency = AdaptiveConcurrency(64)
    for number in range(2000):
        concurrency.note(overloaded=True, now=number / 20)
    assert concurrency.limit == 1
    for number in range(2000):
        concurrency.note(overloaded=False, now=100 + number / 20)
    assert concurrency.limit == 64


def test_a_burst_of_refusals_counts_once() -> None:
    concurrency = AdaptiveConcurrency(64)
    for number in range(500):
        concurrency.note(overloaded=True, now=number / 1000)
    assert concurrency.limit == 32


def test_a_few_refusals_are_taken_for_chance() -> None:
    concurrency = AdaptiveConcurrency(50)
    for number in range(5000):
        concurrency.note(overloaded=number % 20 == 0, now=number / 20)
    assert concurrency.limit == 50


def test_how_long_many_are_refused_is_told_and_ends_with_it() -> None:
    concurrency = AdaptiveConcurrency(64)
    for number in range(3):
        concurrency.note(overloaded=True, now=number)
    assert concurrency.refusing(3) == 0  # few may be chance
    for number in range(3, 40):
        concurrency.note(overloaded=number % 3 > 0, now=number)  # two thirds
    assert 30 < concurrency.refusing(40) < 38
    for number in range(40, 70):
        concurrency.note(overloaded=False, now=number)
    assert concurrency.refusing(70) == 0


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 40))
def test_places_stay_within_bounds(answers: list[bool], most: int) -> None:
    concurrency = AdaptiveConcurrency(most)
    for number, overloaded in enumerate(answers):
        concurrency.note(overloaded, number / 10)
        assert 1 <= concurrency.limit <= most


def test_the_breaker_pauses_probes_and_gives_up() -> None:
    breaker, now = Breaker(failures=3, seconds=10), 100.0
    for _ in range(3):
        assert breaker.pause(now) == 0
        assert not breaker.let_out(now)
        breaker.failed("500", now, now)
    for _ in range(3):
        assert not breaker.given_up
        assert breaker.pause(now) == 10
        now += 10
        assert breaker.pause(now) == 0
        assert breaker.let_out(now)
        assert breaker.pause(now) == 10  # no other beside the probe
        breaker.failed("500", now, now, probe=True)
    assert breaker.given_up
    breaker.try_again()
    assert not breaker.given_up
    assert breaker.pause(now) == 0
    assert breaker.let_out(now)
    assert breaker.answered()
    assert (breaker.pause(now), breaker.given_up) == (0, False)


def test_late_failures_of_calls_in_flight_are_no_probes() -> None:
    breaker = Breaker(failures=3, seconds=10)
    for _ in range(50):
        breaker.failed("reset", 0.0, 0.0)
    assert not breaker.given_up
    assert breaker.pause(4.0) == 6.0


def test_one_answer_closes_the_breaker() -> None:
    breaker = Breaker(failures=3, seconds=10)
    for problem in ("a", "b", None, "c", "d"):
        if problem:
            breaker.failed(problem, 0.0, 0.0)
        else:
            assert not breaker.answered()
    assert breaker.pause(0.0) == 0


def test_calls_that_broke_together_count_once() -> None:
    breaker = Breaker(failures=3, seconds=10)
    for number in range(50):
        breaker.failed("reset", 1.0, 2.0 + number / 1000)
    assert breaker.pause(3.0) == 0
    for _ in range(2):  # that went out when the first had failed
        breaker.failed("reset", 2.0, 3.0)
    assert breaker.pause(3.0) == 10


def test_overload_alone_stops_nothing_but_tells_since_when() -> None:
    breaker = Breaker(failures=3, seconds=10)
    for now in range(5, 50):
        breaker.failed("429", now, now, counts=False)
    assert (breaker.pause(50), breaker.failing(50)) == (0, 45)
    assert not breaker.answered()
    assert breaker.failing(50) == 0


def request(chars: int, most: int) -> Request:
    return Request(({"role": "user", "content": "x" * chars},), Sampling(max_tokens=most), 0)


def test_tokens_are_reckoned_by_length_and_max_tokens() -> None:
    assert tokens_at_most([request(400, 50), request(0, 1)]) == 100 + 4 + 50 + 4 + 1


async def _taken(rates: Rates, what: Request, seconds: float) -> int:
    taken = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                await rates.take(what)
                taken += 1
    except TimeoutError:
        return taken


@pytest.mark.parametrize(
    ("calls", "tokens", "at_least", "at_most"),
    [(1200, None, 35, 45), (None, 60_000, 17, 23), (1200, 6_000_000, 35, 45), (None, None, 1000, 10**9)],
)
def test_rates_are_held(calls: float | None, tokens: float | None, at_least: int, at_most: int) -> None:
    """20 calls a second, or 1000 tokens a second in calls of 100: a second's worth at once, and as many in the next."""

    async def go() -> int:
        rates = Rates(calls, tokens)
        if calls is None and tokens is None:
            for _ in range(1000):
                await rates.take(request(384, 0 + 1))
            return 1000
        return await _taken(rates, Request(({"role": "user", "content": ""},), Sampling(max_tokens=96), 0), 1.0)

    assert at_least <= asyncio.run(go()) <= at_most


def test_a_share_of_a_rate_that_is_told_again_and_again_gives_no_more() -> None:
    async def go() -> int:
        rates, taken = Rates(600, None), 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while True:
                    rates.share = 0.5
                    await rates.take(request(4, 1))
                    taken += 1
        return taken

    assert 10 <= asyncio.run(go()) <= 14  # five at once, as many in each second


def test_a_slow_rate_and_a_request_larger_than_a_second_of_tokens() -> None:
    async def go() -> tuple[int, int]:
        slow = await _taken(Rates(6, None), request(0, 1), 0.2)
        large = await _taken(Rates(None, 6000), request(0, 146), 1.0)
        return slow, large

    assert asyncio.run(go()) == (1, 1)
