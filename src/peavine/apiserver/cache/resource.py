"""All objects of one resource: by namespace and name, in key order, by label and field; and their recent changes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from peavine.apiserver.cache.entries import Change, Entry, Form, Object
from peavine.apiserver.cache.watchers import Watcher, WatcherSet, field_value

log = logging.getLogger(__name__)

# Recent changes kept for watchers that come back: whichever limit is met first. Older ones are in the store's history.
RECENT_CHANGES_MAX = 4000
RECENT_BYTES_MAX = 8 << 20
# Objects below which looking at each is cheaper than keeping an index.
INDEX_FROM_OBJECTS = 64

Callback = Callable[[str, Object, Object | None], None]


class ResourceCache:
    """Kept by `Cache`, which feeds it in revision order. Everything here is synchronous."""

    def __init__(self, group: str, resource: str, form: Form, prefix: str, namespaced: bool) -> None:
        self.group, self.resource, self.form, self.prefix, self.namespaced = group, resource, form, prefix, namespaced
        self.objects: dict[str, dict[str, Entry]] = {}
        self.count = self.bytes = 0  # of all objects
        self.revision = 0  # of the newest change seen, of this resource
        self.floor = 0  # every change after this revision is in `recent`
        self.recent: deque[Change] = deque()
        self._recent_bytes = 0
        self.watchers = WatcherSet()
        self.callbacks: list[Callback] = []
        self.loading: list[tuple[str, str, str, int, bytes]] | None = None  # changes that wait for the load to finish
        self._sorted_names: dict[str, list[str]] = {}
        self._sorted_namespaces: list[str] | None = None
        # ("label"|"field", name) -> value -> entries by key
        self._indexes: dict[tuple[str, str], dict[str, dict[str, Entry]]] = {}

    # --- reading -------------------------------------------------------------------------------
    def get(self, namespace: str, name: str) -> Entry | None:
        names = self.objects.get(namespace)
        return names.get(name) if names is not None else None

    def entries(self, namespace: str = "") -> Iterator[Entry]:
        """Every entry of one namespace, or of all, in the order of keys."""
        if namespace or not self.namespaced:
            return iter(self._of_namespace(namespace))
        if self._sorted_namespaces is None:
            # "a-b/x" sorts before "a/x": keys are compared with their slash.
            self._sorted_namespaces = sorted(self.objects, key=lambda ns: ns + "/")
        return chain.from_iterable(map(self._of_namespace, self._sorted_namespaces))

    def _of_namespace(self, namespace: str) -> list[Entry]:
        names = self.objects.get(namespace)
        if not names:
            return []
        order = self._sorted_names.get(namespace)
        if order is None:
            order = self._sorted_names[namespace] = sorted(names)
        return [names[name] for name in order]

    def select(self, namespace: str, requirement: tuple[str, str, str] | None) -> Iterator[Entry]:
        """Entries of a namespace (or all) that can meet a requirement such as `("label", "app", "web")`, in key order.

        The requirement narrows; the caller still asks its whole selector.
        """
        if requirement is not None:
            sort, name, value = requirement
            if sort == "field" and name == "metadata.name":
                found = self.get(namespace, value) if namespace or not self.namespaced else None
                if found is not None:
                    return iter((found,))
                if namespace or not self.namespaced:
                    return iter(())
            elif self.count >= INDEX_FROM_OBJECTS and not (sort == "field" and name == "metadata.namespace"):
                index = self._index(sort, name).get(value, {})
                chosen = [e for e in index.values() if not namespace or e.namespace == namespace]
                chosen.sort(key=lambda e: e.key)
                return iter(chosen)
        return self.entries(namespace)

    def _index(self, sort: str, name: str) -> dict[str, dict[str, Entry]]:
        index = self._indexes.get((sort, name))
        if index is None:
            index = self._indexes[sort, name] = {}
            for entry in chain.from_iterable(names.values() for names in self.objects.values()):
                self._index_add(sort, name, index, entry)
        return index

    @staticmethod
    def _indexed(sort: str, name: str, entry: Entry) -> str | None:
        return entry.labels.get(name) if sort == "label" else field_value(entry, name)

    def _index_add(self, sort: str, name: str, index: dict[str, dict[str, Entry]], entry: Entry) -> None:
        value = self._indexed(sort, name, entry)
        if value is not None:
            index.setdefault(value, {})[entry.key] = entry

    # --- changing ------------------------------------------------------------------------------
    def load(self, entry: Entry) -> None:
        """An object that was there when the cache was filled: no change for anybody."""
        self._set(entry, None)
        self.revision = max(self.revision, entry.revision)

    def apply(self, type: str, namespace: str, name: str, revision: int, value: bytes) -> None:
        """A change from the store: `type` is PUT or DELETE. Told to callbacks and watchers before this returns."""
        if self.loading is not None:
            self.loading.append((type, namespace, name, revision, value))
            return
        if revision <= self.revision and revision <= self.floor:
            return
        old = self.get(namespace, name)
        if type == "PUT":
            try:
                entry, obj = self.form.decoded(namespace, name, revision, value)
            except (ValueError, KeyError, AttributeError):
                log.exception("undecodable object %s/%s at revision %d", namespace, name, revision)
                return
            self._set(entry, old)
            change = Change("MODIFIED" if old else "ADDED", revision, entry, old)
        elif old is None:
            return
        else:
            self._remove(old)
            change = Change("DELETED", revision, old, old)
        self.revision = revision
        self.remember(change)
        if self.callbacks:
            if type == "PUT":
                obj["metadata"]["resourceVersion"] = str(revision)
                self._call_back(change, obj)
            else:
                self._call_back(change, self.object(change.entry))
        if self.watchers.all or self.watchers.by_namespace or self.watchers.by_trigger:
            self.watchers.offer(change)

    def remember(self, change: Change) -> None:
        recent = self.recent
        recent.append(change)
        self._recent_bytes += len(change.entry.rest)
        while len(recent) > RECENT_CHANGES_MAX or self._recent_bytes > RECENT_BYTES_MAX:
            gone = recent.popleft()
            self._recent_bytes -= len(gone.entry.rest)
            self.floor = gone.revision

    def _set(self, entry: Entry, old: Entry | None) -> None:
        names = self.objects.get(entry.namespace)
        if names is None:
            names = self.objects[entry.namespace] = {}
            self._sorted_namespaces = None
        if old is None:
            self.count += 1
            self._sorted_names.pop(entry.namespace, None)
        else:
            self.bytes -= len(old.rest)
        self.bytes += len(entry.rest)
        names[entry.name] = entry
        for (sort, name), index in self._indexes.items():
            if old is not None:
                self._index_drop(sort, name, index, old)
            self._index_add(sort, name, index, entry)

    def _remove(self, old: Entry) -> None:
        names = self.objects[old.namespace]
        del names[old.name]
        self.count -= 1
        self.bytes -= len(old.rest)
        self._sorted_names.pop(old.namespace, None)
        if not names:
            del self.objects[old.namespace]
            self._sorted_namespaces = None
        for (sort, name), index in self._indexes.items():
            self._index_drop(sort, name, index, old)

    def _index_drop(self, sort: str, name: str, index: dict[str, dict[str, Entry]], entry: Entry) -> None:
        value = self._indexed(sort, name, entry)
        group = index.get(value) if value is not None else None
        if group is not None:
            group.pop(entry.key, None)
            if not group:
                del index[value]  # type: ignore[arg-type]

    # --- who listens ---------------------------------------------------------------------------
    def listen(self, callback: Callback) -> None:
        """Call back for all that is there (as ADDED), and for every change from now on."""
        self.callbacks.append(callback)
        for entry in list(self.entries()):
            self._guarded(callback, "ADDED", self.object(entry), None)

    def _call_back(self, change: Change, new: Object) -> None:
        old = self.object(change.old) if change.old is not None and change.type == "MODIFIED" else None
        for callback in self.callbacks:
            self._guarded(callback, change.type, new, old)

    @staticmethod
    def _guarded(callback: Callback, type: str, new: Object, old: Object | None) -> None:
        try:
            callback(type, new, old)
        except Exception:
            log.exception("a listener failed on a change; the others go on")

    def object(self, entry: Entry) -> Object:
        """The decoded object, shared: not to be changed."""
        return entry.obj if entry.obj is not None else self.form.load(entry)

    def since(self, revision: int) -> list[Change] | None:
        """Recent changes after `revision`; None where some of them are no longer kept."""
        if revision < self.floor:
            return None
        return [change for change in self.recent if change.revision > revision]

    def watch(self, watcher: Watcher) -> None:
        self.watchers.add(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        self.watchers.remove(watcher)
