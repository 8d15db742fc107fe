"""A lister and a writer over dicts, with the semantics that `apiserver/lister.py` promises."""

from __future__ import annotations

import copy
import itertools
import uuid

from peavine.machinery import errors


class Objects:
    """Both `Lister` and `Writer`: what is written is visible at once, and reported to who registered."""

    def __init__(self, *objects):
        self.store = {}
        self.callbacks = {}
        self.revisions = itertools.count(1)
        for resource, obj in objects:
            self.put("", resource, obj)

    def put(self, group, resource, obj):
        obj = copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata["resourceVersion"] = str(next(self.revisions))
        key = (group, resource, metadata.get("namespace") or None, metadata["name"])
        old = self.store.get(key)
        self.store[key] = obj
        for callback in self.callbacks.get((group, resource), ()):
            callback("MODIFIED" if old else "ADDED", obj, old)
        return obj

    def remove(self, group, resource, namespace, name):
        old = self.store.pop((group, resource, namespace, name))
        for callback in self.callbacks.get((group, resource), ()):
            callback("DELETED", old, old)
        return old

    # Lister
    def get(self, group, resource, namespace, name):
        return self.store.get((group, resource, namespace or None, name))

    def labels(self, group, resource, namespace, name):
        return ((self.get(group, resource, namespace, name) or {}).get("metadata") or {}).get("labels") or {}

    def list(self, group, resource, namespace=None):
        return [
            obj
            for (g, r, ns, _), obj in sorted(self.store.items(), key=lambda item: (item[0][2] or "", item[0][3]))
            if (g, r) == (group, resource) and (namespace is None or ns == namespace)
        ]

    def on_change(self, group, resource, callback):
        self.callbacks.setdefault((group, resource), []).append(callback)
        for obj in self.list(group, resource):
            callback("ADDED", obj, None)

    # Writer
    async def create(self, group, version, resource, namespace, obj):
        if namespace:
            obj = {**obj, "metadata": {**obj.get("metadata", {}), "namespace": namespace}}
        name = obj["metadata"]["name"]
        if self.get(group, resource, namespace, name) is not None:
            raise errors.already_exists(resource, name, group)
        return self.put(group, resource, obj)

    async def update(self, group, version, resource, namespace, obj, subresource=""):
        name = obj["metadata"]["name"]
        live = self.get(group, resource, namespace, name)
        if live is None:
            raise errors.not_found(resource, name, group)
        sent = obj["metadata"].get("resourceVersion")
        if sent and sent != live["metadata"]["resourceVersion"]:
            raise errors.conflict(resource, name, group)
        return self.put(group, resource, obj)

    async def patch(self, group, version, resource, namespace, name, change, subresource=""):
        live = self.get(group, resource, namespace, name)
        if live is None:
            raise errors.not_found(resource, name, group)
        new = change(copy.deepcopy(live))
        return live if new is None else self.put(group, resource, new)

    async def delete(self, group, version, resource, namespace, name, options=None):
        if self.get(group, resource, namespace, name) is None:
            raise errors.not_found(resource, name, group)
        return self.remove(group, resource, namespace, name)


def request(path="/api/v1/pods", method="GET", headers=(), peer=None, query=""):
    """A RequestInfo as the HTTP layer makes it."""
    from peavine.apiserver.requests import RequestInfo, parse_query, resolve

    raw = [(key.lower(), value) for key, value in headers]
    first = {}
    for key, value in raw:
        first.setdefault(key, value)
    return resolve(
        RequestInfo(
            method=method,
            path=path,
            raw_path=path,
            query_string=query,
            query=parse_query(query),
            headers=first,
            raw_headers=raw,
            peer_certificate=peer,
        )
    )
