"""Update and patch: read, change, check, compare-and-swap; again where somebody else was faster."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from peavine.apiserver.admission.request import UPDATE
from peavine.apiserver.cache import Entry
from peavine.apiserver.cache.entries import dumps
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.registry.create import create
from peavine.apiserver.registry.fields import clean_owners, only_times_differ, track
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.machinery import errors
from peavine.store.interface import Conflict, TooLarge

# How often a patch, or an update that names no version, is tried against a faster writer.
PATCH_TRIES = 5
UPDATE_TRIES = 20

# What metadata keeps when the new object leaves it out.
_KEPT = ("uid", "creationTimestamp", "generateName")
# What only deletion changes.
_OWNED = ("deletionTimestamp", "deletionGracePeriodSeconds")

Change = Callable[[Object | None], Object]


async def update(registry: Registry, request: WriteRequest, obj: Object) -> tuple[Entry | Object, bool]:
    """Replace an object; the result and whether it was created. `obj` becomes the registry's."""
    kind = request.kind
    wanted = str((obj.get("metadata") or {}).get("resourceVersion") or "")
    if wanted == "0":
        wanted = ""
    for attempt in range(UPDATE_TRIES):
        live_entry = await _live(registry, request)
        if live_entry is None:
            if not kind.hub.allow_create_on_update or request.subresource:
                raise errors.not_found(kind.plural, request.name, kind.group)
            if wanted:
                raise errors.not_found(kind.plural, request.name, kind.group)
            if (obj.get("metadata") or {}).get("uid"):
                raise precondition(request, obj["metadata"]["uid"], "")
            return await create(registry, request, obj), True
        if wanted and not wanted.isdecimal():
            problem = errors.invalid_value("metadata.resourceVersion", wanted, "must be a valid resource version")
            raise errors.invalid(kind.kind, request.name, [problem], kind.group)
        if not wanted and not kind.hub.allow_unconditional_update:
            problem = errors.invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(kind.kind, request.name, [problem], kind.group)
        if wanted and int(wanted) != live_entry.revision:
            raise errors.conflict(kind.plural, request.name, kind.group)
        new = obj if wanted else copy.deepcopy(obj)
        try:
            return await _replace(registry, request, live_entry, new), False
        except _Raced:
            if wanted or attempt == UPDATE_TRIES - 1:
                raise errors.conflict(kind.plural, request.name, kind.group) from None
    raise AssertionError("unreachable")


async def modify(
    registry: Registry, request: WriteRequest, change: Change, create_missing: bool = False, tracked: bool = False
) -> tuple[Entry | Object, bool]:
    """Patch: `change` makes the new object from the live one (in the request's version; its own copy).

    It is called again on conflict. With `create_missing` it is also called with None. `tracked` says that it sets
    managedFields itself. The result, and whether it was created.
    """
    kind = request.kind
    for _attempt in range(PATCH_TRIES):
        live_entry = await _live(registry, request)
        if live_entry is None:
            if not create_missing:
                raise errors.not_found(kind.plural, request.name, kind.group)
            try:
                made = await settled(lambda: change(None))
                return await create(registry, request, made, tracked=tracked), True
            except errors.ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
                continue
        new = await settled(partial(_changed, registry, request, change, live_entry))
        wanted = (new.get("metadata") or {}).get("resourceVersion")
        if wanted and str(wanted) != str(live_entry.revision):
            raise errors.conflict(kind.plural, request.name, kind.group)
        try:
            return await _replace(registry, request, live_entry, new, tracked=tracked), False
        except _Raced:
            continue
    raise errors.conflict(kind.plural, request.name, kind.group)


class _Raced(Exception):
    """Another write came between reading and writing."""


def precondition(request: WriteRequest, wanted: str, actual: str) -> errors.ApiError:
    why = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {actual}"
    return errors.conflict(request.kind.plural, request.name, request.kind.group, why)


async def _live(registry: Registry, request: WriteRequest) -> Entry | None:
    await registry.cache.fresh()
    entry = registry.resource(request.kind).current(request.namespace, request.name)
    if entry is not None:
        await registry.prepare(request.kind, (entry,))
    return entry


