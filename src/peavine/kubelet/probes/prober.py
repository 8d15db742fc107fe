"""One probe: exec, HTTP, TCP or gRPC. Returns whether it succeeded, and what to say about it."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from peavine.kubelet.cri.runtime import RpcError, Runtime

Object = dict[str, Any]

BODY_BYTES_MAX = 10 * 1024
OUTPUT_CHARS_MAX = 10 * 1024
USER_AGENT = "kube-probe/1.37"


def port_of(container: Object, port: int | str) -> int:
    """A port number, or the number of the container's port of that name. Raises ValueError."""
    if isinstance(port, int):
        return port
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return entry["containerPort"]
    if str(port).isdigit():
        return int(port)
    raise ValueError(f"couldn't find port: {port!r} in container {container['name']}")


async def probe(
    spec: Object, *, container: Object, container_id: str, pod_ip: str, runtime: Runtime
) -> tuple[bool, str]:
    """Do what the probe's spec says, within its timeout."""
    timeout = float(spec.get("timeoutSeconds") or 1)
    scripted = getattr(runtime, "probe", None)
    if scripted is not None:
        return scripted(container_id)  # type: ignore[no-any-return]
    try:
        if execute := spec.get("exec"):
            return await exec_probe(execute.get("command") or [], container_id, int(timeout), runtime)
        if get := spec.get("httpGet"):
            port = port_of(container, get["port"])
            return await http_probe(get, host=get.get("host") or pod_ip, port=port, timeout=timeout)
        if tcp := spec.get("tcpSocket"):
            return await tcp_probe(tcp.get("host") or pod_ip, port_of(container, tcp["port"]), timeout)
        if grpc := spec.get("grpc"):
            return await grpc_probe(pod_ip, grpc["port"], grpc.get("service") or "", timeout)
    except ValueError as error:
        return False, str(error)
    return False, f"missing probe handler for {container['name']}"


async def exec_probe(command: list[str], container_id: str, timeout: int, runtime: Runtime) -> tuple[bool, str]:
    try:
        result = await runtime.exec_sync(container_id, command, timeout)
    except RpcError as error:
        if error.code == "DEADLINE_EXCEEDED":
            return False, f'command timed out: "{" ".join(command)}" timed out after {timeout}s'
        return False, str(error)
    output = (result.stdout + result.stderr).decode("utf-8", "replace")[:OUTPUT_CHARS_MAX]
    return result.exit_code == 0, output


async def tcp_probe(host: str, port: int, timeout: float) -> tuple[bool, str]:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True, ""
    except TimeoutError:
        return False, f"dial tcp {_address(host, port)}: i/o timeout"
    except OSError as error:
        return False, f"dial tcp {_address(host, port)}: connect: {_words(error)}"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _words(error: OSError) -> str:
    import os

    return os.strerror(error.errno).lower() if error.errno else str(error)


async def http_probe(get: Object, *, host: str, port: int, timeout: float) -> tuple[bool, str]:
    """GET as the kubelet does: any status from 200 to 399 is success, redirects within the host are followed once."""
    scheme = (get.get("scheme") or "HTTP").lower()
    path = get.get("path") or "/"
    if not path.startswith("/"):
        path = "/" + path
    url = f"{scheme}://{_address(host, port)}{path}"
    headers = {"Host": _address(host, port), "User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    for entry in get.get("httpHeaders") or []:
        name = next((known for known in headers if known.lower() == entry["name"].lower()), entry["name"])
        headers[name] = entry.get("value") or ""
    # An empty value takes the default header away.
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value or name == "Host")
    context = None
    if scheme == "https":
        # As upstream: a probe asks whether the container answers, not who it is.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1", "replace"))
                first = (await reader.readline()).decode("latin-1").split(" ", 2)
                if len(first) < 2 or not first[1][:3].isdigit():
                    return False, f'Get "{url}": malformed HTTP response'
                while (await reader.readline()).strip():
                    continue
                status = int(first[1][:3])
                body = b""
                if status >= 400:
                    body = await reader.read(BODY_BYTES_MAX)
            finally:
                writer.close()
    except TimeoutError:
        return False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        words = _words(error) if isinstance(error, OSError) else "EOF"
        return False, f'Get "{url}": dial tcp {_address(host, port)}: connect: {words}'
    if 200 <= status < 400:
        return True, ""
    return False, f"HTTP probe failed with statuscode: {status}" if not body else _failed(status)


def _failed(status: int) -> str:
    return f"HTTP probe failed with statuscode: {status}"


async def grpc_probe(host: str, port: int, service: str, timeout: float) -> tuple[bool, str]:
    """grpc.health.v1.Health/Check."""
    from peavine.kubelet.rpc import Channel, Codec, RpcError

    codec = Codec("CheckRequest: service=1:string\nCheckResponse: status=1:enum")
    channel = Channel(f"ipv4:{host}:{port}" if ":" not in host else f"ipv6:[{host}]:{port}", codec)
    try:
        request = {"service": service}
        answer = await channel.call("/grpc.health.v1.Health/Check", "CheckRequest", "CheckResponse", request, timeout)
    except RpcError as error:
        if error.code == "UNIMPLEMENTED":
            return False, "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        if error.code in ("DEADLINE_EXCEEDED", "UNAVAILABLE"):
            return False, f'timeout: failed to connect service "{_address(host, port)}" within {timeout:.0f}s'
        return False, f"error: health rpc probe failed: {error}"
    finally:
        await channel.close()
    status = answer.get("status", 0)
    names = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
    if status == 1:
        return True, "service healthy"
    return False, f'service unhealthy (responded with "{names[status] if status < 4 else status}")'
