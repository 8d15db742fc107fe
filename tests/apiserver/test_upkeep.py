"""A store that fails for a while: requests are refused meanwhile, and nothing in the server dies of it."""

from __future__ import annotations

import asyncio

import pytest

from peavine.apiserver.upkeep import Upkeep
from peavine.base.clock import SimulatedClock
from peavine.base.lifetimes import scope
from peavine.machinery.errors import ApiError
from peavine.store import Unavailable
from peavine.store.memory import MemoryStore
from tests.apiserver.inside import MAPS, config_map, serving


def test_a_failing_store_is_a_503_and_the_server_goes_on_when_it_is_back(tmp_path):
    async def main():
        store = MemoryStore()
        async with serving(tmp_path, store) as api:
            put, revision = store.put, store.revision

            async def refuse(*args, **kwargs):
                raise Unavailable("the disk is gone")

            store.put = refuse  # type: ignore[method-assign]
            refused = await api("POST", MAPS, config_map("m"))
            assert (refused.status, refused.json["reason"]) == (503, "ServiceUnavailable")
            with pytest.raises(ApiError) as error:
                await api.server.writer.create("", "v1", "configmaps", "default", config_map("w"))
            assert error.value.code == 503
            store.revision = refuse  # type: ignore[method-assign]
            assert (await api("GET", MAPS)).status == 503
            assert (await api("GET", f"{MAPS}?resourceVersion=0")).status == 200  # what the cache knows
            assert (await api("GET", "/readyz")).status == 500
            assert (await api("GET", "/livez/ping")).status == 200
            store.put, store.revision = put, revision  # type: ignore[method-assign]
            assert (await api("POST", MAPS, config_map("m"))).status == 201
            assert (await api("GET", "/readyz")).status == 200

    asyncio.run(main())


def test_background_work_is_begun_again_after_a_failure():
    async def main():
        clock, runs, settled = SimulatedClock(), [], asyncio.Event()

        async def work():
            runs.append(clock.monotonic())
            if len(runs) < 4:
                raise RuntimeError("once more")
            settled.set()
            await asyncio.Event().wait()

        async with scope() as tasks:
            upkeep = Upkeep(tasks, clock)
            upkeep.keep("work", work)
            while not settled.is_set():
                await clock.advance(0.1)
            assert runs == sorted(runs) and len(runs) == 4
            await upkeep.stop()

    asyncio.run(main())
