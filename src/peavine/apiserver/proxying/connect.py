"""The connecting subresources: log, exec, attach, port-forward and proxy, of pods, services and nodes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from peavine.api.kind import Kind, Subresource
from peavine.apiserver.admission.request import CONNECT, AdmissionRequest
from peavine.apiserver.http import Exchange, Response
from peavine.apiserver.proxying.locations import Location, Locations
from peavine.apiserver.proxying.rewriting import Rewriting
from peavine.apiserver.proxying.upstream import Upstream, connect, dial_failure, pass_on, request_head
from peavine.apiserver.requests import RequestInfo
from peavine.apiserver.streams import Backend, Streams, pass_through, serve
from peavine.base.lifetimes import scope
from peavine.machinery import errors
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value
from peavine.machinery.names import GVK, GVR

Object = dict[str, Any]

_BOOLEANS = {
    "log": ("follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend"),
    "exec": ("stdin", "stdout", "stderr", "tty"),
    "attach": ("stdin", "stdout", "stderr", "tty"),
}
_METHODS = {
    "log": ("GET", "HEAD"),
    "exec": ("GET", "POST"),
    "attach": ("GET", "POST"),
    "portforward": ("GET", "POST"),
    "proxy": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
}
# The kubelet's names for exec's and attach's switches.
_KUBELET_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


async def dispatch(
    server: Any, exchange: Exchange, kind: Kind, sub: Subresource, namespace: str, name: str
) -> Response | None:
    """Answer a request on a connecting subresource. Raises ApiError."""
    from peavine.apiserver.endpoints.dispatch import method_not_allowed

    info = exchange.info
    if info.method not in _METHODS[sub.name]:
        raise method_not_allowed()
    locations: Locations = server.locations
    await server.cache.fresh()
    if sub.name == "proxy":
        return await _proxy(server, exchange, kind, namespace, name)
    pod = server.lister.get("", "pods", namespace, name)
    if pod is None:
        raise errors.not_found("pods", name)
    if sub.name == "log":
        return await _log(server, exchange, locations, pod)
    await _admit(server, info, kind, sub, namespace, name, _options(info, sub.name))
    if sub.name == "portforward":
        path = f"/portForward/{quote(namespace)}/{quote(name)}"
        query = [("port", value) for value in info.query.get("ports", ())]
    else:
        container = _container(pod, info.parameter("container"), sub.name)
        path = f"/{sub.name}/{quote(namespace)}/{quote(name)}/{quote(container)}"
        query = [(_KUBELET_NAMES[flag], "1") for flag in _BOOLEANS[sub.name] if _switch(info, sub.name, flag)]
        query += [("command", value) for value in info.query.get("command", ())]
    node = pod["spec"].get("nodeName")
    if not node:
        raise errors.bad_request(f"pod {name} does not have a host assigned")
    location = await locations.checked(locations.kubelet(node))
    target = path + "?" + urlencode(query)
    backend = Backend(
        location.host,
        location.port,
        target,
        tls=location.tls,
        server_name=location.server_name or None,
        method=info.method,
    )
    if sub.name == "portforward":
        return await serve(exchange, backend, None)
    wanted = {flag: _switch(info, sub.name, flag) for flag in _BOOLEANS[sub.name]}
    return await serve(exchange, backend, Streams(**wanted))


def _switch(info: RequestInfo, subresource: str, flag: str) -> bool:
    if flag not in info.query:
        return (subresource == "attach" and flag in ("stdout", "stderr")) or flag in ("stdout", "stderr")
    return info.flag(flag)


def _options(info: RequestInfo, subresource: str) -> Object:
    """The options object that admission sees (PodExecOptions, ...)."""
    kinds = {"exec": "PodExecOptions", "attach": "PodAttachOptions", "portforward": "PodPortForwardOptions"}
    options: Object = {"kind": kinds.get(subresource, "PodProxyOptions"), "apiVersion": "v1"}
    for flag in _BOOLEANS.get(subresource, ()):
        if info.flag(flag):
            options[flag] = True
    if info.parameter("container"):
        options["container"] = info.parameter("container")
    if info.query.get("command"):
        options["command"] = info.query["command"]
    if info.query.get("ports"):
        options["ports"] = [int(p) for p in info.query["ports"] if p.isdecimal()]
    return options


async def _admit(
    server: Any, info: RequestInfo, kind: Kind, sub: Subresource, namespace: str, name: str, options: Object
) -> None:
    assert info.user is not None
    review = AdmissionRequest(
        CONNECT,
        GVK(sub.group, sub.version or "v1", sub.kind),
        GVR(kind.group, kind.version, kind.plural),
        sub.name,
        namespace,
        name,
        options,
        None,
        {},
        info.user,
        False,
        info.warnings,
        info.audit_annotations,
    )
    await server.registry.chain.admit(review)
    await server.registry.chain.validate(review)


def _container(pod: Object, wanted: str, subresource: str) -> str:
    """The container that is meant. Raises ApiError 400 with upstream's words."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    names = [c["name"] for c in spec.get("containers") or ()]
    init = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    if wanted:
        if wanted not in (*names, *init, *ephemeral):
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(names) == 1:
        return str(names[0])
    annotations = pod["metadata"].get("annotations") or {}
    default = annotations.get("kubectl.kubernetes.io/default-container")
    if subresource != "log" and default in names:
        return str(default)
    words = f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
    if init:
        words += f" or one of the init containers: [{' '.join(init)}]"
    if ephemeral:
        words += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
    raise errors.bad_request(words)


