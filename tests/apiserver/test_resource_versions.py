"""What a read may see: every cell of upstream's tables of resourceVersion and resourceVersionMatch."""

from __future__ import annotations

import asyncio
import itertools

from peavine.apiserver.endpoints import watching
from tests.apiserver.inside import MAPS, Client, config_map, serving

NOW, THEN = ["m0", "m1", "m2", "new"], ["m0", "m1", "m2"]

# (resourceVersionMatch, limit) -> what comes for no resourceVersion, "0", an older one, and one that is yet to come.
LISTS = {
    ("", False): (NOW, NOW, NOW, 504),
    ("", True): (NOW, NOW, THEN, 504),
    ("Exact", False): (422, 422, THEN, 504),
    ("Exact", True): (422, 422, THEN, 504),
    ("NotOlderThan", False): (422, NOW, NOW, 504),
    ("NotOlderThan", True): (422, NOW, NOW, 504),
    ("Nonsense", False): (422, 422, 422, 422),
}


async def history(api: Client) -> tuple[str, str]:
    """Three maps, then a fourth; the revision between, and one that is far off."""
    for i in range(3):
        await api("POST", MAPS, config_map(f"m{i}"))
    then = (await api("GET", MAPS)).json["metadata"]["resourceVersion"]
    last = await api("POST", MAPS, config_map("new"))
    return then, str(int(last.json["metadata"]["resourceVersion"]) + 1000)


def query(**parameters: str) -> str:
    return MAPS + "?" + "&".join(f"{name}={value}" for name, value in parameters.items() if value)


def test_every_list_sees_what_its_resource_version_says(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            then, future = await history(api)
            for (match, limited), cells in LISTS.items():
                for version, wanted in zip(("", "0", then, future), cells):
                    path = query(resourceVersion=version, resourceVersionMatch=match, limit="10" if limited else "")
                    answer = await api("GET", path)
                    if isinstance(wanted, int):
                        assert answer.status == wanted, (path, answer.body)
                        continue
                    assert [item["metadata"]["name"] for item in answer.json["items"]] == wanted, path
                    if wanted is THEN:
                        assert answer.json["metadata"]["resourceVersion"] == then

    asyncio.run(main())


def test_a_continued_list_names_no_resource_version(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            then, _ = await history(api)
            token = (await api("GET", query(limit="2"))).json["metadata"]["continue"]
            cases = {("", ""): 200, ("0", ""): 200, (then, ""): 400, ("0", "NotOlderThan"): 422, (then, "Exact"): 422}
            for (version, match), status in cases.items():
                path = query(limit="2", resourceVersion=version, resourceVersionMatch=match)
                answer = await api("GET", f"{path}&continue={token}")
                assert answer.status == status, (path, answer.body)

    asyncio.run(main())


def test_a_get_sees_what_its_resource_version_says(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            then, future = await history(api)
            for version, status in (("", 200), ("0", 200), (then, 200), (future, 504)):
                answer = await api("GET", f"{MAPS}/new?resourceVersion={version}")
                assert answer.status == status, answer.body
            late = answer.json
            assert (late["reason"], late["details"]["causes"][0]["reason"]) == ("Timeout", "ResourceVersionTooLarge")
            assert (await api("GET", f"{MAPS}/new?resourceVersion=x")).status in (400, 500)

    asyncio.run(main())


def test_every_watch_starts_where_its_resource_version_says(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            await history(api)
            for initial, match in itertools.product(("", "true", "false"), ("", "NotOlderThan", "Exact")):
                for start in ("", "0", "then", "future"):
                    await one(api, initial, match, start)

    async def one(api: Client, initial: str, match: str, start: str) -> None:
        await api("DELETE", f"{MAPS}/later")
        gone = await api("DELETE", f"{MAPS}/new")
        then = str(int((await api("GET", MAPS)).json["metadata"]["resourceVersion"]))
        assert gone.status == 200 and (await api("POST", MAPS, config_map("new"))).status == 201
        path = query(
            watch="1",
            resourceVersion={"then": then, "future": str(int(then) + 1000)}.get(start, start),
            resourceVersionMatch=match,
            sendInitialEvents=initial,
            allowWatchBookmarks="true",
        )
        async with api.watch(path) as events:
            if match != ("NotOlderThan" if initial else ""):
                assert events.status == 422, path
                return
            if start == "future":
                if events.status == 200:
                    type, status = await events.next()
                    assert (type, status["code"]) == ("ERROR", 504)
                else:
                    assert events.status == 504
                return
            whole = initial == "true" or (initial == "" and start in ("", "0"))
            wanted = [f"ADDED {name}" for name in NOW] if whole else ["ADDED new"] if start == "then" else []
            assert await events.names(len(wanted)) == wanted, path
            if initial == "true":
                assert await events.names(1) == ["BOOKMARK "]
            await api("POST", MAPS, config_map("later"))
            assert await events.names(1) == ["ADDED later"]

    asyncio.run(main())


def test_who_wants_bookmarks_hears_now_and_then_how_far_things_are(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "BOOKMARK_SECONDS", 0.05)

    async def main():
        async with serving(tmp_path) as api:
            await history(api)
            async with api.watch("/api/v1/secrets?watch=1&resourceVersion=0&allowWatchBookmarks=true") as events:
                other = (await api("POST", MAPS, config_map("elsewhere"))).json["metadata"]["resourceVersion"]
                told = 0
                while told < int(other):
                    type, obj = await events.next()
                    assert type == "BOOKMARK" and obj["kind"] == "Secret"
                    told = int(obj["metadata"]["resourceVersion"])

    asyncio.run(main())
