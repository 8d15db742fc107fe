import asyncio

from peavine.base.clock import SimulatedClock
from peavine.base.lifetimes import scope
from peavine.client.workqueue import WorkQueue


def test_a_key_is_queued_once_however_often_it_is_added():
    async def main():
        queue = WorkQueue()
        for _ in range(3):
            queue.add("a")
        assert await queue.get() == "a"
        assert len(queue) == 0

    asyncio.run(main())


def test_a_key_added_while_worked_on_comes_again_after_done():
    async def main():
        queue = WorkQueue()
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        assert len(queue) == 0
        queue.done(key)
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    asyncio.run(main())


def test_delayed_keys_come_when_due_and_the_earliest_wish_counts():
    async def main():
        clock = SimulatedClock()
        queue = WorkQueue(clock=clock)
        async with scope() as tasks:
            tasks.start(queue.run())
            queue.add_after("late", 10)
            queue.add_after("soon", 5)
            queue.add_after("late", 1)
            await asyncio.sleep(0)
            await clock.advance(2)
            assert len(queue) == 1 and await queue.get() == "late"
            await clock.advance(4)
            assert await queue.get() == "soon"
            await clock.advance(20)
            assert len(queue) == 0

    asyncio.run(main())


def test_backoff_of_a_failing_key_grows_until_it_is_forgotten():
    async def main():
        clock = SimulatedClock()
        queue = WorkQueue(clock=clock)
        async with scope() as tasks:
            tasks.start(queue.run())
            await asyncio.sleep(0)
            for wait in (0.005, 0.010, 0.020):
                queue.add_rate_limited("a")
                await asyncio.sleep(0)
                await clock.advance(wait * 0.9)
                assert len(queue) == 0
                await clock.advance(wait * 0.2)
                queue.done(await queue.get())
            queue.forget("a")
            assert queue.retries("a") == 0

    asyncio.run(main())