async def _replace(
    registry: Registry, request: WriteRequest, live_entry: Entry, new: Object, *, tracked: bool = False
) -> Entry | Object:
    """Write `new` over the entry, if it is still there as it was. Raises _Raced, ApiError."""
    kind, hub = request.kind, request.kind.hub
    form = registry.resource(kind).cache.form
    old_hub = await registry.stored(kind, live_entry)
    old = await registry.read_object(kind, live_entry) if kind.hub is not kind else old_hub
    _carry(request, new, old)
    clean_owners(request, new)
    if not tracked:
        new = await _tracked(registry, request, old, new)

    view = request.view
    review = request.admission(UPDATE, view(new) if view else new, view(old) if view else old)
    chain = registry.chain
    try:
        if request.admit:
            before = dumps(new)
            await chain.admit(review)
            new = review.obj or new if view is None else new
            if not tracked and dumps(new) != before:
                new = await _tracked(registry, request, old, new)
        new = await settled(partial(kind.to_storage, new))
        hub.prepare_update(new, old_hub, request.strategy)
        # What was allowed when it was stored is compared as it is stored.
        problems = hub.validate_update(new, old_hub, request.strategy)
        if problems:
            raise errors.invalid(hub.kind, request.name, problems, hub.group)
        for text in hub.warnings(new, old_hub):
            request.warn(text)
        if request.admit:
            await chain.validate(review)
        hub.canonicalize(new)
        if finished(hub.kind, hub.group, new):
            return await _remove(registry, request, live_entry, new)
        key = hub.key(live_entry.namespace, live_entry.name)
        if only_times_differ(new, old_hub) and not registry.stale(key):
            return live_entry
        if request.dry_run:
            new["metadata"]["resourceVersion"] = str(live_entry.revision)
            if request.admit:
                await chain.undo(review)
            return await settled(partial(kind.from_storage, new))
        value = form.encode(new)
        try:
            kv = await registry.store.put(key, value, expect=live_entry.revision)
        except Conflict as conflict:
            if conflict.current is not None:
                await registry.cache.reached(conflict.current.mod_revision)
            raise _Raced from None
        except TooLarge:
            raise errors.too_large("limit is 1572864") from None
    except BaseException:
        if request.admit:
            await chain.undo(review)
        raise
    return await registry.settle(kind, live_entry.namespace, live_entry.name, kv.mod_revision, value)


def _changed(registry: Registry, request: WriteRequest, change: Change, live_entry: Entry) -> Object:
    return change(registry.object(request.kind, live_entry))


async def _tracked(registry: Registry, request: WriteRequest, old: Object, new: Object) -> Object:
    return await settled(lambda: track(registry, request, old, new))


def _carry(request: WriteRequest, new: Object, old: Object) -> None:
    """What every update leaves as it was; refuses what must agree and does not."""
    meta: dict[str, Any] = new.setdefault("metadata", {})
    old_meta = old["metadata"]
    uid = meta.get("uid")
    if uid and uid != old_meta.get("uid"):
        raise precondition(request, uid, old_meta.get("uid") or "")
    for name in _KEPT:
        if not meta.get(name) and old_meta.get(name):
            meta[name] = old_meta[name]
    for name in _OWNED:
        if name not in meta and name in old_meta:
            meta[name] = old_meta[name]
    meta.pop("selfLink", None)
    meta["resourceVersion"] = old_meta["resourceVersion"]


def finished(kind: str, group: str, obj: Object) -> bool:
    """Whether an object on its way out has nothing left to wait for."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    if kind == "Namespace" and not group:
        return not (obj.get("spec") or {}).get("finalizers")
    return not meta.get("deletionGracePeriodSeconds")


async def _remove(registry: Registry, request: WriteRequest, live_entry: Entry, last: Object) -> Entry | Object:
    """The update that took the last finalizer away: the object goes."""
    kind = request.kind
    if request.dry_run:
        return await settled(partial(kind.from_storage, last))
    try:
        gone = await registry.store.delete(
            kind.hub.key(live_entry.namespace, live_entry.name), expect=live_entry.revision
        )
    except Conflict:
        raise _Raced from None
    await registry.cache.reached(gone.mod_revision)
    last["metadata"]["resourceVersion"] = str(gone.mod_revision)
    return await settled(partial(kind.from_storage, last))
