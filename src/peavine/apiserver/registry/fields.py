"""Bookkeeping in metadata on every write: owner references and managed fields."""

from __future__ import annotations

import copy
from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.machinery.apply import Tracking, apply, track_update
from peavine.machinery.meta import now
from peavine.machinery.names import split_group_version

DUPLICATE_OWNERS = (
    ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may "
    "reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}"
)


def clean_owners(request: WriteRequest, obj: Object) -> None:
    """Drop owner references that stand there twice, with a warning, as upstream."""
    owners = obj["metadata"].get("ownerReferences")
    if not owners or len(owners) < 2:
        return
    kept: list[Object] = []
    twice: list[str] = []
    for owner in owners:
        if owner in kept:
            uid = owner.get("uid") or ""
            if uid not in twice:
                twice.append(uid)
        else:
            kept.append(owner)
    if twice:
        obj["metadata"]["ownerReferences"] = kept
        request.warn(DUPLICATE_OWNERS.format(", ".join(twice)))


def tracking(registry: Registry, request: WriteRequest) -> Tracking:
    """What managed fields need to know of the endpoint that a write goes through; kept by the registry."""
    kind, subresource = request.kind, request.subresource
    key = (id(kind), subresource)
    found = registry.trackings.get(key)
    if found is None or found[0] is not kind:
        reset: tuple[tuple[str, ...], ...] = ()
        if subresource == "status":
            reset = (("spec",),) if kind.definition else (("spec",), ("metadata",))
        elif not subresource and "status" in kind.subresources:
            reset = (("status",),)
        type = registry.type_of(kind)
        more: dict[str, Any] = {}
        if not kind.virtual and len(registry.resource(kind).kinds) > 1:
            more = _other_versions(registry, kind)
        made = Tracking(kind.gvk, type, subresource, reset, schema_may_change=not kind.definition, **more)
        found = registry.trackings[key] = (kind, made)
    return found[1]


def _other_versions(registry: Registry, kind: Kind) -> dict[str, Any]:
    """How entries of managed fields are read that another version of the same resource has made."""

    def other(api_version: str) -> Kind | None:
        group, version = split_group_version(api_version)
        return registry.kind(group, version, kind.plural)

    def convert(obj: Object, api_version: str) -> Object | None:
        source, to = other(obj.get("apiVersion") or kind.api_version), other(api_version)
        if source is None or to is None:
            return None
        return obj if source is to else to.from_storage(source.to_storage(copy.deepcopy(obj)))

    def type_at(api_version: str) -> Any:
        to = other(api_version)
        return registry.type_of(to) if to is not None else None

    return {"convert": convert, "type_at": type_at}


def track(registry: Registry, request: WriteRequest, live: Object | None, new: Object) -> Object:
    """`new` with `metadata.managedFields` up to date for an update by the request's manager."""
    stamp = now(registry.clock.time())
    return track_update(tracking(registry, request), live, new, request.manager, stamp)


def apply_configuration(registry: Registry, request: WriteRequest, live: Object | None, config: Object) -> Object:
    """`live` (None: a create) with a configuration applied by the request's manager. Raises ApiError 409."""
    force = bool(request.options.get("force"))
    stamp = now(registry.clock.time())
    return apply(tracking(registry, request), live, config, request.manager, force, stamp)


def only_times_differ(new: Object, old: Object) -> bool:
    """Whether a write would change nothing but the times in managed fields: then it is not made."""
    if new.keys() != old.keys():
        return False
    for name, value in new.items():
        if name != "metadata" and not _same(value, old[name]):
            return False
    meta = {k: v for k, v in new["metadata"].items() if k not in ("managedFields", "resourceVersion")}
    old_meta = {k: v for k, v in old["metadata"].items() if k not in ("managedFields", "resourceVersion")}
    if not _same(meta, old_meta):
        return False
    fields, old_fields = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    return _same(_timeless(fields), _timeless(old_fields))


def _timeless(fields: list[Object] | None) -> list[Object]:
    return [{k: v for k, v in entry.items() if k != "time"} for entry in fields or ()]


def _same(a: object, b: object) -> bool:
    """Equal as JSON: true is not 1, and 1 is not 1.0."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b
