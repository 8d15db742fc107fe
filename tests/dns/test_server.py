"""The server over real sockets: the DNS specification's examples, and what resolvers do to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peavine.base.clock import SimulatedClock
from peavine.base.lifetimes import scope
from peavine.dns import forward, metrics
from peavine.dns.forward import Forwarder, Resolver
from peavine.dns.server import Server
from peavine.dns.zone import Prepared, Zone, prepared, view_service, view_slice
from peavine.wire import dns
from tests.dns.asking import ask, ask_tcp, read, send

DOMAIN = "cluster.local"


def service(name: str, spec: dict[str, Any]) -> tuple[tuple[str, str], Any]:
    return ("default", name), view_service({"metadata": {"name": name, "namespace": "default"}, "spec": spec})


def piece(
    service_name: str, endpoints: list[dict[str, Any]], *, family: str = "IPv4", port: int = 8080
) -> tuple[Any, Any]:
    name = f"{service_name}-{family}"
    view = view_slice(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "labels": {
                    "kubernetes.io/service-name": service_name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    "service.kubernetes.io/headless": "",
                },
            },
            "addressType": family,
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }
    )
    return ("default", name), view


def cluster() -> Zone:
    zone = Zone(DOMAIN, dns_addresses=["192.168.0.2"])
    zone.set_namespace("default", True)
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]
    zone.set_service(*service("web", {"clusterIPs": ["192.168.0.10", "fd08::10"], "ports": ports}))
    zone.set_service(*service("db", {"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}))
    zone.set_slice(
        *piece(
            "db",
            [
                {"addresses": ["172.7.1.2"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["172.7.1.3"], "conditions": {"ready": True}},
                {"addresses": ["172.7.1.4"], "conditions": {"ready": False}},
            ],
        )
    )
    zone.set_service(*service("out", {"type": "ExternalName", "externalName": "www.example.com"}))
    zone.set_service(*service("alias", {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}))
    return zone


def running(zone: Zone, work: Callable[[int, Server], Awaitable[None]], forwarder: Forwarder | None = None) -> None:
    async def main() -> None:
        server = Server(zone, forwarder or Forwarder([]))
        port = server.start("127.0.0.1", 0)
        server.ready = True
        async with scope() as tasks:
            tasks.start(server.run())
            await asyncio.sleep(0)
            await work(port, server)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("web.default.svc.cluster.local", dns.A, ["192.168.0.10"]),
        ("WEB.Default.svc.cluster.LOCAL", dns.A, ["192.168.0.10"]),
        ("web.default.svc.cluster.local", dns.AAAA, ["fd08::10"]),
        ("_http._tcp.web.default.svc.cluster.local", dns.SRV, ["100 80 web.default.svc.cluster.local."]),
        ("_dns._udp.web.default.svc.cluster.local", dns.SRV, ["100 53 web.default.svc.cluster.local."]),
        ("10.0.168.192.in-addr.arpa", dns.PTR, ["web.default.svc.cluster.local."]),
        ("db-0.db.default.svc.cluster.local", dns.A, ["172.7.1.2"]),
        ("172-7-1-3.db.default.svc.cluster.local", dns.A, ["172.7.1.3"]),
        ("2.1.7.172.in-addr.arpa", dns.PTR, ["db-0.db.default.svc.cluster.local."]),
        ("out.default.svc.cluster.local", dns.CNAME, ["www.example.com."]),
        ("alias.default.svc.cluster.local", dns.A, ["web.default.svc.cluster.local.", "192.168.0.10"]),
        ("172-7-1-9.default.pod.cluster.local", dns.A, ["172.7.1.9"]),
        ("fd07--9.default.pod.cluster.local", dns.AAAA, ["fd07::9"]),
        ("dns-version.cluster.local", dns.TXT, ["1.1.0"]),
        ("ns.dns.cluster.local", dns.A, ["192.168.0.2"]),
        ("cluster.local", dns.NS, ["ns.dns.cluster.local."]),
    ],
)
def test_the_names_of_the_specification_are_answered(name: str, kind: int, values: list[str]) -> None:
    async def work(port: int, _: Server) -> None:
        for edns in (False, True):
            got = await ask(port, name, kind, edns=edns)
            assert (got.rcode, got.values) == (dns.NOERROR, values)
            assert (got.records[-1].type == dns.OPT) == edns
        assert (await ask_tcp(port, name, kind)).values == values

    running(cluster(), work)


def test_a_headless_service_answers_with_its_ready_endpoints_in_turn() -> None:
    async def work(port: int, _: Server) -> None:
        orders = {tuple((await ask(port, "db.default.svc.cluster.local")).values) for _ in range(4)}
        assert orders == {("172.7.1.2", "172.7.1.3"), ("172.7.1.3", "172.7.1.2")}
        got = await ask(port, "_http._tcp.db.default.svc.cluster.local", dns.SRV)
        assert sorted(got.values) == [
            "50 8080 172-7-1-3.db.default.svc.cluster.local.",
            "50 8080 db-0.db.default.svc.cluster.local.",
        ]
        assert sorted(got.additional) == ["172.7.1.2", "172.7.1.3"]

    running(cluster(), work)


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nothing.default.svc.cluster.local", dns.A, dns.NXDOMAIN),
        ("web.elsewhere.svc.cluster.local", dns.A, dns.NXDOMAIN),
        ("no-address.default.pod.cluster.local", dns.A, dns.NXDOMAIN),
        ("172-7-1-9.elsewhere.pod.cluster.local", dns.A, dns.NXDOMAIN),
        ("www.example.com.default.svc.cluster.local", dns.A, dns.NXDOMAIN),
        ("db.default.svc.cluster.local", dns.AAAA, dns.NOERROR),
        ("web.default.svc.cluster.local", 65, dns.NOERROR),
        ("_tcp.web.default.svc.cluster.local", dns.A, dns.NOERROR),
        ("default.svc.cluster.local", dns.A, dns.NOERROR),
        ("svc.cluster.local", dns.A, dns.NOERROR),
        ("172-7-1-9.default.pod.cluster.local", dns.AAAA, dns.NOERROR),
    ],
)
def test_what_is_not_there_is_denied_with_the_soa(name: str, kind: int, rcode: int) -> None:
    async def work(port: int, _: Server) -> None:
        for _ in range(2):  # The second time comes from memory.
            got = await ask(port, name, kind)
            assert (got.rcode, got.values, got.authority) == (rcode, [], [dns.SOA])

    running(cluster(), work)


def test_a_change_is_in_the_next_answer() -> None:
    zone = cluster()

    async def work(port: int, server: Server) -> None:
        assert (await ask(port, "new.default.svc.cluster.local")).rcode == dns.NXDOMAIN
        zone.set_service(*service("new", {"clusterIP": "192.168.0.77", "ports": []}))
        server.changed()
        assert (await ask(port, "new.default.svc.cluster.local")).values == ["192.168.0.77"]
        zone.set_service(("default", "new"), None)
        server.changed()
        assert (await ask(port, "new.default.svc.cluster.local")).rcode == dns.NXDOMAIN
        assert (await ask(port, "77.0.168.192.in-addr.arpa", dns.PTR)).values == []
        zone.set_slice(*piece("db", [{"addresses": ["172.7.1.8"], "conditions": {}}]))
        server.changed()
        assert (await ask(port, "db.default.svc.cluster.local")).values == ["172.7.1.8"]
        assert (await ask(port, "db-0.db.default.svc.cluster.local")).rcode == dns.NXDOMAIN

    running(zone, work)


def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp() -> None:
    zone = cluster()
    many = [{"addresses": [f"172.7.{i}.1"], "conditions": {"ready": True}} for i in range(100)]
    zone.set_slice(*piece("db", many))

    async def work(port: int, _: Server) -> None:
        for edns in (False, True):
            got = await ask(port, "db.default.svc.cluster.local", edns=edns)
            assert got.truncated and not got.values
        assert len((await ask_tcp(port, "db.default.svc.cluster.local")).values) == 100

    running(zone, work)


def test_odd_queries_get_the_right_errors_and_answers_get_none() -> None:
    async def work(port: int, _: Server) -> None:
        plain = dns.query(1, dns.name("web.default.svc.cluster.local"), dns.A, edns=False)
        assert read(await send(port, plain[:2] + b"\x29" + plain[3:])).rcode == dns.NOTIMP
        assert read(await send(port, plain[:-1] + b"\x03")).rcode == dns.REFUSED
        assert read(await send(port, plain[:-4] + b"\0\xfc\0\1")).rcode == dns.REFUSED
        assert (await send(port, plain[:20]))[3] & 15 == dns.FORMERR
        version_1 = plain[:11] + b"\1" + plain[12:] + b"\0\0\x29\4\xd0\0\1\0\0\0\0"
        got = read(await send(port, version_1))
        assert got.records[-1].ttl >> 24 == 1 and got.rcode == 0
        with pytest.raises(TimeoutError):
            await send(port, plain[:2] + b"\x81" + plain[3:], seconds=0.1)

    running(cluster(), work)


class _Example(Zone):
    """Knows one name, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("example.com")
        self.asked: list[bytes] = []

    def lookup(self, name: bytes, kind: int) -> Prepared:
        self.asked.append(name)
        if name == dns.name("www.example.com") and kind == dns.A:
            return prepared((1, 0, 0), dns.record(dns.QUESTION_NAME, dns.A, 20, b"\x5d\xb8\xd8\x22"))
        return super().lookup(name, kind)


