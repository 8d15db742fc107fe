# ruff: noqa: E501
"""Forward one or more local ports to a pod.

Follows upstream's port-forward protocol over SPDY/3.1: for each connection a stream for data and one for errors.
"""

from __future__ import annotations

import asyncio
from typing import Any

from peavine.base.lifetimes import Scope, scope
from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, duration, strings
from peavine.cli.resources import Target
from peavine.cli.session import Session
from peavine.cli.streaming import pod_of
from peavine.wire.spdy import Data, GoAway, Ping, Spdy, StreamReset

CONCURRENT = True
FLAGS = (
    strings("address", help="Addresses to listen on (comma separated)."),
    duration("pod-running-timeout", default=60.0, help="The length of time to wait until at least one pod is running."),
)
_PIECE = 32 * 1024


async def run(session: Session, flags: Parsed) -> int:
    if len(flags.arguments) < 2:
        raise CliError(
            "TYPE/NAME and list of ports are required for port-forward\nSee 'kubectl port-forward -h' for help and examples"
        )
    what, *ports = flags.arguments
    pod = await pod_of(session, flags, what)
    live = await session.get(pod.path)
    phase = (live.get("status") or {}).get("phase")
    if phase != "Running":
        raise CliError(f"unable to forward port because pod is not running. Current status={phase}")
    service = (
        await session.get(f"/api/v1/namespaces/{session.namespace}/services/{what.partition('/')[2]}")
        if what.startswith(("svc/", "service/", "services/"))
        else None
    )
    pairs = [_pair(text, live, service) for text in ports]
    addresses = [
        x for a in flags["address"] or ("localhost",) for x in (("127.0.0.1", "::1") if a == "localhost" else (a,))
    ]
    connection = await Forwarding.open(session, pod)
    async with scope() as tasks:
        tasks.start(connection.run(), name="port-forward")
        listening = await _listen(session, connection, tasks, addresses, pairs)
        if not listening:
            raise CliError(f"unable to listen on any of the requested ports: [{' '.join(ports)}]")
        session.out.flush()
        await connection.lost.wait()
        tasks.cancel()
    raise CliError("lost connection to pod")


async def _listen(
    session: Session, connection: Forwarding, tasks: Scope, addresses: list[str], pairs: list[tuple[int, int]]
) -> int:
    listening = 0
    for address in addresses:
        for local, remote in pairs:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = remote) -> None:
                session.print(f"Handling connection for {writer.get_extra_info('sockname')[1]}")
                session.out.flush()
                tasks.start(connection.carry(reader, writer, port), name="connection")

            try:
                server = await asyncio.start_server(accept, address, local)
            except OSError as error:
                if address != "::1":
                    session.warn(f"Unable to listen on port {local}: {error}")
                continue
            listening += 1
            bound = server.sockets[0].getsockname()[1]
            shown = f"[{address}]" if ":" in address else address
            session.print(f"Forwarding from {shown}:{bound} -> {remote}")
    return listening


def _pair(text: str, pod: dict[str, Any], service: dict[str, Any] | None) -> tuple[int, int]:
    """`8080:80`, `80`, `:80`, `8080:http`: the local and the remote port."""
    local, colon, remote = text.partition(":")
    remote = remote if colon else local
    number = _remote(remote, pod, service)
    if local and not local.isdigit() and not colon:
        local = str(number)
    if local and not local.isdigit():
        raise CliError(f'error parsing local port "{local}": strconv.ParseUint: parsing "{local}": invalid syntax')
    return int(local or 0), number


def _remote(text: str, pod: dict[str, Any], service: dict[str, Any] | None) -> int:
    wanted: Any = text
    for port in ((service or {}).get("spec") or {}).get("ports") or ():
        if text in (str(port["port"]), port.get("name")):
            wanted = port.get("targetPort", port["port"])
    if str(wanted).isdigit():
        return int(wanted)
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == wanted:
                return int(port["containerPort"])
    raise CliError(f"Pod '{pod['metadata']['name']}' does not have a named port '{text}'")


class Forwarding:
    """One SPDY connection to a pod's ports; every local connection is a pair of its streams."""

    def __init__(self, session: Session, connection: Any) -> None:
        self.session, self.connection = session, connection
        self.spdy = Spdy(client=True)
        self.lost = asyncio.Event()
        self.arriving: dict[int, asyncio.Queue[bytes]] = {}
        self.requests = 0

    @classmethod
    async def open(cls, session: Session, pod: Target) -> Forwarding:
        headers = {
            "Connection": "Upgrade",
            "Upgrade": "SPDY/3.1",
            "X-Stream-Protocol-Version": "portforward.k8s.io",
            "Accept": "*/*",
        }
        return cls(session, await session.client.upgrade("GET", pod.path + "/portforward", headers=headers))

    async def run(self) -> None:
        """Hand what arrives to the streams it is for, until the connection ends."""
        try:
            while data := await self.connection.read():
                for event in self.spdy.receive(data):
                    self._event(event)
        finally:
            self.lost.set()
            for queue in self.arriving.values():
                queue.put_nowait(b"")

    def _event(self, event: Any) -> None:
        if isinstance(event, Data):
            queue = self.arriving.get(event.stream)
            if queue is not None:
                if event.data:
                    queue.put_nowait(event.data)
                if event.fin:
                    queue.put_nowait(b"")
        elif isinstance(event, StreamReset):
            queue = self.arriving.get(event.stream)
            if queue is not None:
                queue.put_nowait(b"")
        elif isinstance(event, Ping):
            self.connection.write(self.spdy.ping(event.id))
        elif isinstance(event, GoAway):
            self.lost.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """One local connection, from its first byte to its last."""
        request, self.requests = self.requests, self.requests + 1
        streams = []
        for kind in ("error", "data"):
            headers = {"streamtype": kind, "port": str(port), "requestid": str(request)}
            number, frame = self.spdy.open_stream(headers, fin=kind == "error")
            self.arriving[number] = asyncio.Queue()
            self.connection.write(frame)
            streams.append(number)
        errors, data = streams
        try:
            async with scope() as tasks:
                tasks.start(self._send(reader, data), name="to the pod")
                tasks.start(self._complain(errors, port), name="errors")
                while piece := await self.arriving[data].get():
                    writer.write(piece)
                    await writer.drain()
                tasks.cancel()
        except* (ConnectionError, OSError):
            self.connection.write(self.spdy.reset(data))
        finally:
            writer.close()
            for number in streams:
                del self.arriving[number]

    async def _send(self, reader: asyncio.StreamReader, stream: int) -> None:
        while piece := await reader.read(_PIECE):
            self.connection.write(self.spdy.data(stream, piece))
        self.connection.write(self.spdy.data(stream, b"", fin=True))

    async def _complain(self, stream: int, port: int) -> None:
        text = b""
        while piece := await self.arriving[stream].get():
            text += piece
        if text:
            self.session.warn(
                f'E portforward.go] "Unhandled Error" err="an error occurred forwarding {port} -> {port}: {text.decode("utf-8", "replace")}"'
            )
