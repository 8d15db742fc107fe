"""The userspace mode: this process accepts and relays. For kernels whose translation cannot be trusted, and to see
how it works.

The kernel sends a Service's packets to a relay on this node, by the same table as in the nftables mode, with the
relay as the only endpoint. The relay sees the client's address (affinity works) but endpoints see the node's;
connections end with the process. SCTP is not relayed, as it never was upstream: its ports refuse.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from peavine.base.lifetimes import Scope, scope
from peavine.linux import links, nftables, programs
from peavine.proxy.backend import BackendUnavailable, Settings
from peavine.proxy.model import Change, Endpoint, ServicePort
from peavine.proxy.nftables import NftablesBackend

log = logging.getLogger(__name__)

TABLE = "peavine-userspace"
udp_idle_seconds = 60.0
udp_clients_max = 4096
piece_bytes = 65536
connect_seconds = 5.0

Name = tuple[str, bool]
"""Identity of a service port, and whether the relay is for endpoints of this node only."""


class UserspaceBackend:
    name = "userspace"

    def __init__(self, settings: Settings) -> None:
        if not programs.available("nft"):
            raise BackendUnavailable("nft is not installed")
        self._own = {ipv6: links.default_source(ipv6)[0] for ipv6 in settings.families}
        self._rules = NftablesBackend(settings, TABLE)
        self._ports: dict[str, ServicePort] = {}
        # Started here, so that the thread's connections belong to this network namespace.
        self._relays = _Relays()

    def start(self, desired: Iterable[ServicePort]) -> None:
        ports = list(desired)
        gone = self._ports.keys() - {p.identity for p in ports}
        for identity in gone:
            self._close(self._ports.pop(identity))
        self._rules.start([self._relayed(port) for port in ports if self._own.get(port.ipv6)])

    def apply(self, changes: list[Change]) -> None:
        relayed = []
        for change in changes:
            old = tuple(self._substitute(p) for p in change.old if self._own.get(p.ipv6))
            kept = {p.identity for p in change.new}
            new = tuple(self._relayed(p) for p in change.new if self._own.get(p.ipv6))
            for port in change.old:
                if port.identity not in kept:
                    self._ports.pop(port.identity, None)
            relayed.append(Change(change.service, old, new))
            gone = [p for p in change.old if p.identity not in kept]
            self._rules.apply(relayed[-1:])
            for port in gone:
                self._close(port)

    def intact(self) -> bool:
        return self._rules.intact()

    def close(self) -> None:
        self._relays.close()
        self._rules.close()

    def _relayed(self, port: ServicePort) -> ServicePort:
        """The port with its relays as endpoints, which now have the port's endpoints."""
        self._ports[port.identity] = port
        if port.protocol == "sctp":
            log.warning("%s: SCTP is not relayed", port.identity)
            return self._substitute(port)
        for local, endpoints in ((False, port.cluster), (True, port.local)):
            name = (port.identity, local)
            if endpoints:
                self._relays.open(name, port.protocol, self._own[port.ipv6], endpoints, port.affinity_seconds)
        return self._substitute(port)

    def _substitute(self, port: ServicePort) -> ServicePort:
        own = self._own[port.ipv6]

        def relay(local: bool) -> tuple[Endpoint, ...]:
            number = self._relays.ports.get((port.identity, local))
            return (Endpoint(own, number, False),) if number else ()

        return replace(
            port,
            cluster=relay(False) if port.cluster else (),
            local=relay(True) if port.local else (),
            affinity_seconds=0,
        )

    def _close(self, port: ServicePort) -> None:
        for local in (False, True):
            self._relays.shut((port.identity, local))


def cleanup() -> None:
    if programs.available("nft"):
        nftables.remove_tables([("ip", TABLE), ("ip6", TABLE)])


class _Relays:
    """A thread with a loop of its own, in the network namespace of its maker. Methods are called from other threads."""

    def __init__(self) -> None:
        self.ports: dict[Name, int] = {}
        self._relays: dict[Name, _Relay] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._tasks: Scope | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="relays", daemon=True)
        self._thread.start()
        self._started.wait()

    def open(
        self, name: Name, protocol: str, host: str, endpoints: tuple[Endpoint, ...], affinity_seconds: int
    ) -> None:
        """Relay to `endpoints` from now on; the port stays the same as long as the relay lives."""
        relay = self._relays.get(name)
        if relay is None:
            kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
            listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
            listener.bind((host, 0))
            if kind == socket.SOCK_STREAM:
                listener.listen(1024)
            relay = self._relays[name] = (_UdpRelay if kind == socket.SOCK_DGRAM else _TcpRelay)(listener)
            self.ports[name] = listener.getsockname()[1]
            self._call(lambda: self._start(relay))
        self._call(lambda: relay.use(endpoints, affinity_seconds))

    def shut(self, name: Name) -> None:
        relay = self._relays.pop(name, None)
        if relay is not None:
            del self.ports[name]
            self._call(relay.shut)

    def close(self) -> None:
        if self._thread.is_alive():
            assert self._end is not None
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(5)
        for relay in self._relays.values():
            relay.listener.close()
        self._relays.clear()
        self.ports.clear()

    def _start(self, relay: _Relay) -> None:
        assert self._tasks is not None
        relay.task = self._tasks.start(relay.run(self._tasks), name="relay")
        # Not before the loop has forgotten the descriptor: a new connection may be given the same number at once.
        relay.task.add_done_callback(lambda _: relay.listener.close())

    def _call(self, work: Callable[[], Any]) -> None:
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        done.result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._end = asyncio.Event()
        async with scope() as self._tasks:
            self._started.set()
            await self._end.wait()


