"""One HTTPS request to a webhook: where it is, whom to trust, and its answer as JSON."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import orjson

from peavine.apiserver.lister import Lister
from peavine.apiserver.streams.backend import read_answer

Object = dict[str, Any]
answer_bytes_max = 8 << 20
idle_connections_max = 8  # to one webhook
_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class WebhookError(Exception):
    """The webhook could not be asked, or its answer makes no sense."""


@dataclass(frozen=True)
class Target:
    """Where a client configuration leads. `url` is what messages show."""

    host: str
    port: int
    path: str
    server_name: str
    url: str
    tls: ssl.SSLContext


def resolve(lister: Lister, client: Object, seconds: float) -> Target:
    """Raises WebhookError when the Service is missing."""
    tls = _trusting(client.get("caBundle") or "")
    service = client.get("service")
    if service is None:
        parts = urlsplit(client.get("url") or "")
        host, port = parts.hostname or "", parts.port or 443
        path = (parts.path or "/") + (f"?{parts.query}&" if parts.query else "?") + f"timeout={seconds:g}s"
        return Target(host, port, path, host, f"https://{parts.netloc}{path}", tls)
    name, namespace, port = service.get("name") or "", service.get("namespace") or "", service.get("port") or 443
    path = "/" + (service.get("path") or "/").lstrip("/") + f"?timeout={seconds:g}s"
    server_name = f"{name}.{namespace}.svc"
    host, to_port = _place(lister, namespace, name, port)
    return Target(host, to_port, path, server_name, f"https://{server_name}:{port}{path}", tls)


def _place(lister: Lister, namespace: str, name: str, port: int) -> tuple[str, int]:
    """An address behind the Service; its cluster IP where no endpoint is known to be ready."""
    service = lister.get("", "services", namespace, name)
    if service is None:
        raise WebhookError(f'service "{name}" not found')
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return spec.get("externalName") or "", port
    found = next((p for p in spec.get("ports") or [] if p.get("port") == port), None)
    if found is None:
        raise WebhookError(f'no service port {port} found for service "{name}"')
    for part in lister.list("discovery.k8s.io", "endpointslices", namespace):
        labels = part["metadata"].get("labels") or {}
        if labels.get("kubernetes.io/service-name") != name or part.get("addressType") == "FQDN":
            continue
        ports = [p for p in part.get("ports") or [] if (p.get("name") or "") == (found.get("name") or "")]
        for endpoint in part.get("endpoints") or [] if ports else []:
            if (endpoint.get("conditions") or {}).get("ready") is not False and endpoint.get("addresses"):
                return endpoint["addresses"][0], ports[0].get("port") or port
    cluster_ip = spec.get("clusterIP") or ""
    if cluster_ip in ("", "None"):
        raise WebhookError(f'no endpoints available for service "{name}"')
    return cluster_ip, port


@lru_cache(maxsize=256)
def _trusting(bundle: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if bundle:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=base64.b64decode(bundle).decode())
        except (ValueError, ssl.SSLError) as error:
            raise WebhookError(f"unable to load root certificates: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


async def ask(lister: Lister, client: Object, review: Object, seconds: float) -> Object:
    """Post a review; the answer. Raises WebhookError, in words as Go's client has them."""
    target = resolve(lister, client, seconds)
    try:
        async with asyncio.timeout(seconds):
            answer = await _post(target, orjson.dumps(review))
    except TimeoutError:
        raise WebhookError(f'failed to call webhook: Post "{target.url}": context deadline exceeded') from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise WebhookError(f'failed to call webhook: Post "{target.url}": {_why(error, target)}') from error
    return _understood(answer.status, answer.body)


# Connections that have answered and may be asked again, by loop and target. A webhook that closes them costs nothing.
_idle: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Any, ...], list[_Connection]]] = WeakKeyDictionary()


async def _post(target: Target, body: bytes) -> Any:
    idle = _idle.setdefault(asyncio.get_running_loop(), {})
    key = (target.host, target.port, target.server_name, id(target.tls))
    request = _head(target, len(body)) + body
    known = idle.get(key)
    while known:
        reader, writer = known.pop()
        if reader.at_eof() or writer.is_closing():
            writer.close()
            continue
        try:
            return await _exchange(reader, writer, request, idle.setdefault(key, []))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            # It was closed while it lay idle: nothing of this request has been answered, so it is asked anew.
        except ConnectionError:
            pass
    reader, writer = await asyncio.open_connection(
        target.host, target.port, ssl=target.tls, server_hostname=target.server_name
    )
    return await _exchange(reader, writer, request, idle.setdefault(key, []))


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, idle: list[_Connection]
) -> Any:
    try:
        writer.write(request)
        answer = await read_answer(reader, writer)
    except BaseException:
        writer.close()
        raise
    whole = answer.header("content-length") or answer.header("transfer-encoding").lower() == "chunked"
    if whole and answer.header("connection").lower() != "close" and len(idle) < idle_connections_max:
        idle.append((reader, writer))
    else:
        writer.close()
    return answer


def _head(target: Target, size: int) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.server_name}",
        "Content-Type: application/json",
        "Accept: application/json",
        "User-Agent: kube-apiserver-admission",
        f"Content-Length: {size}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _understood(status: int, body: bytes) -> Object:
    if status != 200:
        text = body[:1024].decode("utf-8", "replace").strip()
        raise WebhookError(f"failed to call webhook: the server responded with the status code {status}: {text}")
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WebhookError(f"failed to call webhook: couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(answer, dict):
        raise WebhookError("failed to call webhook: the answer is no object")
    return answer


def _why(error: BaseException, target: Target) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {error.verify_message}"
    if isinstance(error, ConnectionRefusedError):
        return f"dial tcp {target.host}:{target.port}: connect: connection refused"
    if isinstance(error, EOFError):
        return "EOF"
    return str(error) or type(error).__name__
