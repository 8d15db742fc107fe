"""Which function answers a resource request: by kind, scope, subresource and method."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Protocol

from peavine.api.kind import Kind
from peavine.apiserver.cache import Entry
from peavine.apiserver.endpoints import subresources, writing
from peavine.apiserver.endpoints.listing import read_options, select, wait_for_version
from peavine.apiserver.endpoints.negotiation import negotiate
from peavine.apiserver.endpoints.rendering import Rendering, encode
from peavine.apiserver.endpoints.watching import watch
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.registry import Registry
from peavine.machinery import errors

# Lists from this size on are written piece by piece.
STREAM_FROM_BYTES = 2 << 20
Object = dict[str, Any]
VERB_OF_METHOD = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


class Services(Protocol):
    """What special endpoints need beyond the registry; see `server.ApiServer`."""

    registry: Registry


def not_served() -> errors.ApiError:
    error = errors.ApiError(404, "NotFound", "the server could not find the requested resource", details={})
    return error


def method_not_allowed() -> errors.ApiError:
    words = "the server does not allow this method on the requested resource"
    return errors.ApiError(405, "MethodNotAllowed", words, details={})


async def dispatch(server: Any, exchange: Exchange) -> Response | None:
    """Answer a request on a resource. Raises ApiError."""
    info = exchange.info
    registry: Registry = server.registry
    kind = registry.kind(info.group, info.version, info.resource)
    if kind is None or not kind.plural or (len(info.parts) > 3 and info.subresource != "proxy"):
        raise not_served()
    if not registry.serves(kind) and not registry.sees_all(info.user):
        raise not_served()
    deprecation: Any = kind.hook("DEPRECATION")
    if deprecation:
        info.warn(deprecation)
    name = info.parts[1] if len(info.parts) > 1 else ""
    namespace = info.namespace
    if kind.namespaced:
        if not namespace and (name or info.method in ("POST", "PUT", "PATCH", "DELETE")):
            if name:
                raise not_served()
            if not (kind.virtual and info.method == "POST"):
                raise method_not_allowed()
            raise not_served()
    elif namespace and kind.plural != "namespaces":
        raise not_served()
    elif kind.plural == "namespaces" and not kind.group:
        namespace = ""
    if info.subresource:
        return await subresources.dispatch(server, exchange, kind, namespace, name)
    if kind.virtual:
        return await server.virtual(exchange, kind, namespace, name)
    return await _objects(registry, exchange, kind, namespace, name)


async def _objects(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response | None:
    info = exchange.info
    method = info.method
    if not name:
        if method in ("GET", "HEAD"):
            if info.verb == "watch":
                _require(kind, "watch")
                await watch(registry, exchange, kind, namespace)
                return None
            _require(kind, "list")
            return await handle_list(registry, exchange, kind, namespace)
        if method == "POST":
            _require(kind, "create")
            return await writing.handle_create(registry, exchange, kind, namespace)
        if method == "DELETE":
            _require(kind, "deletecollection")
            return await writing.handle_delete_collection(registry, exchange, kind, namespace)
        raise method_not_allowed()
    if method in ("GET", "HEAD"):
        if info.verb == "watch" or info.flag("watch"):
            _require(kind, "watch")
            await watch(registry, exchange, kind, namespace, name)
            return None
        _require(kind, "get")
        return await handle_get(registry, exchange, kind, namespace, name)
    if method == "PUT":
        _require(kind, "update")
        return await writing.handle_update(registry, exchange, kind, namespace, name)
    if method == "PATCH":
        _require(kind, "patch")
        return await writing.handle_patch(registry, exchange, kind, namespace, name)
    if method == "DELETE":
        _require(kind, "delete")
        return await writing.handle_delete(registry, exchange, kind, namespace, name)
    raise method_not_allowed()


def _require(kind: Kind, verb: str) -> None:
    if verb not in kind.verbs:
        raise method_not_allowed()


async def handle_get(registry: Registry, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
    output = negotiate(exchange.info, kind)
    await wait_for_version(registry, exchange.info.parameter("resourceVersion"))
    entry = registry.resource(kind).current(namespace, name)
    if entry is None:
        raise errors.not_found(kind.plural, name, kind.group)
    await registry.prepare(kind, (entry,))
    rendering = Rendering(kind, registry.resource(kind).cache, output)
    return Response(200, rendering.object(entry), output.media_type)


async def handle_list(registry: Registry, exchange: Exchange, kind: Kind, namespace: str) -> Response | None:
    info = exchange.info
    output = negotiate(info, kind)
    options = read_options(info, kind)
    entries, meta = await select(registry, kind, namespace, options)
    include = info.parameter("includeObject", "Metadata") or "Metadata"
    if include not in ("Metadata", "Object", "None"):
        raise errors.bad_request(f'unrecognized includeObject value: "{include}"')
    rendering = Rendering(kind, registry.resource(kind).cache, output)
    if rendering.joins:
        entries = list(entries)
        if sum(len(entry.rest) for entry in entries) > STREAM_FROM_BYTES:
            await stream_list(exchange, rendering, entries, meta)
            return None
    elif registry.waits(kind):
        objects = await registry.read_objects(kind, entries)
        return Response(200, encode(rendering.listed(objects, meta, include), output), output.media_type)
    return Response(200, rendering.list_of(entries, meta, include), output.media_type)


async def stream_list(exchange: Exchange, rendering: Rendering, entries: list[Entry], meta: Object) -> None:
    """Write a large list piece by piece: it is never in memory as a whole, and others are served in between."""
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-cache, private")]
    packer: Any = None
    if "gzip" in exchange.info.headers.get("accept-encoding", ""):
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
    exchange.start_stream(200, headers)
    for piece in rendering.list_pieces(entries, meta):
        exchange.write(await asyncio.to_thread(packer.compress, piece) if packer is not None else piece)
        await exchange.drain()
        await asyncio.sleep(0)
    if packer is not None:
        exchange.write(packer.flush())
    exchange.end_stream()
