"""What only the store on etcd must do: survive the loss of a connection or an endpoint; and its messages."""

import asyncio
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.store import Unavailable, open_store
from peavine.store import etcd_messages as messages
from tests.store.conftest import collect, free_port, start_etcd


def test_nothing_listening_is_unavailable():
    async def main():
        with pytest.raises(Unavailable):
            await open_store(f"etcd://127.0.0.1:{free_port()}")

    asyncio.run(main())


def test_two_clients_see_each_others_writes_at_once(etcd_url):
    async def main():
        one, two = await open_store(etcd_url), await open_store(etcd_url)
        watch = two.watch("/two/", await two.revision() + 1)
        written = await one.put("/two/a", b"1")
        assert (await two.get("/two/a"))[0] == written
        assert [e.kv for e in await collect(watch, 1)] == [written]
        watch.close()
        await one.close()
        await two.close()

    asyncio.run(main())


@pytest.mark.slow
def test_a_restart_of_etcd_and_a_dead_endpoint_cost_a_watcher_nothing(tmp_path):
    if not shutil.which("etcd"):
        pytest.skip("etcd is not installed: the store on etcd is not tested")
    port, peer = free_port(), free_port()

    async def main():
        process = start_etcd(tmp_path, port, peer)
        try:
            for _ in range(20):
                try:
                    store = await open_store(f"etcd://127.0.0.1:{free_port()},127.0.0.1:{port}")
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
            watch = store.watch("/r/", await store.revision() + 1)
            before = await store.put("/r/a", b"1")
            assert [e.kv for e in await collect(watch, 1)] == [before]
            process.kill()
            process.wait()
            with pytest.raises(Unavailable):
                await store.put("/r/a", b"2")
            process = start_etcd(tmp_path, port, peer)
            for _ in range(60):
                try:
                    after = await store.put("/r/a", b"3", before.mod_revision)
                    break
                except Unavailable:
                    await asyncio.sleep(0.2)
            assert [e.kv for e in await collect(watch, 1)] == [after]
            watch.close()
            await store.close()
        finally:
            process.kill()
            process.wait()

    asyncio.run(main())


@settings(derandomize=True)
@given(st.binary(max_size=60))
def test_broken_messages_are_refused_and_nothing_else_happens(data):
    for decode in (messages.range_response, messages.txn_response, messages.watch_response, messages.lease_response):
        try:
            decode(data)
        except ValueError:
            pass


def test_a_watch_broken_off_amid_questions_for_progress_misses_nothing(etcd_url):
    """etcd 3.4 answers its own progress request ahead of events that are under way; a mark comes after them."""

    async def main():
        store, other = await open_store(etcd_url), await open_store(etcd_url)
        heard: list[str] = []
        start = await store.revision() + 1

        async def write():
            for n in range(200):
                await other.put(f"/p/{n}", b"x")

        async def ask():
            while len(heard) < 200:
                await asyncio.gather(store.progress(), store.progress())

        async def listen(start):
            while len(heard) < 200:
                watch, batches = store.watch("/p/", start), 0
                while batches < 3 and len(heard) < 200:
                    batch = await anext(watch)
                    heard.extend(event.kv.key for event in batch.events)
                    start, batches = batch.revision + 1, batches + 1
                watch.close()

        await asyncio.wait_for(asyncio.gather(write(), listen(start), ask()), 60)
        assert heard == [f"/p/{n}" for n in range(200)]
        assert [item.key for item in (await store.range("/p/")).items if "progress" in item.key] == []
        await store.close()
        await other.close()

    asyncio.run(main())
