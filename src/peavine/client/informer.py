"""Local copies of what the API server holds, kept current by list and watch.

Promises: handlers see every object's latest state in the end; for one object, states come in order; `synced` is set
after the first full list. Disclaims: some states never appear (after a break, several changes arrive as one), and
nothing is said about the order between different objects. Handlers run on the loop and must not await: they put keys
into queues.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.rest import INITIAL_EVENTS_END, Client, Object, Resource
from peavine.client.transport import Unreachable
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)

Key = tuple[str, str]
Handler = Callable[..., None]
Objects = list[Object]
Transform = Callable[[Object], Object]
Handlers = list[tuple[Handler | None, Handler | None, Handler | None]]


def key_of(obj: Object) -> Key:
    """(namespace, name); the namespace of a cluster-scoped object is the empty string."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def without_managed_fields(obj: Object) -> Object:
    """The default transform: nobody reads managedFields from a cache, and they are half of many objects."""
    obj.get("metadata", {}).pop("managedFields", None)
    return obj


class Informer:
    """One resource (in one namespace, or all), cached. Objects handed out are shared: never change them in place."""

    def __init__(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        transform: Transform | None = None,
        *,
        clock: Clock = REAL,
        streamed: bool = False,
    ) -> None:
        """`streamed`: of a resource with many objects, take them one by one instead of all in one list."""
        self.resource, self.namespace, self._streamed = resource, namespace, streamed
        self._label_selector, self._field_selector = label_selector, field_selector
        self._transform = transform or without_managed_fields
        self._clock = clock
        self._objects: dict[Key, Object] = {}
        self._by_namespace: dict[str, dict[str, Object]] = defaultdict(dict)
        self._handlers: Handlers = []
        self._indexers: dict[str, Callable[[Object], Iterable[Any]]] = {}
        self._indexes: dict[str, dict[Any, dict[Key, Object]]] = {}
        self.synced = asyncio.Event()
        self.resource_version = ""

    # reading
    def get(self, namespace: str | None, name: str) -> Object | None:
        return self._objects.get((namespace or "", name))

    def list(self, namespace: str | None = None) -> Objects:
        if namespace is None:
            return list(self._objects.values())
        return list(self._by_namespace[namespace].values()) if namespace in self._by_namespace else []

    def __len__(self) -> int:
        return len(self._objects)

    def add_index(self, name: str, values: Callable[[Object], Iterable[Any]]) -> None:
        """Keep an index: `values(obj)` are what the object is found under by `by_index(name, value)`."""
        if name in self._indexers:
            return
        self._indexers[name], self._indexes[name] = values, defaultdict(dict)
        for key, obj in self._objects.items():
            for value in values(obj):
                self._indexes[name][value][key] = obj

    def by_index(self, name: str, value: Any) -> Objects:
        found = self._indexes[name].get(value)
        return list(found.values()) if found else []

    def add_handler(
        self, added: Handler | None = None, updated: Handler | None = None, deleted: Handler | None = None
    ) -> None:
        """`added(obj)`, `updated(old, new)`, `deleted(obj)`; what is cached already is replayed as added."""
        self._handlers.append((added, updated, deleted))
        if added:
            for obj in self.list():
                added(obj)

    # keeping current
    async def run(self) -> None:
        """List, watch, and begin again after every break. Ends by cancellation."""
        backoff = Backoff(first=0.05, most=10.0, jitter=0.5)
        while True:
            try:
                if not self.resource_version and self._streamed:
                    await self._list_as_events(backoff)
                elif not self.resource_version:
                    await self._list()
                await self._watch(backoff)
            except ApiError as error:
                if error.code == 410:
                    self.resource_version = ""
                    continue
                log.warning("watch of %s: %s", self.resource.gvr.group_resource, error)
                if error.code in (401, 403, 404) or error.code >= 500:
                    self.resource_version = ""
                await self._clock.sleep(backoff.next())
            except (Unreachable, ConnectionError, TimeoutError) as error:
                log.debug("watch of %s broke: %s", self.resource.gvr.group_resource, error)
                await self._clock.sleep(backoff.next())

    async def _list(self) -> None:
        answer = await self.resource.list(
            self.namespace, label_selector=self._label_selector, field_selector=self._field_selector
        )
        items = answer.get("items") or []
        # Items of a list come without kind and apiVersion; the list's own tell them.
        kind, api_version = answer["kind"].removesuffix("List"), answer["apiVersion"]
        gone = set(self._objects)
        for item in items:
            item.setdefault("kind", kind)
            item.setdefault("apiVersion", api_version)
            gone.discard(key_of(item))
            self._put(item)
        for key in gone:
            self._drop(key)
        self.resource_version = answer["metadata"]["resourceVersion"]
        self.synced.set()

    async def _list_as_events(self, backoff: Backoff) -> None:
        """What `_list` and then `_watch` do, on one stream. A server that does not know this is asked for a list."""
        gone: set[Key] | None = set(self._objects)
        try:
            async for type_, obj in self.resource.watch(
                self.namespace,
                resource_version="",
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                initial_events=True,
            ):
                if gone is None:
                    self._event(type_, obj)
                    backoff.forget()
                elif type_ != "BOOKMARK":
                    gone.discard(key_of(obj))
                    self._put(obj)
                elif (obj["metadata"].get("annotations") or {}).get(INITIAL_EVENTS_END) == "true":
                    for key in gone:
                        self._drop(key)
                    gone = None
                    self.resource_version = obj["metadata"]["resourceVersion"]
                    self.synced.set()
        except ApiError as error:
            if gone is None or error.code not in (400, 404, 422):
                raise
            self._streamed = False

    async def _watch(self, backoff: Backoff) -> None:
        if not self.resource_version:
            return
        async for type_, obj in self.resource.watch(
            self.namespace,
            resource_version=self.resource_version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        ):
            backoff.forget()
            self._event(type_, obj)

    def _event(self, type_: str, obj: Object) -> None:
        if type_ == "DELETED":
            self._drop(key_of(obj), obj)
        elif type_ != "BOOKMARK":
            self._put(obj)
        self.resource_version = obj["metadata"]["resourceVersion"]

    def _put(self, obj: Object) -> None:
        key = key_of(obj)
        old = self._objects.get(key)
        if old is not None and old["metadata"].get("resourceVersion") == obj["metadata"].get("resourceVersion"):
            return
        replaced = old is not None and old["metadata"].get("uid") != obj["metadata"].get("uid")
        if replaced:
            # Deleted and made anew between two looks: the old one's owners must hear of its end.
            self._drop(key)
            old = None
        obj = self._transform(obj)
        if old is not None:
            self._unindex(key, old)
        self._objects[key] = obj
        self._by_namespace[key[0]][key[1]] = obj
        for name, values in self._indexers.items():
            for value in values(obj):
                self._indexes[name][value][key] = obj
        for added, updated, _ in self._handlers:
            if old is None:
                if added:
                    added(obj)
            elif updated:
                updated(old, obj)

    def _drop(self, key: Key, last: Object | None = None) -> None:
        old = self._objects.pop(key, None)
        if old is None:
            return
        siblings = self._by_namespace[key[0]]
        siblings.pop(key[1], None)
        if not siblings:
            del self._by_namespace[key[0]]
        self._unindex(key, old)
        final = self._transform(last) if last is not None else old
        for _, _, deleted in self._handlers:
            if deleted:
                deleted(final)

    def _unindex(self, key: Key, obj: Object) -> None:
        for name, values in self._indexers.items():
            index = self._indexes[name]
            for value in values(obj):
                found = index.get(value)
                if found is not None:
                    found.pop(key, None)
                    if not found:
                        del index[value]


