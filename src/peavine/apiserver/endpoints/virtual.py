"""Kinds that are asked and answered, never stored: reviews, bindings, component statuses."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind
from peavine.apiserver.endpoints import writing
from peavine.apiserver.endpoints.bodies import read_object
from peavine.apiserver.endpoints.negotiation import Output, negotiate
from peavine.apiserver.endpoints.rendering import Rendering, encode
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.registry import bindings
from peavine.apiserver.registry.fields import track
from peavine.machinery import errors

Object = dict[str, Any]


async def answer_virtual(server: Any, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response:
    from peavine.apiserver.endpoints.dispatch import method_not_allowed

    info = exchange.info
    # What has no metadata has no Table either.
    output = negotiate(info) if kind.plural == "componentstatuses" else negotiate(info, kind, ())
    if kind.plural == "componentstatuses":
        if info.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        return Response(200, await component_statuses(server, kind, name, output), output.media_type)
    if info.method != "POST" or name:
        raise method_not_allowed()
    request = writing.write_request(info, kind, namespace, "")
    data = await exchange.read_body(writing.BODY_BYTES_MAX)
    obj = read_object(server.registry, kind, data, info, request)
    if kind.plural == "bindings":
        writing.check_names(info, kind, obj, namespace)
        pod = server.registry.kind("", "v1", "pods")
        request.kind, request.name = pod, obj["metadata"].get("name") or ""
        request.subresource, request.object_gvk = "binding", kind.gvk
        await bindings.bind(server.registry, request, obj)
        return Response(201, encode(writing.success(), output), output.media_type)
    request.subresource = ""
    obj = track(server.registry, request, None, obj)
    answer = await server.review(info, kind, namespace, obj)
    return Response(201, encode(answer, output), output.media_type)


async def component_statuses(server: Any, kind: Kind, name: str, output: Output) -> bytes:
    problem = await server.checks()["etcd"]()
    condition = {"type": "Healthy", "status": "True" if problem is None else "False", "message": problem or "ok"}
    item = {"metadata": {"name": "etcd-0"}, "conditions": [condition]}
    rendering = Rendering(kind, None, output)
    if not name:
        return encode(rendering.listed([item], {}), output)
    if name != "etcd-0":
        raise errors.not_found("componentstatuses", name)
    return rendering.dict(item)
