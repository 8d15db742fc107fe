"""Informers: what they hold after lists, streams and breaks."""

import asyncio
import contextlib

from peavine.base.lifetimes import scope
from peavine.client.informer import Informer
from peavine.machinery.errors import ApiError


def _obj(name, version):
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": str(version)}}


def _end(version):
    note = {"k8s.io/initial-events-end": "true"}
    return "BOOKMARK", {"metadata": {"resourceVersion": str(version), "annotations": note}}


class _Resource:
    """Answers watches from a script: lists of events, or errors; then lists."""

    def __init__(self, *watches, listed=()):
        self.gvr = type("GVR", (), {"group_resource": "things"})
        self.watches, self.listed, self.asked = list(watches), listed, []

    async def watch(self, namespace=None, *, resource_version, initial_events=False, **_):
        self.asked.append(("watch", resource_version, initial_events))
        script = self.watches.pop(0) if self.watches else None
        if isinstance(script, Exception):
            raise script
        for event in script or ():
            yield event
        if script is None:
            await asyncio.Event().wait()

    async def list(self, namespace=None, **_):
        self.asked.append(("list",))
        return {"kind": "ThingList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": self.listed}


@contextlib.asynccontextmanager
async def _running(resource):
    informer = Informer(resource, streamed=True)
    seen = []
    informer.add_handler(
        lambda obj: seen.append(("added", obj["metadata"]["name"])),
        lambda old, new: seen.append(("updated", new["metadata"]["name"])),
        lambda obj: seen.append(("deleted", obj["metadata"]["name"])),
    )
    async with scope() as tasks:
        tasks.start(informer.run())
        async with asyncio.timeout(30):
            await informer.synced.wait()
            while resource.watches:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        yield informer, seen


def test_a_stream_gives_what_there_is_and_then_what_changes():
    async def main():
        first = [("ADDED", _obj("a", 1)), ("ADDED", _obj("b", 2)), _end(5), ("DELETED", _obj("a", 6))]
        resource = _Resource(first)
        async with _running(resource) as (informer, seen):
            assert seen == [("added", "a"), ("added", "b"), ("deleted", "a")]
            assert informer.get("ns", "b") and informer.resource_version == "6"
            assert resource.asked[0] == ("watch", "", True) and ("list",) not in resource.asked

    asyncio.run(main())


def test_a_stream_that_breaks_before_its_end_begins_again_and_what_is_gone_goes():
    async def main():
        broken = [("ADDED", _obj("a", 1)), ("ADDED", _obj("b", 2))]
        resource = _Resource(broken, [("ADDED", _obj("b", 2)), _end(5)])
        async with _running(resource) as (informer, seen):
            assert seen == [("added", "a"), ("added", "b"), ("deleted", "a")]
            assert [o["metadata"]["name"] for o in informer.list()] == ["b"]

    asyncio.run(main())


def test_a_server_that_cannot_stream_is_asked_for_a_list():
    async def main():
        resource = _Resource(ApiError(422, "Invalid", "sendInitialEvents is forbidden"), listed=[_obj("a", 1)])
        async with _running(resource) as (informer, seen):
            assert seen == [("added", "a")] and informer.resource_version == "9"

    asyncio.run(main())