def test_other_names_are_forwarded_once_and_then_come_from_the_cache_with_a_falling_ttl() -> None:
    example = _Example()
    upstream = Server(example, Forwarder([]))
    upstream.ready = True
    clock = SimulatedClock()

    async def main() -> None:
        port = upstream.start("127.0.0.1", 0)
        forwarder = Forwarder([Resolver("127.0.0.1", port)], clock=clock)
        server = Server(cluster(), forwarder)
        own = server.start("127.0.0.1", 0)
        server.ready = True
        async with scope() as tasks:
            tasks.start(upstream.run())
            tasks.start(server.run())
            first = await asyncio.gather(*(ask(own, "www.example.com") for _ in range(5)))
            assert all(got.values == ["93.184.216.34"] for got in first)
            assert len(example.asked) == 1
            await clock.advance(15)
            got = await ask(own, "WWW.example.com", edns=True)
            assert got.values == ["93.184.216.34"] and got.records[0].ttl == 5
            assert len(example.asked) == 1
            await clock.advance(6)
            await ask(own, "www.example.com")
            assert len(example.asked) == 2
            # Names that do not exist are remembered too.
            for _ in range(2):
                assert (await ask(own, "no.example.com")).rcode == dns.NXDOMAIN
            assert len(example.asked) == 3
            got = await ask(own, "out.default.svc.cluster.local")
            assert got.values == ["www.example.com.", "93.184.216.34"]
            assert b"coredns_cache_hits_total" in metrics.exposition(server)

    asyncio.run(main())


