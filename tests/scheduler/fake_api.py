"""An API server in the process, as far as the scheduler talks to one: list, watch, binding, status patches, deletion.

Every object that goes in or out is a copy, as over a wire."""

import asyncio
import copy
from collections import defaultdict

import orjson

from peavine.machinery.errors import conflict, not_found


class FakeApi:
    """Stands in for `peavine.client.Client`; `put`, `remove` and `get` are the test's own door."""

    def __init__(self):
        self.objects = defaultdict(dict)  # plural -> (namespace, name) -> object
        self.revision = 0
        self.watchers = defaultdict(list)
        self.events = []
        self.calls = []
        self.refuse = lambda verb, plural, name: None  # an error to raise
        self.changed = asyncio.Event()
        self.on_bound = lambda name: None  # told of every pod that gets its node

    def resource(self, api_version, plural):
        return FakeResource(self, plural)

    def put(self, plural, obj):
        obj = orjson.loads(orjson.dumps(obj))
        meta = obj.setdefault("metadata", {})
        key = (meta.get("namespace", ""), meta["name"])
        old = self.objects[plural].get(key)
        meta.setdefault("uid", f"uid-{meta['name']}-{self.revision}")
        self._store(plural, key, obj, "MODIFIED" if old else "ADDED")
        return obj

    def remove(self, plural, name, namespace=""):
        obj = self.objects[plural].pop((namespace, name))
        self._store(plural, None, obj, "DELETED")

    def get(self, plural, name, namespace=""):
        return self.objects[plural].get((namespace, name))

    def _store(self, plural, key, obj, type_):
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        if key is not None:
            self.objects[plural][key] = obj
        if self.watchers[plural]:
            data = orjson.dumps(obj)
            for queue in self.watchers[plural]:
                queue.put_nowait((type_, data))
        self.changed.set()

    async def until(self, condition, seconds=30):
        """Wait for something that the scheduler does."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def bound(self):
        return {
            name: o["spec"]["nodeName"] for (_, name), o in self.objects["pods"].items() if o["spec"].get("nodeName")
        }


class FakeResource:
    def __init__(self, api, plural):
        self.api, self.plural = api, plural
        self.gvr = type("GVR", (), {"group_resource": plural, "resource": plural})

    async def _asked(self, verb, name=""):
        self.api.calls.append((verb, self.plural, name))
        await asyncio.sleep(0)
        if error := self.api.refuse(verb, self.plural, name):
            raise error

    def _found(self, name, namespace):
        obj = self.api.objects[self.plural].get((namespace or "", name))
        if obj is None:
            raise not_found(self.plural, name)
        return obj

    async def list(self, namespace=None, **_):
        items = [orjson.loads(orjson.dumps(o)) for o in self.api.objects[self.plural].values()]
        return {
            "kind": "List",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(self.api.revision)},
            "items": items,
        }

    async def watch(self, namespace=None, *, resource_version, initial_events=False, **_):
        queue = asyncio.Queue()
        self.api.watchers[self.plural].append(queue)
        try:
            if initial_events:
                for data in [orjson.dumps(o) for o in self.api.objects[self.plural].values()]:
                    yield "ADDED", orjson.loads(data)
                end = {"resourceVersion": str(self.api.revision), "annotations": {"k8s.io/initial-events-end": "true"}}
                yield "BOOKMARK", {"metadata": end}
            while True:
                type_, data = await queue.get()
                yield type_, orjson.loads(data)
        finally:
            self.api.watchers[self.plural].remove(queue)

    async def create(self, obj, namespace=None, **_):
        if self.plural == "events":
            self.api.events.append(obj)
            self.api.changed.set()
            return obj
        meta = obj["metadata"]
        await self._asked("create", meta.get("name", ""))
        if "name" not in meta:
            obj = {**obj, "metadata": {**meta, "name": f"{meta['generateName']}{self.api.revision}"}}
        if namespace:
            obj["metadata"].setdefault("namespace", namespace)
        return self.api.put(self.plural, obj)

    async def create_subresource(self, name, subresource, obj, namespace=None):
        await self._asked(subresource, name)
        pod = self._found(name, namespace)
        if pod["spec"].get("nodeName"):
            raise conflict("pods/binding", name, why=f"pod {name} is already assigned to node")
        if obj["metadata"].get("uid") not in (None, "", pod["metadata"]["uid"]):
            raise conflict("pods", name)
        new = {**pod, "spec": {**pod["spec"], "nodeName": obj["target"]["name"]}, "metadata": dict(pod["metadata"])}
        self.api._store(self.plural, (namespace or "", name), new, "MODIFIED")
        self.api.on_bound(name)

    async def patch(self, name, body, namespace=None, *, type="merge", subresource=None, **_):
        if self.plural == "events":
            return body
        await self._asked("patch", name)
        old = self._found(name, namespace)
        status = dict(old.get("status") or {})
        for key, value in (body.get("status") or {}).items():
            if key == "conditions":
                kept = {c["type"]: c for c in status.get("conditions") or []}
                status["conditions"] = list(
                    (kept | {c["type"]: {**kept.get(c["type"], {}), **c} for c in value}).values()
                )
            elif value is None:
                status.pop(key, None)
            else:
                status[key] = value
        new = {**old, "status": status, "metadata": {**old["metadata"], **(body.get("metadata") or {})}}
        for key in [k for k, v in new["metadata"].items() if v is None]:
            del new["metadata"][key]
        self.api._store(self.plural, (namespace or "", name), new, "MODIFIED")
        return new

    async def update(self, obj, subresource=None):
        await self._asked("update", obj["metadata"]["name"])
        return self.api.put(self.plural, obj)

    async def get(self, name, namespace=None, **_):
        return copy.deepcopy(self._found(name, namespace))

    async def delete(self, name, namespace=None, **_):
        await self._asked("delete", name)
        self._found(name, namespace)
        self.api.remove(self.plural, name, namespace or "")
