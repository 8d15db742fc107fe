"""Time limits that are looked at together."""

import asyncio

import pytest

from peavine.apiserver import deadlines
from peavine.apiserver.deadlines import Deadlines


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(deadlines, "SWEEP_SECONDS", 0.01)


async def _forever():
    await asyncio.Event().wait()


def test_work_that_takes_too_long_is_cancelled_and_its_caller_goes_on():
    async def main():
        limits = Deadlines()
        with pytest.raises(TimeoutError):
            await limits.limited(0.0, _forever())
        return await limits.limited(60.0, asyncio.sleep(0, "done"))

    assert asyncio.run(main()) == "done"


def test_a_cancellation_from_outside_stays_one():
    async def main():
        limits = Deadlines()
        task = asyncio.ensure_future(limits.limited(60.0, _forever()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_errors_and_results_pass_through():
    async def fails():
        raise ValueError("mine")

    async def main():
        limits = Deadlines()
        with pytest.raises(ValueError, match="mine"):
            await limits.limited(60.0, fails())

    asyncio.run(main())
