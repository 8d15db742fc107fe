"""Time that tests skip: deadlines, schedules and heartbeats pass at once, in order."""

import asyncio
import time

import pytest

from peavine.base.clock import REAL, SimulatedClock
from peavine.testing import AsyncCluster

CONTAINER = {"name": "main", "image": "work"}


def job(name: str, seconds: int, **spec: object) -> dict:
    annotations = {"simulated.peavine.io/run-for": str(seconds)}
    template = {"metadata": {"annotations": annotations}, "spec": {"restartPolicy": "Never", "containers": [CONTAINER]}}
    return {"metadata": {"name": name}, "spec": {"template": template, **spec}}


@pytest.mark.slow
def test_an_hour_of_jobs_passes_in_seconds():
    async def main():
        async with AsyncCluster() as cluster:
            await cluster.create_namespace("work")
            jobs = cluster.client.resource("batch/v1", "jobs")
            await jobs.create(job("late", 100_000, activeDeadlineSeconds=600), "work")
            await jobs.create(job("brief", 30, ttlSecondsAfterFinished=60), "work")
            often = {"schedule": "*/10 * * * *", "jobTemplate": {"spec": job("", 30)["spec"]}}
            crons = cluster.client.resource("batch/v1", "cronjobs")
            await crons.create({"metadata": {"name": "often"}, "spec": often}, "work")
            await cluster.advance(60)
            assert (await jobs.get("brief", "work"))["status"]["succeeded"] == 1
            began = time.monotonic()
            await cluster.advance(3600)
            assert time.monotonic() - began < 60
            found = {j["metadata"]["name"]: j for j in (await jobs.list("work"))["items"]}
            assert "brief" not in found, "it should be gone by its TTL"
            assert found["late"]["status"]["conditions"][-1]["reason"] == "DeadlineExceeded"
            assert sum(name.startswith("often-") for name in found) >= 3

    asyncio.run(main())


def test_a_timer_fires_at_its_own_time_within_a_skip():
    async def main():
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster:
            loop, fired = asyncio.get_running_loop(), []
            start = loop.time()
            for delay in (3000, 10, 200):
                loop.call_later(delay, lambda due: fired.append((due, loop.time() - start - due)), delay)
            await cluster.advance(3500)
            assert [due for due, _ in fired] == [10, 200, 3000]
            assert all(0 <= late < 10 for _, late in fired), fired
            maps = cluster.client.resource("v1", "configmaps")
            made = await maps.create({"metadata": {"name": "new"}}, "default")
            assert made["metadata"]["creationTimestamp"] > time.strftime("%FT%TZ", time.gmtime(time.time() + 3400))

    asyncio.run(main())


def test_a_simulated_clock_stands_still_until_it_is_advanced():
    async def main():
        clock = SimulatedClock(time.time())
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0, clock=clock) as cluster:
            woken = []
            waiting = asyncio.ensure_future(clock.sleep(100))
            waiting.add_done_callback(lambda _: woken.append(clock.monotonic()))
            await cluster.advance(99)
            assert not woken
            await cluster.advance(50)
            assert woken and clock.monotonic() == 149

    asyncio.run(main())


def test_a_clock_that_cannot_serve_is_refused_by_name():
    async def main():
        with pytest.raises(ValueError, match="SimulatedClock"):
            async with AsyncCluster(controllers=False, scheduler=False, nodes=0, clock=SimulatedClock()):
                pass
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0, clock=REAL) as cluster:
            with pytest.raises(TypeError, match="RealClock"):
                await cluster.advance(1)

    asyncio.run(main())
