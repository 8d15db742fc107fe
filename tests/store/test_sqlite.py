"""What only the durable store promises: survival of kill -9, one process a file, bounded watchers, many keys."""

import asyncio
import os
import random
import signal
import subprocess
import sys

import pytest

from peavine.base.clock import SimulatedClock
from peavine.store import Compacted, Unavailable, WatchCut, open_store
from peavine.store.check import check
from peavine.store.memory import MemoryStore
from peavine.store.sqlite import SqliteStore

# Writes as fast as it can with eight writers; one line to the pipe for each acknowledged write.
_WRITER = """
import asyncio, os, sys
from peavine.store import open_store

async def main(url, life):
    store = await open_store(url)
    os.write(1, b"revision %d\\n" % await store.revision())

    async def writer(n):
        for turn in range(10**9):
            key = f"/r/{n}/{turn % 20}"
            if turn % 7 == 3:
                try:
                    kv = await store.delete(key)
                    os.write(1, b"%d %s -\\n" % (kv.mod_revision, key.encode()))
                except Exception:
                    pass
            else:
                value = f"{life}-{turn}"
                kv = await store.put(key, value.encode())
                os.write(1, b"%d %s %s\\n" % (kv.mod_revision, key.encode(), value.encode()))
            if n == 0 and turn % 50 == 49:
                await store.compact(await store.revision() - 200)

    await asyncio.gather(*(writer(n) for n in range(8)))

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def _live_and_be_killed(url, life):
    """What one writer had acknowledged: [(revision, key, value or '-')], and the revision that it started from."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, url, life], stdout=subprocess.PIPE) as writer:
        first = writer.stdout.readline()
        while not first.startswith(b"revision"):
            assert first, "the writer did not start"
        acknowledged, wanted = [], random.randint(1, 400)
        for line in writer.stdout:
            acknowledged.append(line)
            if len(acknowledged) == wanted:
                os.kill(writer.pid, signal.SIGKILL)
    complete = [line.decode().split() for line in acknowledged if line.endswith(b"\n")]
    return int(first.split()[1]), [(int(revision), key, value) for revision, key, value in complete]


@pytest.mark.slow
def test_no_acknowledged_write_is_lost_and_no_revision_reused_across_kills(tmp_path):
    url = f"sqlite://{tmp_path}/state.db"
    highest = seen = 0

    async def verify(acknowledged):
        """Each write is found at its own revision with its own value; the whole is sound."""
        nonlocal seen
        store = await open_store(url)
        assert await store.revision() >= highest
        for revision, key, value in acknowledged:
            try:
                kv, _ = await store.get(key, revision)
            except Compacted:
                continue
            assert (kv.value.decode() if kv else "-") == value, f"{key} at {revision} is not what was acknowledged"
            seen += 1
        assert await check(store) == []
        await store.close()

    for life in range(12):
        started, acknowledged = _live_and_be_killed(url, str(life))
        assert started >= highest
        assert all(revision > started for revision, _, _ in acknowledged), "a revision was given out twice"
        highest = max([highest, *(revision for revision, _, _ in acknowledged)])
        asyncio.run(verify(acknowledged))
    assert seen > 100


def test_a_second_process_cannot_open_the_same_file(tmp_path):
    async def main():
        store = await open_store(f"sqlite://{tmp_path}/state.db")
        with pytest.raises(Unavailable, match="in use by another process"):
            await open_store(f"sqlite://{tmp_path}/state.db")
        await store.close()
        again = await open_store(f"sqlite://{tmp_path}/state.db")
        await again.close()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_watcher_that_does_not_keep_up_is_cut_and_hinders_nobody(kind, tmp_path):
    async def main():
        store = (
            MemoryStore(watch_events_max=10)
            if kind == "memory"
            else SqliteStore(tmp_path / "s.db", watch_events_max=10)
        )
        slow, quick = store.watch("/r/"), store.watch("/r/")
        told = 0
        for n in range(30):
            await store.put(f"/r/{n}", b"x")
            told += len((await anext(quick)).events)
        assert told == 30
        with pytest.raises(WatchCut):
            await anext(slow)
        await store.close()

    asyncio.run(main())