class InformerFactory:
    """One informer a resource, shared by everyone in the process."""

    def __init__(self, client: Client, *, clock: Clock = REAL) -> None:
        self.client = client
        self._clock = clock
        self._informers: dict[tuple[str, str, str | None, str, str], Informer] = {}
        self._new: asyncio.Queue[Informer] = asyncio.Queue()

    def informer(
        self,
        api_version: str,
        plural: str,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        transform: Transform | None = None,
        *,
        streamed: bool = False,
    ) -> Informer:
        """The shared informer; the first caller's `transform` counts. May be called while `run` runs."""
        key = (api_version, plural, namespace, label_selector, field_selector)
        if key not in self._informers:
            resource = self.client.resource(api_version, plural)
            informer = Informer(
                resource, namespace, label_selector, field_selector, transform, clock=self._clock, streamed=streamed
            )
            self._informers[key] = informer
            self._new.put_nowait(informer)
        return self._informers[key]

    async def synced(self) -> None:
        """Return once every informer asked for so far has its first list."""
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    async def run(self) -> None:
        """Run every informer, those asked for later too. Ends by cancellation."""
        async with scope() as tasks:
            while True:
                informer = await self._new.get()
                tasks.start(informer.run(), name=f"informer {informer.resource.gvr.group_resource}")