class _Relay:
    """Endpoints in turn, or the one that a client had within the affinity's time."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.task: asyncio.Task[Any] | None = None
        self._endpoints: tuple[Endpoint, ...] = ()
        self._turn = itertools.count()
        self._affinity_seconds = 0
        self._clients: dict[str, tuple[Endpoint, float]] = {}

    def use(self, endpoints: tuple[Endpoint, ...], affinity_seconds: int) -> None:
        self._endpoints = endpoints
        self._affinity_seconds = affinity_seconds
        self._clients = {c: held for c, held in self._clients.items() if held[0] in endpoints}

    def shut(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def choose(self, client: str) -> Endpoint | None:
        if not self._endpoints:
            return None
        now = time.monotonic()
        held = self._clients.get(client) if self._affinity_seconds else None
        if held is not None and now - held[1] < self._affinity_seconds:
            endpoint = held[0]
        else:
            endpoint = self._endpoints[next(self._turn) % len(self._endpoints)]
        if self._affinity_seconds:
            self._clients[client] = (endpoint, now)
        return endpoint

    def tries(self) -> int:
        return min(len(self._endpoints), 3)

    async def run(self, tasks: Scope) -> None:
        raise NotImplementedError


class _TcpRelay(_Relay):
    async def run(self, tasks: Scope) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self.listener)
            except OSError as error:
                if self.listener.fileno() < 0:
                    return
                log.warning("accept: %s", error)
                await asyncio.sleep(0.1)
                continue
            tasks.start(self._relay(connection, peer[0]), name="relayed connection")

    async def _relay(self, client: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        with client:
            client.setblocking(False)
            for _ in range(self.tries()):
                endpoint = self.choose(address)
                if endpoint is None:
                    return
                server = _socket(endpoint, socket.SOCK_STREAM)
                try:
                    async with asyncio.timeout(connect_seconds):
                        await loop.sock_connect(server, endpoint[:2])
                except (OSError, TimeoutError) as error:
                    log.debug("relay to %s:%d: %s", endpoint.address, endpoint.port, error)
                    self._clients.pop(address, None)
                    server.close()
                    continue
                with server, contextlib.suppress(OSError):
                    async with scope() as both:
                        await asyncio.wait({both.start(_pump(client, server)), both.start(_pump(server, client))})
                return


async def _pump(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end of one direction, and pass the end on."""
    loop = asyncio.get_running_loop()
    try:
        while piece := await loop.sock_recv(source, piece_bytes):
            await loop.sock_sendall(target, piece)
    except ConnectionError as error:
        log.debug("relay: %s", error)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _UdpRelay(_Relay):
    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener)
        self._flows: dict[Any, tuple[socket.socket, Endpoint, asyncio.Task[None]]] = {}

    def use(self, endpoints: tuple[Endpoint, ...], affinity_seconds: int) -> None:
        super().use(endpoints, affinity_seconds)
        for _, endpoint, task in list(self._flows.values()):
            if endpoint not in endpoints:
                task.cancel()
        self._flows = {peer: flow for peer, flow in self._flows.items() if flow[1] in endpoints}

    def shut(self) -> None:
        for _, _, task in self._flows.values():
            task.cancel()
        super().shut()

    async def run(self, tasks: Scope) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, peer = await loop.sock_recvfrom(self.listener, piece_bytes)
            except OSError as error:
                if self.listener.fileno() < 0:
                    return
                log.debug("relay: %s", error)
                continue
            flow = self._flows.get(peer)
            if flow is None:
                endpoint = self.choose(peer[0])
                if endpoint is None or len(self._flows) >= udp_clients_max:
                    continue
                server = _socket(endpoint, socket.SOCK_DGRAM)
                server.connect(endpoint[:2])
                task = tasks.start(self._answers(server, peer), name="relayed flow")
                flow = self._flows[peer] = (server, endpoint, task)
            with contextlib.suppress(OSError):
                flow[0].send(data)

    async def _answers(self, server: socket.socket, peer: Any) -> None:
        loop = asyncio.get_running_loop()
        with server, contextlib.suppress(OSError, TimeoutError):
            while True:
                async with asyncio.timeout(udp_idle_seconds):
                    data = await loop.sock_recv(server, piece_bytes)
                self.listener.sendto(data, peer)
        if (flow := self._flows.get(peer)) is not None and flow[0] is server:
            del self._flows[peer]


def _socket(endpoint: Endpoint, kind: int) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
