"""The invariants of a store, checked from outside through its interface: run after every store test.

Reads everything: for tests and for `peavine status`-like questions about a suspect store, not for a running server.
"""

from __future__ import annotations

import asyncio

from peavine.store.interface import Compacted, Event, KeyValue, Page, Store

_REPLAY_SECONDS_MAX = 10


async def check(store: Store, prefix: str = "") -> list[str]:
    """What is wrong, one sentence each; an empty list is a sound store. No one may write meanwhile."""
    wrong: list[str] = []
    page = await store.range(prefix)
    wrong += _check_page(page, prefix)
    if await store.revision() < page.revision:
        wrong.append(f"the revision {await store.revision()} is below the one that a range showed, {page.revision}")
    if (n := await store.count(prefix)) != len(page.items):
        wrong.append(f"count says {n} keys, range shows {len(page.items)}")
    wrong += await _check_pieces(store, prefix, page)
    for kv in page.items[:50] + page.items[-50:]:
        if (got := (await store.get(kv.key))[0]) != kv:
            wrong.append(f"get of {kv.key} shows {_short(got)}, range shows {_short(kv)}")
    wrong += await _check_replay(store, prefix, page)
    return wrong


def _short(kv: KeyValue | None) -> str:
    return f"revision {kv.mod_revision} ({len(kv.value)} bytes)" if kv else "nothing"


def _check_page(page: Page, prefix: str) -> list[str]:
    wrong: list[str] = []
    keys = [kv.key for kv in page.items]
    if [k.encode() for k in keys] != sorted({k.encode() for k in keys}):
        wrong.append("a range is not in the order of its keys, or shows one twice")
    revisions = set()
    for kv in page.items:
        if not kv.key.startswith(prefix):
            wrong.append(f"{kv.key} does not belong below {prefix!r}")
        if not 0 < kv.create_revision <= kv.mod_revision <= page.revision:
            wrong.append(
                f"{kv.key}: made at {kv.create_revision}, changed at {kv.mod_revision}, read at {page.revision}"
            )
        if kv.version < 1 or (kv.version == 1) != (kv.create_revision == kv.mod_revision):
            wrong.append(f"{kv.key}: version {kv.version}, made at {kv.create_revision}, changed at {kv.mod_revision}")
        if kv.mod_revision in revisions:
            wrong.append(f"{kv.key}: revision {kv.mod_revision} was given to another key too")
        revisions.add(kv.mod_revision)
    return wrong


async def _check_pieces(store: Store, prefix: str, whole: Page) -> list[str]:
    """A list in pieces at the whole's revision shows the whole."""
    size = max(1, len(whole.items) // 7)
    items: list[KeyValue] = []
    start = ""
    for _ in range(len(whole.items) + 1):
        page = await store.range(prefix, start=start, limit=size, revision=whole.revision)
        items += page.items
        if page.more and page.remaining != len(whole.items) - len(items):
            return [f"a page claims {page.remaining} keys after it, there are {len(whole.items) - len(items)}"]
        if not page.more:
            break
        start = page.items[-1].key + "\0"
    if items != whole.items:
        return [f"in pieces of {size} a list shows {len(items)} keys, whole {len(whole.items)}"]
    return []


async def _check_replay(store: Store, prefix: str, now: Page) -> list[str]:
    """The oldest state that can be read, and the events since, give the present one."""
    low, high = 1, now.revision
    while low < high:  # the lowest readable revision
        middle = (low + high) // 2
        try:
            await store.range(prefix, limit=1, revision=middle)
            high = middle
        except Compacted:
            low = middle + 1
    if low == now.revision:
        return []
    state = {kv.key: kv for kv in (await store.range(prefix, revision=low)).items}
    wrong: list[str] = []
    present = {kv.key: kv for kv in now.items}
    last = max((kv.mod_revision for kv in now.items), default=0)
    told = low
    watch = store.watch(prefix, low + 1)
    try:
        async with asyncio.timeout(_REPLAY_SECONDS_MAX):
            while told < last or (told < now.revision and state != present):
                batch = await anext(watch)
                for event in batch.events:
                    wrong += _replay(event, state, told)
                    told = max(told, event.kv.mod_revision)
                told = max(told, batch.revision)
    except TimeoutError:
        wrong.append(f"history from {low} stays silent after {told}")
    finally:
        watch.close()
    if state != present:
        wrong.append("the oldest state and the history since do not give the present state")
    return wrong


def _replay(event: Event, state: dict[str, KeyValue], told: int) -> list[str]:
    wrong: list[str] = []
    kv = event.kv
    if kv.mod_revision < told:
        wrong.append(f"history tells revision {kv.mod_revision} after {told}")
    if (before := state.get(kv.key)) != event.prev:
        wrong.append(f"{kv.key} at {kv.mod_revision}: history shows {_short(event.prev)} before, was {_short(before)}")
    if event.type == "PUT":
        state[kv.key] = kv
    elif state.pop(kv.key, None) is None:
        wrong.append(f"{kv.key} at {kv.mod_revision}: history deletes what was not there")
    return wrong
