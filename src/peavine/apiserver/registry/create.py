"""Create: from a decoded object to a stored one."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from peavine.apiserver.admission.request import CREATE
from peavine.apiserver.cache import Entry
from peavine.apiserver.registry.conversions import settled
from peavine.apiserver.registry.fields import clean_owners, track
from peavine.apiserver.registry.leases import lease_for
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.machinery import errors
from peavine.machinery.meta import generate_name, new_uid, now
from peavine.store.interface import Conflict, TooLarge

GENERATE_TRIES = 8

_WIPED = ("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "uid", "creationTimestamp")


async def create(registry: Registry, request: WriteRequest, obj: Object, *, tracked: bool = False) -> Entry | Object:
    """Store a new object; the entry, or the object as it would be after a dry run.

    `obj` is decoded and defaulted, in the request's version, and becomes the registry's. Raises ApiError.
    """
    meta = obj.setdefault("metadata", {})
    if meta.get("resourceVersion"):
        raise errors.ApiError(500, "", "resourceVersion should not be set on objects to be created")
    generated = not meta.get("name") and bool(meta.get("generateName"))
    for attempt in range(GENERATE_TRIES if generated else 1):
        try:
            return await _create_once(registry, request, copy.deepcopy(obj) if generated else obj, generated, tracked)
        except errors.ApiError as error:
            if not generated or error.reason != "AlreadyExists" or attempt == GENERATE_TRIES - 1:
                raise
    raise AssertionError("unreachable")


async def _create_once(
    registry: Registry, request: WriteRequest, obj: Object, generated: bool, tracked: bool
) -> Entry | Object:
    kind, hub = request.kind, request.kind.hub
    meta = obj["metadata"]
    for name in _WIPED:
        meta.pop(name, None)
    if hub.namespaced:
        meta["namespace"] = request.namespace
    else:
        meta.pop("namespace", None)
    if generated:
        meta["name"] = generate_name(meta["generateName"])
    meta["uid"] = new_uid()
    meta["creationTimestamp"] = now(registry.clock.time())
    clean_owners(request, obj)
    if not tracked:
        untracked = obj
        obj = await settled(lambda: track(registry, request, None, untracked))

    review = request.admission(CREATE, obj, None)
    review.name = meta.get("name") or ""
    chain = registry.chain
    try:
        if request.admit:
            await chain.admit(review)
        obj = review.obj or obj
        obj = await settled(partial(kind.to_storage, obj))
        hub.prepare_create(obj)
        if (stamp := hub.hook("stamp_user")) is not None:
            user = request.user
            stamp(obj, user.name, user.uid, list(user.groups), dict(user.extra))
        problems = hub.validate_create(obj)
        if kind.hub is not kind and (rule := kind.hook("validate_request")) is not None:
            problems = rule(obj)  # the version of the request asks for more, or for other things
        if problems:
            raise errors.invalid(hub.kind, obj["metadata"].get("name") or "", problems, hub.group)
        for text in hub.warnings(obj):
            request.warn(text)
        if request.admit:
            await chain.validate(review)
        hub.canonicalize(obj)
        stored = await _store(registry, request, obj)
        if request.dry_run and request.admit:
            await chain.undo(review)
        return stored
    except BaseException:
        if request.admit:
            await chain.undo(review)
        raise


async def _store(registry: Registry, request: WriteRequest, obj: Object) -> Entry | Object:
    kind, hub = request.kind, request.kind.hub
    resource = registry.resource(kind)
    meta = obj["metadata"]
    name = meta["name"]
    key = hub.key(meta.get("namespace"), name)
    if request.dry_run:
        await registry.cache.fresh()
        there = resource.current(meta.get("namespace") or "", name)
        if there is not None:
            raise exists(registry, request, name, there)
        return await settled(partial(kind.from_storage, obj))
    value = resource.cache.form.encode(obj)
    lease = await lease_for(registry, hub)
    try:
        kv = await registry.store.put(key, value, expect=0, lease=lease)
    except Conflict as conflict:
        await registry.cache.reached(conflict.current.mod_revision if conflict.current else 0)
        there = resource.current(meta.get("namespace") or "", name)
        raise exists(registry, request, name, there) from None
    except TooLarge:
        raise errors.too_large("limit is 1572864") from None
    return await registry.settle(kind, meta.get("namespace") or "", name, kv.mod_revision, value)


def exists(registry: Registry, request: WriteRequest, name: str, there: Entry | None) -> errors.ApiError:
    """409: the name is taken, perhaps by an object on its way out."""
    error = errors.already_exists(request.kind.plural, name, request.kind.group)
    if there is not None:
        old: dict[str, Any] = registry.resource(request.kind).cache.object(there)
        if old["metadata"].get("deletionTimestamp"):
            error.message = "object is being deleted: " + error.message
    return error