def _check_log_options(info: RequestInfo) -> list[tuple[str, str]]:
    """The kubelet's query of a log request. Raises ApiError 400, 422."""
    from peavine.apiserver.endpoints.listing import integer

    problems: list[FieldError] = []
    query: list[tuple[str, str]] = []
    numbers = {name: integer(info, name) for name in ("sinceSeconds", "tailLines", "limitBytes")}
    for name, least, words in (
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ):
        number = numbers[name]
        if number is not None:
            if number < least:
                problems.append(invalid_value(name, number, words))
            query.append((name, str(number)))
    since = info.parameter("sinceTime")
    if since:
        if numbers["sinceSeconds"] is not None:
            problems.append(forbidden_field("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
        query.append(("sinceTime", since))
    if problems:
        raise errors.invalid("PodLogOptions", "", problems)
    for flag in ("follow", "previous", "timestamps"):
        if info.flag(flag):
            query.append((flag, "true"))
    if info.parameter("stream"):
        query.append(("stream", info.parameter("stream")))
    return query


async def _log(server: Any, exchange: Exchange, locations: Locations, pod: Object) -> Response | None:
    info = exchange.info
    query = _check_log_options(info)
    container = _container(pod, info.parameter("container"), "log")
    node = pod["spec"].get("nodeName")
    if not node:
        return Response(200, b"", "text/plain")
    meta = pod["metadata"]
    path = f"/containerLogs/{quote(meta['namespace'])}/{quote(meta['name'])}/{quote(container)}"
    location = await locations.checked(locations.kubelet(node))
    if exchange.upgrade and "websocket" in info.headers.get("upgrade", "").lower():
        await _log_by_websocket(exchange, location, f"{path}?{urlencode(query)}")
        return None
    await _go(exchange, location, path, urlencode(query), stream="log", server=server)
    return None


class _Backend:
    """Ends the kubelet's side when the client has said goodbye."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def end(self, reason: str) -> None:
        self._upstream.close()


async def _log_by_websocket(exchange: Exchange, location: Location, target: str) -> None:
    from peavine.apiserver.endpoints.websocket_stream import accept

    stream = accept(exchange)
    upstream = await _dialed(location, "log")
    try:
        dropped = [name for name, _ in exchange.info.raw_headers if name.startswith("sec-websocket")]
        await upstream.write(request_head(exchange, target, location.authority, drop=dropped))
        await upstream.head()
        if upstream.status != 200:
            text = (await upstream.read()).decode("utf-8", "replace").strip()
            raise errors.ApiError(upstream.status, "", text or "the kubelet has no such log")
        stream.open()
        async with scope() as tasks:
            reading = tasks.start(stream.read(_Backend(upstream)))
            while data := await upstream.read():
                stream.send(data)
                await exchange.drain()
            reading.cancel()
        stream.finish()
    finally:
        upstream.close()


async def _proxy(server: Any, exchange: Exchange, kind: Kind, namespace: str, name: str) -> Response | None:
    """`.../proxy/PATH` of a pod, service or node."""
    info = exchange.info
    locations: Locations = server.locations
    sub = kind.subresources["proxy"]
    await _admit(server, info, kind, sub, namespace, name, {"kind": sub.kind, "apiVersion": "v1"})
    if kind.plural == "pods":
        location = await locations.checked(locations.pod(namespace, name))
    elif kind.plural == "services":
        location = locations.service(namespace, name)
    else:
        location = await locations.checked(locations.node(name))
    marker = "/proxy"
    base, _, rest = info.raw_path.partition(f"/{kind.plural}/")
    own, found, path = rest.partition(marker)
    if not path.startswith("/"):
        if info.method in ("GET", "HEAD"):
            target = info.raw_path + "/" + ("?" + info.query_string if info.query_string else "")
            return Response(301, b"", "", [("Location", target)])
        path = "/"
    prefix = f"{base}/{kind.plural}/{own}{found}"
    extra = [("X-Forwarded-Uri", prefix + path), ("X-Forwarded-Proto", "https" if info.secure else "http")]
    if exchange.upgrade:
        target = path + ("?" + info.query_string if info.query_string else "")
        return await pass_through(
            exchange,
            Backend(
                location.host,
                location.port,
                target,
                tls=location.tls,
                server_name=location.server_name or None,
                method=info.method,
            ),
        )
    hosts = frozenset((location.authority, location.host, info.headers.get("host", "")))
    await _go(exchange, location, path, info.query_string, extra=extra, rewriting=Rewriting(prefix, hosts))
    return None


async def _go(
    exchange: Exchange,
    location: Location,
    path: str,
    query: str,
    *,
    extra: list[tuple[str, str]] | None = None,
    rewriting: Rewriting | None = None,
    stream: str = "",
    server: Any = None,
) -> None:
    upstream = await _dialed(location, stream)
    target = path + ("?" + query if query else "")
    head = request_head(exchange, target, location.authority, extra or ())
    await pass_on(exchange, upstream, head, rewriting, redirects=not stream)


async def _dialed(location: Location, stream: str) -> Upstream:
    """A connection. Raises ApiError: 503, or (towards a kubelet) 500 as upstream says it."""
    try:
        return await connect(location.host, location.port, location.tls, location.server_name)
    except (OSError, TimeoutError) as error:
        failure = dial_failure(location.host, location.port, error)
        if stream:
            failure.code, failure.reason = 500, "InternalError" if stream == "log" else ""
            failure.message = failure.message.replace("error trying to reach service", "error dialing backend")
        raise failure from None
