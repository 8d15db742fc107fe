"""exec, attach and port-forward: the upgraded connection is passed through to the runtime's streaming server.

The runtime speaks SPDY and WebSocket itself; the kubelet only finds the container, gets the URL, sends the request's
head on, and copies bytes both ways. The simulated runtime has no such server: `simulated.py` answers instead.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from peavine.base.lifetimes import scope
from peavine.kubelet.server.http import Answer, HttpError, Request

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.records import Container
    from peavine.kubelet.pods.worker import PodWorker

COPY_BYTES = 64 * 1024
# Headers of the client that make no sense to the runtime.
_DROPPED = ("authorization", "host", "content-length")


async def execute(kubelet: Kubelet, request: Request, container: Container) -> Answer:
    command = request.query.get("command") or []
    if not command:
        raise HttpError(400, "you must specify at least 1 command for the container")
    streams = _streams(request)
    url = await kubelet.runtime.exec_url(container.id, command, **streams)
    return await _pass_on(kubelet, request, url, container.id, command)


async def attach(kubelet: Kubelet, request: Request, worker: PodWorker, container: Container) -> Answer:
    streams = _streams(request)
    spec = worker.pod.get("spec") or {}
    every = [
        *(spec.get("containers") or []),
        *(spec.get("initContainers") or []),
        *(spec.get("ephemeralContainers") or []),
    ]
    own: dict[str, Any] = next((c for c in every if c["name"] == container.name), {})
    # The terminal is the container's, whatever the client believes.
    streams["tty"] = bool(own.get("tty"))
    if streams["tty"]:
        streams["stderr"] = False
    url = await kubelet.runtime.attach_url(container.id, **streams)
    return await _pass_on(kubelet, request, url, container.id, [])


async def port_forward(kubelet: Kubelet, request: Request, worker: PodWorker) -> Answer:
    sandbox = worker.record.sandbox
    if sandbox is None or not sandbox.ready:
        raise HttpError(404, f'pod "{worker.pod["metadata"]["name"]}" is not running')
    ports = [int(p) for value in request.query.get("port") or [] for p in value.split(",") if p.isdigit()]
    url = await kubelet.runtime.port_forward_url(sandbox.id, ports)
    return await _pass_on(kubelet, request, url, "", [])


def _streams(request: Request) -> dict[str, bool]:
    """From the kubelet's names (input, output, error) or the API's (stdin, stdout, stderr)."""
    tty = request.flag("tty")
    found = {
        "stdin": request.flag("input") or request.flag("stdin"),
        "stdout": request.flag("output") or request.flag("stdout"),
        "stderr": (request.flag("error") or request.flag("stderr")) and not tty,
        "tty": tty,
    }
    if not (found["stdin"] or found["stdout"] or found["stderr"]):
        raise HttpError(400, "you must specify at least 1 of stdin, stdout, stderr")
    return found


async def _pass_on(kubelet: Kubelet, request: Request, url: str, container_id: str, command: list[str]) -> Answer:
    if url.startswith("simulated:"):
        from peavine.kubelet.server import simulated

        return await simulated.stream(kubelet, request, container_id, command)
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    lines = [f"{request.method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1"]
    lines.append(f"Host: {parts.netloc}")
    for line in request.head.decode("latin-1").split("\r\n")[1:]:
        name = line.partition(":")[0].strip().lower()
        if line and name not in _DROPPED:
            lines.append(line)
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    async with scope() as tasks:
        there = tasks.start(_copy(request.reader, writer), name="to runtime")
        back = tasks.start(_copy(reader, request.writer), name="from runtime")
        # The runtime's side decides when it is over; a client that leaves ends it too.
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        if not back.done():
            await asyncio.wait({back}, timeout=5)
    writer.close()
    return Answer(hijacked=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(COPY_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, OSError):
        return
