import asyncio

from peavine.base.backoff import Backoff
from peavine.base.clock import SimulatedClock
from peavine.base.lifetimes import scope


def test_sleepers_wake_in_order_of_their_deadline():
    async def main():
        clock, woken = SimulatedClock(), []

        async def sleeper(seconds):
            await clock.sleep(seconds)
            woken.append((seconds, clock.monotonic()))

        async with scope() as tasks:
            for seconds in (3, 1, 2):
                tasks.start(sleeper(seconds))
            await asyncio.sleep(0)
            await clock.advance(2.5)
            assert woken == [(1, 1.0), (2, 2.0)]
            await clock.advance(1)
        return woken

    assert asyncio.run(main()) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_backoff_doubles_to_its_cap_and_is_forgotten():
    backoff = Backoff(first=1, most=5)
    assert [backoff.next("a") for _ in range(4)] == [1, 2, 4, 5]
    assert backoff.next("b") == 1
    backoff.forget("a")
    assert backoff.next("a") == 1


def test_leaving_a_scope_cancels_what_still_runs():
    async def main():
        ended = []

        async def forever():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        async with scope() as tasks:
            tasks.start(forever())
            await asyncio.sleep(0)
        return ended

    assert asyncio.run(main()) == [True]
