"""Subresources: those of the parent's own kind, scale, and those that speak a kind of their own."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.endpoints import writing
from peavine.apiserver.endpoints.bodies import read_object
from peavine.apiserver.endpoints.listing import wait_for_version
from peavine.apiserver.endpoints.negotiation import JSON, Output, negotiate
from peavine.apiserver.endpoints.rendering import Rendering, encode
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.registry import Registry, bindings
from peavine.apiserver.registry import pods as pod_operations
from peavine.apiserver.registry.scale import patch_scale, read_scale, update_scale
from peavine.machinery import errors
from peavine.machinery.names import GVK

Object = dict[str, Any]
SCALE = GVK("autoscaling", "v1", "Scale")


async def dispatch(server: Any, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response | None:
    from peavine.apiserver.endpoints.dispatch import VERB_OF_METHOD, method_not_allowed, not_served

    info = exchange.info
    registry: Registry = server.registry
    sub = kind.subresources.get(info.subresource)
    if sub is None:
        raise not_served()
    if (sub.connects and sub.name != "log") or sub.name == "log":
        from peavine.apiserver.proxying import connect

        return await connect.dispatch(server, exchange, kind, sub, namespace, name)
    verb = VERB_OF_METHOD.get(info.method, "")
    if verb not in sub.verbs:
        raise method_not_allowed()
    if sub.name == "scale":
        return await _scale(registry, exchange, kind, namespace, name)
    if verb == "create":
        return await _create(server, exchange, kind, sub.name, namespace, name)
    if verb == "get":
        output = negotiate(info, kind)
        await wait_for_version(registry, info.parameter("resourceVersion"))
        entry = registry.resource(kind).current(namespace, name)
        if entry is None:
            raise errors.not_found(kind.plural, name, kind.group)
        await registry.prepare(kind, (entry,))
        rendering = Rendering(kind, registry.resource(kind).cache, output)
        return Response(200, rendering.object(entry), output.media_type)
    if verb == "update":
        return await writing.handle_update(registry, exchange, kind, namespace, name)
    if verb == "patch":
        return await writing.handle_patch(registry, exchange, kind, namespace, name)
    raise method_not_allowed()


async def _scale(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
    info = exchange.info
    output = negotiate(info, kind)
    if info.method in ("GET", "HEAD"):
        await wait_for_version(registry, info.parameter("resourceVersion"))
        return _json(output, await read_scale(registry, kind, namespace, name))
    request = writing.write_request(info, kind, namespace, name)
    request.object_gvk = SCALE
    data = await exchange.read_body(writing.BODY_BYTES_MAX)
    if info.method == "PUT":
        scale = read_object(registry, kind, data, info, request, SCALE)
        writing.check_names(info, kind, scale, namespace, name)
        return _json(output, await update_scale(registry, request, scale))
    content_type = info.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if content_type not in (accepted := writing.patch_types(info, kind)):
        raise errors.unsupported_media_type(accepted)
    writing.check_patch_options(request, content_type, info)
    return _json(output, await patch_scale(registry, request, content_type, data))


def _json(output: Output, obj: Object, status: int = 200) -> Response:
    return Response(status, encode(obj, output), output.media_type)


async def _create(server: Any, exchange: Exchange, kind: Kind, subresource: str, namespace: str, name: str) -> Response:
    """binding, eviction, token: a POST of another kind on an object."""
    info = exchange.info
    registry: Registry = server.registry
    output = negotiate(info, kind)
    sub = kind.subresources[subresource]
    gvk = GVK(sub.group or kind.group, sub.version or kind.version, sub.kind)
    request = writing.write_request(info, kind, namespace, name)
    request.object_gvk = gvk
    data = await exchange.read_body(writing.BODY_BYTES_MAX)
    content_type = info.headers.get("content-type", "")
    if subresource == "binding":
        plain = bindings.plain_binding(data) if content_type == JSON else None
        obj = plain or read_object(registry, kind, data, info, request, gvk)
        writing.check_names(info, kind, obj, namespace, name)
        await bindings.bind(registry, request, obj)
        return _json(output, writing.success(), 201)
    obj = read_object(registry, kind, data, info, request, gvk)
    if subresource == "eviction":
        writing.check_names(info, kind, obj, namespace, name)
        await pod_operations.evict(registry, request, obj)
        return _json(output, writing.success(), 201)
    if subresource == "token":
        return _json(output, await server.token_request(request, obj), 201)
    raise errors.ApiError(501, "NotImplemented", f"{kind.plural}/{subresource} is not implemented")
