"""What a request may take, and how the server ends: time-outs, full houses, a stop with work under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peavine.store.memory import MemoryStore
from tests.apiserver.inside import MAPS, Client, config_map, serving


class HeldStore(MemoryStore):
    """Writes of keys that end in `held` wait until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.came, self.go = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, *args: Any, **named: Any) -> Any:
        if key.endswith("held"):
            self.came.set()
            await self.go.wait()
        return await super().put(key, *args, **named)


@contextlib.asynccontextmanager
async def holding(directory: Path, **settings: Any) -> AsyncIterator[tuple[Client, HeldStore, asyncio.Task[Any]]]:
    """A server with one write under way that does not end by itself."""
    store = HeldStore()
    async with serving(directory, store, authorization_modes=("AlwaysAllow",), **settings) as api:
        held = asyncio.ensure_future(api("POST", MAPS, config_map("held"), token="user-token"))
        try:
            async with asyncio.timeout(30):
                await store.came.wait()
            yield api, store, held
        finally:
            store.go.set()
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)


@pytest.mark.parametrize(("query", "settings"), [("?timeout=100ms", {}), ("", {"request_timeout_seconds": 0.1})])
def test_a_request_that_takes_too_long_is_told_504(tmp_path, query, settings):
    async def main():
        store = HeldStore()
        async with serving(tmp_path, store, **settings) as api:
            late = await api("POST", MAPS + query, config_map("held"))
            assert (late.status, late.json["reason"]) == (504, "Timeout")
            assert late.json["message"] == "Timeout: request did not complete within the allotted timeout"
            store.go.set()
            assert (await api("GET", MAPS)).status == 200

    asyncio.run(main())


def test_a_timeout_that_is_none_is_refused(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            refused = await api("GET", f"{MAPS}?timeout=soon")
            assert (refused.status, refused.json["message"]) == (400, "invalid timeout specified in the request URL")

    asyncio.run(main())


def test_a_full_house_asks_to_come_again(tmp_path):
    async def main():
        settings = {"enable_priority_and_fairness": False, "max_mutating_requests_inflight": 1}
        async with holding(tmp_path, **settings) as (api, store, held):
            busy = await api("POST", MAPS, config_map("a"), token="user-token")
            assert (busy.status, busy.headers["retry-after"]) == (429, "1")
            assert busy.json["reason"] == "TooManyRequests"
            assert (await api("GET", MAPS, token="user-token")).status == 200  # reads have seats of their own
            assert (await api("POST", MAPS, config_map("b"))).status == 201  # masters are never turned away
            store.go.set()
            assert (await held).status == 201

    asyncio.run(main())


def test_answers_say_by_which_flow_they_came(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            headers = (await api("GET", MAPS)).headers
            assert headers["x-kubernetes-pf-flowschema-uid"] and headers["x-kubernetes-pf-prioritylevel-uid"]

    asyncio.run(main())


def test_a_server_that_stops_is_not_ready_finishes_its_work_and_takes_no_more(tmp_path):
    async def main():
        async with holding(tmp_path, shutdown_delay_seconds=0.3) as (api, store, held):
            idle_reader, idle = await api.open()
            stopping = asyncio.ensure_future(api.server.stop())
            while not api.server.stopping:
                await asyncio.sleep(0)
            unready = await api("GET", "/readyz")  # still served while others learn of it
            assert unready.status == 500 and b"shutdown" in unready.body
            alive = await api("GET", "/livez?verbose")
            assert alive.status == 200, alive.body
            assert (await api("GET", MAPS)).status == 200
            async with asyncio.timeout(30):
                assert await idle_reader.read() == b""  # nothing was under way there: closed at once
                while True:
                    try:
                        _, writer = await api.open()
                    except ConnectionRefusedError:
                        break
                    writer.close()
                assert not held.done()
                store.go.set()
                assert (await held).status == 201
                await stopping
            idle.close()

    asyncio.run(main())
