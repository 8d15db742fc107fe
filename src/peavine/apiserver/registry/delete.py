"""Delete: grace periods, finalizers, propagation policies, preconditions; of one object and of collections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from peavine.api.kind import Kind
from peavine.apiserver.admission.request import DELETE
from peavine.apiserver.cache import Entry
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.apiserver.registry.update import finished
from peavine.base.lifetimes import scope
from peavine.machinery import errors
from peavine.machinery.meta import now, parse_time
from peavine.store.interface import Conflict

T = TypeVar("T")
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
DELETE_TRIES = 20
# Deletions of a collection under way at once: they share the store's commits.
COLLECTION_WORKERS = 16
DEFAULT_GRACE_SECONDS = 30

# Kinds whose dependents stay unless the request says otherwise: a promise to clients of their first versions.
_ORPHANING = {("", "replicationcontrollers"), ("batch", "jobs")}
JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)
# Kinds whose deletion answers with the object instead of a Status.
RETURNED = {
    ("", "pods"),
    ("", "services"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "serviceaccounts"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("resource.k8s.io", "deviceclasses"),
}


async def delete(registry: Registry, request: WriteRequest) -> tuple[Object, bool]:
    """Delete an object, or begin to. The object as it was left, and whether it is gone.

    `request.options` are DeleteOptions. Raises ApiError.
    """
    kind, hub = request.kind, request.kind.hub
    options = request.options
    admitted = False
    for _ in range(DELETE_TRIES):
        entry = await registry.read(kind, request.namespace, request.name)
        live = await registry.stored(kind, entry)
        check_preconditions(request, live, options.get("preconditions") or {})
        if request.admit and not admitted:
            old = await registry.read_object(kind, entry) if kind.hub is not kind else live
            review = request.admission(DELETE, None, old)
            await registry.chain.admit(review)
            await registry.chain.validate(review)
            admitted = True
        try:
            if hub.kind == "Namespace" and not hub.group:
                return await _delete_namespace(registry, request, entry, live)
            return await _delete_once(registry, request, entry, live)
        except Conflict as conflict:
            if conflict.current is not None:
                await registry.cache.reached(conflict.current.mod_revision)
    raise errors.conflict(kind.plural, request.name, kind.group)


def check_preconditions(request: WriteRequest, live: Object, wanted: Object) -> None:
    """409 where a delete is meant for another object, or another version of it."""
    meta = live["metadata"]
    name = request.name or meta.get("name") or ""
    uid, version = wanted.get("uid"), wanted.get("resourceVersion")
    if uid is not None and uid != meta.get("uid") and request.kind.hub.kind == "Namespace" and not request.kind.group:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta.get('uid')}"
        raise errors.conflict("namespaces", name, "", why)
    if uid is not None and uid != meta.get("uid"):
        why = (
            f"the UID in the precondition ({uid}) does not match the UID in record ({meta.get('uid')}). "
            "The object might have been deleted and then recreated"
        )
        raise errors.conflict(request.kind.kind, name, request.kind.group, why)
    if version is not None and version != meta.get("resourceVersion"):
        why = (
            f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
            f"({meta.get('resourceVersion')}). The object might have been modified"
        )
        raise errors.conflict(request.kind.kind, name, request.kind.group, why)


async def _delete_once(registry: Registry, request: WriteRequest, entry: Entry, live: Object) -> tuple[Object, bool]:
    hub, options = request.kind.hub, request.options
    meta = live["metadata"]
    was_deleting = bool(meta.get("deletionTimestamp"))
    before = (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds"), list(meta.get("finalizers") or ()))

    grace = _grace_seconds(hub, live, options)
    finalizers = _finalizers(hub, live, options, request)
    waits = bool(finalizers)
    if hub.graceful and not was_deleting and grace > 0:
        meta["deletionTimestamp"] = now(registry.clock.time() + grace)
        meta["deletionGracePeriodSeconds"] = grace
        if meta.get("generation"):
            meta["generation"] += 1
        waits = True
    elif hub.graceful and was_deleting and (meta.get("deletionGracePeriodSeconds") or 0) > 0:
        current = meta["deletionGracePeriodSeconds"]
        asked = options.get("gracePeriodSeconds")
        if asked is not None and asked < current:
            began = parse_time(meta["deletionTimestamp"]) - current
            meta["deletionTimestamp"] = now(began + asked)
            meta["deletionGracePeriodSeconds"] = asked
            waits = waits or asked > 0
        else:
            waits = True  # the kubelet is at it; the same wish again changes nothing
    elif hub.graceful and not was_deleting:
        # It goes at once; the answer still says when.
        meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = now(registry.clock.time()), 0
        if meta.get("generation"):
            meta["generation"] += 1
    if waits and not was_deleting and not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = now(registry.clock.time())
        meta["deletionGracePeriodSeconds"] = 0
        prepare = hub.hook("prepare_delete")
        if prepare is not None:
            prepare(live)  # what a kind says of itself while it waits; its generation stays
        elif meta.get("generation"):
            meta["generation"] += 1
    elif waits and was_deleting and finalizers and not hub.graceful:
        meta["deletionGracePeriodSeconds"] = 0
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)

    if not waits or finished(hub.kind, hub.group, live):
        return await _remove(registry, request, entry, live)
    after = (meta.get("deletionTimestamp"), meta.get("deletionGracePeriodSeconds"), list(meta.get("finalizers") or ()))
    if after == before or request.dry_run:
        return await _shown(request, live), False
    return await _write(registry, request, entry, live), False


async def _shown(request: WriteRequest, live: Object) -> Object:
    """A stored object in the version of the request."""
    return await settled(lambda: request.kind.from_storage(live))


async def _write(registry: Registry, request: WriteRequest, entry: Entry, live: Object) -> Object:
    hub = request.kind.hub
    value = registry.resource(request.kind).cache.form.encode(live)
    kv = await registry.store.put(hub.key(entry.namespace, entry.name), value, expect=entry.revision)
    await registry.cache.reached(kv.mod_revision)
    live["metadata"]["resourceVersion"] = str(kv.mod_revision)
    return await _shown(request, live)


async def _remove(registry: Registry, request: WriteRequest, entry: Entry, live: Object) -> tuple[Object, bool]:
    if not request.dry_run:
        gone = await registry.store.delete(request.kind.hub.key(entry.namespace, entry.name), expect=entry.revision)
        await registry.cache.reached(gone.mod_revision)
        live["metadata"]["resourceVersion"] = str(gone.mod_revision)
    return await _shown(request, live), True


async def _delete_namespace(
    registry: Registry, request: WriteRequest, entry: Entry, live: Object
) -> tuple[Object, bool]:
    """A namespace first becomes Terminating; it goes once its controller has emptied it."""
    meta = live["metadata"]
    if not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = now(registry.clock.time())
        meta["deletionGracePeriodSeconds"] = 0
        live.setdefault("status", {})["phase"] = "Terminating"
        finalizers = _finalizers(request.kind.hub, live, request.options, request)
        if finalizers:
            meta["finalizers"] = finalizers
        if request.dry_run:
            return live, False
        if not finished("Namespace", "", live):
            return await _write(registry, request, entry, live), False
    elif (live.get("spec") or {}).get("finalizers"):
        why = (
            "The system is ensuring all content is removed from this namespace.  Upon completion, this namespace will "
            "automatically be purged by the system."
        )
        raise errors.conflict("namespaces", request.name, "", why)
    if meta.get("finalizers"):
        return live, False
    return await _remove(registry, request, entry, live)


def _grace_seconds(hub: Kind, live: Object, options: Object) -> int:
    """How long a graceful kind's deletion waits for its node."""
    if not hub.graceful:
        return 0
    spec, status = live.get("spec") or {}, live.get("status") or {}
    asked = options.get("gracePeriodSeconds")
    grace = int(asked) if asked is not None else spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
    if grace < 0:
        grace = 1
    if not spec.get("nodeName") or status.get("phase") in ("Succeeded", "Failed"):
        return 0  # no kubelet has it, or nothing runs any more
    return grace


