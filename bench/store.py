"""Speed of the stores: `python bench/store.py [url...]`. Without a URL: memory, and SQLite in a temporary directory.

An etcd to compare with: `etcd --data-dir $(mktemp -d)` and `etcd://127.0.0.1:2379` as an argument.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time

import uvloop

from peavine.store import Store, open_store

VALUE = os.urandom(1500)


async def writes(store: Store, writers: int, seconds: float = 1.5) -> str:
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def writer(n: int) -> None:
        turn = 0
        while (before := time.perf_counter()) < end:
            await store.put(f"/bench/{n}/{turn % 500}", VALUE)
            took.append(time.perf_counter() - before)
            turn += 1

    await asyncio.gather(*(writer(n) for n in range(writers)))
    took.sort()
    p50, p99 = (1000 * statistics.quantiles(took, n=100)[i] for i in (49, 98))
    return f"{len(took) / seconds:8.0f} writes/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms"


async def ranges(store: Store, keys: int) -> str:
    for start in range(0, keys, 500):
        await asyncio.gather(*(store.put(f"/range/{n:06}", VALUE) for n in range(start, min(keys, start + 500))))
    before = time.perf_counter()
    page = await store.range("/range/")
    whole = time.perf_counter() - before
    before = time.perf_counter()
    for n in range(0, 2000):
        await store.get(f"/range/{n:06}")
    each = 1e6 * (time.perf_counter() - before) / 2000
    return f"range of {len(page.items)} keys {1000 * whole:.0f} ms   get {each:.0f} us"


async def fanout(store: Store, watchers: int, changes: int) -> str:
    start = await store.revision() + 1

    async def follow() -> None:
        watch, seen = store.watch("/fan/", start), 0
        while seen < changes:
            seen += len((await anext(watch)).events)
        watch.close()

    followers = [asyncio.ensure_future(follow()) for _ in range(watchers)]
    before = time.perf_counter()
    for begin in range(0, changes, 64):
        await asyncio.gather(*(store.put(f"/fan/{n}", VALUE) for n in range(begin, min(changes, begin + 64))))
    await asyncio.gather(*followers)
    return f"{watchers} watchers: {watchers * changes / (time.perf_counter() - before):.0f} events/s"


async def main(urls: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for url in urls or ["memory://", f"sqlite://{directory}/state.db"]:
            store = await open_store(url)
            print(url)
            for writers in (1, 64):
                print(f"  {writers:3} writers  {await writes(store, writers)}")
            print(f"  {await ranges(store, 10_000)}")
            print(f"  {await fanout(store, 100, 2000)}")
            await store.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
