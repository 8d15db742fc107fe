"""Watchers rebuild exactly what a list shows, whatever happens in between: random writes, selectors, restarts."""

from __future__ import annotations

import asyncio
import random
import time

from peavine.store.memory import MemoryStore
from tests.apiserver.inside import MAPS, Client, config_map, serving
from tests.apiserver.test_objects import MERGE

SELECTIONS = (
    "",
    "labelSelector=color%3Dred",
    "labelSelector=color+in+(red,blue),big",
    "labelSelector=!color",
    "fieldSelector=metadata.name%3Dm3",
    "fieldSelector=metadata.name!%3Dm3",
)
NAMES = [f"m{i}" for i in range(8)]


async def write(api: Client, chance: random.Random) -> None:
    name = chance.choice(NAMES)
    labels = {"color": chance.choice(["red", "blue", "green", None]), "big": chance.choice(["1", None])}
    match chance.randrange(4):
        case 0:
            body = config_map(name, n=str(chance.random()))
            body["metadata"]["labels"] = {k: v for k, v in labels.items() if v}
            await api("POST", MAPS, body)
        case 1 | 2:
            change = {"metadata": {"labels": labels}, "data": {"n": str(chance.random())}}
            await api("PATCH", f"{MAPS}/{name}", change, MERGE)
        case 3:
            await api("DELETE", f"{MAPS}/{name}")


class Mirror:
    """What one watcher believes; it goes on from the last version it has heard of."""

    def __init__(self, selection: str) -> None:
        self.selection, self.version = selection, ""
        self.objects: dict[str, dict] = {}

    async def begin(self, api: Client) -> None:
        listed = (await api("GET", f"{MAPS}?{self.selection}")).json
        self.version = listed["metadata"]["resourceVersion"]
        self.objects = {item["metadata"]["name"]: item for item in listed["items"]}

    async def follow(self, api: Client, stop: asyncio.Event) -> None:
        path = f"{MAPS}?{self.selection}&watch=1&allowWatchBookmarks=true&resourceVersion={self.version}"
        async with api.watch(path) as events:
            while True:
                try:
                    event = await events.next(0.3)
                except TimeoutError:
                    if stop.is_set():
                        return
                    continue
                if event is None:
                    return
                type, obj = event
                assert type != "ERROR", obj
                name, version = obj["metadata"].get("name"), obj["metadata"]["resourceVersion"]
                assert int(version) > int(self.version), "revisions only go up"
                self.version = version
                if type == "DELETED":
                    del self.objects[name]
                elif type == "ADDED":
                    assert name not in self.objects
                    self.objects[name] = obj
                elif type == "MODIFIED":
                    assert name in self.objects
                    self.objects[name] = obj

    async def check(self, api: Client) -> None:
        """What was written last may still be on its way: a while is given for it."""
        items = (await api("GET", f"{MAPS}?{self.selection}")).json["items"]
        wanted = {item["metadata"]["name"]: item["data"] for item in items}
        deadline = time.monotonic() + 20
        while (held := {name: obj["data"] for name, obj in self.objects.items()}) != wanted:
            assert time.monotonic() < deadline, (held, wanted)
            await asyncio.sleep(0.02)


def test_every_watcher_ends_with_what_a_list_shows(tmp_path):
    async def main():
        store = MemoryStore()
        close, store.close = store.close, lambda: asyncio.sleep(0)  # type: ignore[method-assign]
        mirrors = [Mirror(selection) for selection in SELECTIONS]
        chance = random.Random(11)
        for turn in range(3):  # each turn is a server of its own on the same store
            async with serving(tmp_path, store, enable_aggregation=False) as api:
                if turn == 0:
                    for _ in range(10):
                        await write(api, chance)
                    for mirror in mirrors:
                        await mirror.begin(api)
                for _ in range(20):  # missed by everybody
                    await write(api, chance)
                stop = asyncio.Event()
                followers = [asyncio.ensure_future(mirror.follow(api, stop)) for mirror in mirrors]
                for _ in range(40):
                    await asyncio.gather(*(write(api, chance) for _ in range(3)))
                for mirror in mirrors:
                    await mirror.check(api)
                stop.set()
                await asyncio.gather(*followers)
        await close()

    asyncio.run(main())