def _finalizers(hub: Kind, live: Object, options: Object, request: WriteRequest) -> list[str]:
    """The finalizers that remain, after the propagation policy has added or taken the garbage collector's."""
    had: list[str] = list(live["metadata"].get("finalizers") or ())
    if not live["metadata"].get("deletionTimestamp"):
        # What a kind itself has to clean up first (custom resource definitions: their resources).
        own: Any = hub.hook("FINALIZERS_ON_DELETE") or ()
        had += [finalizer for finalizer in own if finalizer not in had]
    policy, orphan_flag = options.get("propagationPolicy"), options.get("orphanDependents")
    if policy is not None:
        orphan, foreground = policy == "Orphan", policy == "Foreground"
    elif orphan_flag is not None:
        orphan, foreground = bool(orphan_flag), False
    elif ORPHAN in had or FOREGROUND in had:
        return had
    else:
        orphan, foreground = (hub.group, hub.plural) in _ORPHANING, False
        if (hub.group, hub.plural) == ("batch", "jobs"):
            request.warn(JOB_WARNING)
    kept = [f for f in had if f not in (ORPHAN, FOREGROUND)]
    if orphan:
        kept.append(ORPHAN)
    if foreground:
        kept.append(FOREGROUND)
    return kept


async def delete_collection(
    registry: Registry, request: WriteRequest, entries: list[Entry], shown: Callable[[Object], T]
) -> list[T]:
    """Delete the given entries, a few at a time, passing over what goes meanwhile.

    `shown` makes of each object as it was left what is to be returned. The first refusal (other than "not found") ends
    it and is raised.
    """
    left: list[T | None] = [None] * len(entries)
    waiting = iter(enumerate(entries))

    async def work() -> None:
        for place, entry in waiting:
            one = replace(request, namespace=entry.namespace, name=entry.name)
            try:
                left[place] = shown((await delete(registry, one))[0])
            except errors.ApiError as error:
                if error.reason != "NotFound":
                    raise

    try:
        async with scope() as tasks:
            for worker in [tasks.start(work()) for _ in range(min(COLLECTION_WORKERS, len(entries)))]:
                await worker
    except* errors.ApiError as group:
        raise group.exceptions[0] from None
    return [item for item in left if item is not None]