def test_a_lease_gets_its_full_time_again_after_a_restart(tmp_path):
    async def main():
        clock = SimulatedClock()
        store = SqliteStore(tmp_path / "s.db", clock=clock)
        lease = await store.grant(100)
        await store.put("/r/a", b"x", lease=lease)
        await clock.advance(90)
        await store.close()
        store = SqliteStore(tmp_path / "s.db", clock=clock)
        await clock.advance(90)
        store._leases.expire()
        await store.put("/r/b", b"x")
        assert (await store.get("/r/a"))[0] is not None
        await clock.advance(11)
        watch = store.watch("/r/")
        store._leases.expire()
        assert [e.type for e in (await anext(watch)).events] == ["DELETE"]
        assert (await store.get("/r/a"))[0] is None
        await store.close()

    asyncio.run(main())


def test_writes_accepted_before_closing_are_finished(tmp_path):
    async def main():
        store = await open_store(f"sqlite://{tmp_path}/state.db")
        writes = [asyncio.ensure_future(store.put(f"/r/{n}", b"x")) for n in range(2000)]
        await asyncio.sleep(0)
        await store.close()
        assert len({kv.mod_revision for kv in await asyncio.gather(*writes)}) == 2000
        store = await open_store(f"sqlite://{tmp_path}/state.db")
        assert await store.count("/r/") == 2000
        await store.close()

    asyncio.run(main())


def test_a_write_whose_caller_has_gone_disturbs_no_other(tmp_path):
    async def main():
        store = await open_store(f"sqlite://{tmp_path}/state.db")
        writes = [asyncio.ensure_future(store.put(f"/r/{n}", b"x")) for n in range(100)]
        await asyncio.sleep(0)
        for write in writes[::2]:
            write.cancel()
        done = await asyncio.gather(*writes, return_exceptions=True)
        assert all(not isinstance(kv, BaseException) for kv in done[1::2])
        assert await check(store) == []
        await store.close()

    asyncio.run(main())


@pytest.mark.slow
def test_while_a_hundred_thousand_keys_are_listed_others_get_their_turn(tmp_path):
    async def main():
        store = await open_store(f"sqlite://{tmp_path}/state.db")
        for start in range(0, 100_000, 5000):
            await asyncio.gather(*(store.put(f"/r/{n:06}", b"x" * 100) for n in range(start, start + 5000)))
        turns, stop = 0, False

        async def others():
            nonlocal turns
            while not stop:
                await asyncio.sleep(0)
                turns += 1

        working = asyncio.ensure_future(others())
        page = await store.range("/r/")
        stop = True
        await working
        assert len(page.items) == 100_000
        assert turns > 300  # one after each slice of 256 rows
        await store.compact(page.revision)
        assert await store.count("/r/") == 100_000
        await store.close()

    asyncio.run(main())


def test_a_full_disk_refuses_writes_and_harms_nothing(tmp_path):
    async def main():
        store = SqliteStore(tmp_path / "s.db")
        await store.put("/r/before", b"x")
        revision = await store.revision()
        ((pages,),) = store._writer.execute("PRAGMA page_count")
        store._writer.execute(f"PRAGMA max_page_count={pages + 10}").fetchall()
        watch = store.watch("/r/")
        writes = [store.put(f"/r/{n}", b"x" * 100_000) for n in range(3)]
        done = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in done)
        assert await store.revision() == revision and await store.count("/r/") == 1
        store._writer.execute("PRAGMA max_page_count=1000000").fetchall()
        after = await store.put("/r/after", b"x")
        assert after.mod_revision == revision + 1
        assert [e.kv for e in (await anext(watch)).events] == [after]
        assert await check(store) == []
        await store.close()

    asyncio.run(main())
