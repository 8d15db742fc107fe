"""The scale subresource: replicas of a workload through one small kind."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.registry import scale_fields
from peavine.apiserver.registry.registry import Registry
from peavine.apiserver.registry.request import Object, WriteRequest
from peavine.apiserver.registry.update import modify
from peavine.machinery import errors
from peavine.machinery.apply import Tracking, apply
from peavine.machinery.errors import invalid_value
from peavine.machinery.meta import now
from peavine.machinery.selectors import SelectorError, selector_of, selector_of_labels


def _get(obj: Any, path: str) -> Any:
    for part in path.strip(".").split("."):
        if not isinstance(obj, dict):
            return None
        obj = obj.get(part)
    return obj


def _set(obj: Object, path: str, value: Any) -> None:
    *parents, last = path.strip(".").split(".")
    for part in parents:
        obj = obj.setdefault(part, {})
    obj[last] = value


def scale_of(kind: Kind, obj: Object) -> Object:
    """The `Scale` (autoscaling/v1) of an object."""
    paths = kind.scale
    assert paths is not None
    meta = obj["metadata"]
    own = {
        name: meta[name]
        for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if name in meta
    }
    status: Object = {"replicas": _get(obj, paths.status_replicas) or 0}
    selector = _get(obj, paths.selector) if paths.selector else None
    if isinstance(selector, str):
        if selector:
            status["selector"] = selector
    elif selector is not None:
        try:
            labels_only = kind.plural == "replicationcontrollers"
            text = str(selector_of_labels(selector) if labels_only else selector_of(selector))
        except SelectorError:
            text = ""
        if text:
            status["selector"] = text
    replicas = _get(obj, paths.spec_replicas)
    spec = {"replicas": replicas} if replicas else {}
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own, "spec": spec, "status": status}


async def read_scale(registry: Registry, kind: Kind, namespace: str, name: str) -> Object:
    entry = registry.resource(kind).current(namespace, name)
    if entry is None:
        raise errors.not_found(f"{kind.plural}/scale", name, kind.group)
    return scale_of(kind, await registry.read_object(kind, entry))


async def update_scale(registry: Registry, request: WriteRequest, scale: Object) -> Object:
    """Set the replicas that a Scale says."""
    return await _change(registry, request, lambda current: scale)


async def patch_scale(registry: Registry, request: WriteRequest, content_type: str, data: bytes) -> Object:
    from peavine.apiserver.endpoints.writing import APPLIES, apply_document, patch_document

    if content_type in APPLIES:
        config, _ = apply_document(data, content_type)
        return await _apply(registry, request, config)
    type = registry.schema.for_kind(request.object_gvk) if request.object_gvk else None
    patch, _ = patch_document(data, content_type)

    def change(current: Object) -> Object:
        from peavine.apiserver.endpoints.writing import patched

        return patched(content_type, current, patch, type)

    return await _change(registry, request, change)


async def _apply(registry: Registry, request: WriteRequest, config: Object) -> Object:
    """An apply of a Scale: who owns the object's replicas owns those of its Scale. Raises ApiError 409."""
    kind = request.kind
    assert kind.scale is not None and request.object_gvk is not None
    path = kind.scale.spec_replicas
    tracking = Tracking(request.object_gvk, registry.schema.for_kind(request.object_gvk), request.subresource)
    stamp = now(registry.clock.time())

    def change(current: Object, live: Object) -> Object:
        entries = live["metadata"].get("managedFields") or []
        current["metadata"]["managedFields"] = scale_fields.of_scale(entries, path)
        named = {**config, "metadata": {"name": request.name, **(config.get("metadata") or {})}}
        scale = apply(tracking, current, named, request.manager, bool(request.options.get("force")), stamp)
        owners = scale["metadata"].pop("managedFields", None) or []
        live["metadata"]["managedFields"] = scale_fields.of_object(entries, owners, path, kind.api_version)
        return scale

    return await _change(registry, request, change, tracked=True)


async def _change(registry: Registry, request: WriteRequest, change: Any, *, tracked: bool = False) -> Object:
    """Set the replicas to those of the Scale that `change` makes of the present one (and, if `tracked`, the object)."""
    kind = request.kind
    assert kind.scale is not None

    def on_parent(live: Object | None) -> Object:
        assert live is not None
        current = scale_of(kind, live)
        scale = change(current, live) if tracked else change(current)
        meta = scale.get("metadata") or {}
        version = meta.get("resourceVersion")
        if version and version != live["metadata"]["resourceVersion"]:
            raise errors.conflict(kind.plural, request.name, kind.group)
        replicas = (scale.get("spec") or {}).get("replicas") or 0
        problems = []
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise errors.bad_request("Scale: spec.replicas must be a number")
        if replicas < 0:
            words = "must be greater than or equal to 0"
            problems.append(invalid_value("spec.replicas", replicas, words))
        if problems:
            raise errors.invalid("Scale", request.name, problems, "autoscaling")
        _set(live, kind.scale.spec_replicas, replicas)  # type: ignore[union-attr]
        return live

    request.view = lambda obj: scale_of(kind, obj)
    # The parent is validated and counted as by an update of its spec; managed fields say that it came through scale.
    result, _ = await modify(registry, request, on_parent, tracked=tracked)
    obj = result if isinstance(result, dict) else await registry.read_object(kind, result)
    return scale_of(kind, obj)
