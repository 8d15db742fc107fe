"""Bindings: a pod gets its node.

Of all writes this is the one that comes by the thousand, so it goes a short way: as upstream's, it is no update of the
pod by its client (no strategy, no managed fields), only a node name, labels and a condition written under
compare-and-swap. The pod is decoded once; the cache is handed what was decoded and what was made.
"""

from __future__ import annotations

from typing import Any

import orjson

from peavine.apiserver.admission.request import CREATE
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.machinery import errors
from peavine.machinery.errors import not_supported, required
from peavine.machinery.meta import now
from peavine.store.interface import Conflict

TRIES_MAX = 20
_PLAIN: dict[str, frozenset[str]] = {
    "metadata": frozenset(("name", "namespace", "uid")),
    "target": frozenset(("apiVersion", "kind", "name")),
}


def plain_binding(data: bytes) -> Object | None:
    """A body that is a Binding as schedulers send it, and nothing else, without asking the schema; None: ask it."""
    try:
        binding = orjson.loads(data)
    except ValueError:
        return None
    if not isinstance(binding, dict) or binding.pop("apiVersion", None) != "v1":
        return None
    if binding.pop("kind", None) != "Binding" or binding.keys() != _PLAIN.keys() or b"\\" in data:
        return None
    strings = 4  # apiVersion and kind, with their values
    for name, known in _PLAIN.items():
        part = binding[name]
        if not isinstance(part, dict) or not part.keys() <= known:
            return None
        if not all(isinstance(value, str) and value for value in part.values()):
            return None
        strings += 1 + 2 * len(part)
    if data.count(b'"') != 2 * strings:  # a key was there twice
        return None
    return {"kind": "Binding", "apiVersion": "v1", **binding}


async def bind(registry: Registry, request: WriteRequest, binding: Object) -> None:
    """Give a pod its node. Raises ApiError 409 where it has one, or is on its way out."""
    target = binding.get("target") or {}
    problems = []
    if target.get("kind") not in (None, "", "Node"):
        problems.append(not_supported("target.kind", target.get("kind"), ["Node", "<empty>"]))
    if not target.get("name"):
        problems.append(required("target.name"))
    if problems:
        raise errors.invalid("Binding", request.name, problems)
    if request.admit:
        review = request.admission(CREATE, binding, None)
        await registry.chain.admit(review)
        binding = review.obj or binding
        await registry.chain.validate(review)
    kind = request.kind
    resource = registry.resource(kind)
    form = resource.cache.form
    for _ in range(TRIES_MAX):
        await registry.cache.fresh()
        entry = resource.current(request.namespace, request.name)
        if entry is None:
            raise errors.not_found(kind.plural, request.name, kind.group)
        old = form.load(entry)
        new = bound(old, binding, target["name"], request.name, now(registry.clock.time()))
        if request.dry_run:
            return
        value = form.encode(new)
        entry.obj = old  # whoever hears of the change is shown it
        form.foreseen[id(value)] = (value, new)
        try:
            written = await registry.store.put(kind.hub.key(entry.namespace, entry.name), value, expect=entry.revision)
            await registry.cache.reached(written.mod_revision)
            return
        except Conflict as conflict:
            if conflict.current is not None:
                await registry.cache.reached(conflict.current.mod_revision)
        finally:
            form.foreseen.pop(id(value), None)
            entry.obj = None
    raise errors.conflict(kind.plural, request.name, kind.group)


def bound(pod: Object, binding: Object, node: str, name: str, stamp: str) -> Object:
    """The pod with its node; the one given stays as it is. Raises ApiError 409."""
    meta: dict[str, Any] = binding.get("metadata") or {}
    pod_meta, spec = dict(pod["metadata"]), pod["spec"]
    uid, version = meta.get("uid"), meta.get("resourceVersion")
    if uid and uid != pod_meta["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {pod_meta['uid']}"
        raise errors.conflict("pods", name, "", why)
    if version and version != pod_meta["resourceVersion"]:
        raise errors.conflict("pods", name)
    if pod_meta.get("deletionTimestamp"):
        raise errors.conflict("pods/binding", name, "", f"pod {name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        words = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
        raise errors.conflict("pods/binding", name, "", words)
    if spec.get("schedulingGates"):
        raise errors.conflict("pods/binding", name, "", f"pod {name} has non-empty .spec.schedulingGates")
    for part in ("annotations", "labels"):
        if meta.get(part):
            pod_meta[part] = {**(pod_meta.get(part) or {}), **meta[part]}
    status = dict(pod.get("status") or {})
    conditions = [dict(c) for c in status.get("conditions") or ()]
    status["conditions"] = conditions
    scheduled = next((c for c in conditions if c.get("type") == "PodScheduled"), None)
    if scheduled is None:
        scheduled = {"type": "PodScheduled"}
        conditions.append(scheduled)
    if scheduled.get("status") != "True":
        scheduled["lastTransitionTime"] = stamp
    scheduled["status"] = "True"
    scheduled.setdefault("lastProbeTime", None)
    for field in ("reason", "message"):
        scheduled.pop(field, None)
    if generation := pod_meta.get("generation"):
        scheduled["observedGeneration"] = generation
    return {**pod, "metadata": pod_meta, "spec": {**spec, "nodeName": node}, "status": status}