def test_a_stub_domain_goes_to_its_own_resolver() -> None:
    forwarder = Forwarder([Resolver("10.0.0.1")], {dns.name("corp.example"): [Resolver("10.0.0.2")]})
    assert forwarder.resolvers_for(dns.name("a.b.corp.example"))[0].address == "10.0.0.2"
    assert forwarder.resolvers_for(dns.name("corp.example"))[0].address == "10.0.0.2"
    assert forwarder.resolvers_for(dns.name("xcorp.example"))[0].address == "10.0.0.1"


def test_a_resolver_that_does_not_answer_is_asked_last_for_a_while_also_that_of_a_stub_domain() -> None:
    example = _Example()
    upstream = Server(example, Forwarder([]))
    upstream.ready = True
    clock = SimulatedClock()

    async def main() -> None:
        port = upstream.start("127.0.0.1", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            closed = nobody.getsockname()[1]
        dead, alive = Resolver("127.0.0.1", closed), Resolver("127.0.0.1", port)
        server = Server(cluster(), Forwarder([], {dns.name("example.com"): [dead, alive]}, clock))
        own = server.start("127.0.0.1", 0)
        server.ready = True
        async with scope() as tasks:
            tasks.start(upstream.run())
            tasks.start(server.run())
            assert (await ask(own, "www.example.com")).values == ["93.184.216.34"]
            assert (await ask(own, "other.example.com")).rcode == dns.NXDOMAIN
            assert (dead.asked, dead.failed, alive.asked) == (1, 1, 2)
            await clock.advance(6)
            assert (await ask(own, "third.example.com")).rcode == dns.NXDOMAIN
            assert dead.asked == 2
            assert (await ask(own, "www.example.org")).rcode == dns.SERVFAIL

    asyncio.run(main())


def test_without_a_resolver_the_answer_is_servfail() -> None:
    async def work(port: int, _: Server) -> None:
        assert (await ask(port, "www.example.org")).rcode == dns.SERVFAIL

    running(cluster(), work)


def test_a_resolver_that_asks_us_back_is_dropped() -> None:
    async def main() -> None:
        server = Server(cluster(), Forwarder([]))
        port = server.start("127.0.0.1", 0)
        server.ready = True
        server.forwarder.resolvers.append(Resolver("127.0.0.1", port))
        server.forwarder.stubs[dns.name("corp.example")] = [Resolver("127.0.0.1", port)]
        async with scope() as tasks:
            tasks.start(server.run())
            dropped = await forward.remove_loops(server.forwarder, server.was_asked)
        assert [r.port for r in dropped] == [port, port] and server.forwarder.resolvers == []
        assert list(server.forwarder.stubs.values()) == [[]]

    asyncio.run(main())


def test_before_the_objects_are_known_the_zone_is_not_denied() -> None:
    async def work(port: int, server: Server) -> None:
        server.ready = False
        assert (await ask(port, "web.default.svc.cluster.local")).rcode == dns.SERVFAIL

    running(cluster(), work)


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=20), st.integers(0, 5))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_packet_stops_the_server(packets: list[bytes], mode: int) -> None:
    good = dns.query(5, dns.name("web.default.svc.cluster.local"), dns.A, edns=mode % 2 == 0)

    async def work(port: int, _: Server) -> None:
        for packet in packets:
            if mode == 1:
                packet = good[:12] + packet
            elif mode == 2:
                packet = good + packet
            elif mode == 3:
                packet = packet[:2] + good[2:] + packet
            try:
                await send(port, packet or b"\0", seconds=0.002)
            except (TimeoutError, ConnectionError):
                pass
        assert (await ask(port, "web.default.svc.cluster.local")).values == ["192.168.0.10"]

    running(cluster(), work)
