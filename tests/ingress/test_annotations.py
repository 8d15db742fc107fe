"""Each annotation and flag of the data plane, through a real HAProxy."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from peavine.ingress import haproxy
from peavine.ingress.annotations import READERS, AnnotationError, options_of
from tests.ingress.cluster import Cluster, cluster
from tests.ingress.test_ingress import certificate, with_cluster

needs_haproxy = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy.program() is None, reason="haproxy is not installed"),
]


class Recorder:
    """A server that keeps the first bytes that it gets, and says no more."""

    def __init__(self) -> None:
        self.seen = asyncio.Queue[tuple[bytes, str]]()
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, pem: Path | None = None) -> Recorder:
        context = None
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            context.set_alpn_protocols(["h2", "http/1.1"])
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self.seen.put_nowait((await reader.read(40), (tls.selected_alpn_protocol() or "none") if tls else ""))
        writer.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


async def recorded(c: Cluster, name: str, recorder: Recorder, **annotations: str) -> None:
    await c.service(name)
    c.informers.put(
        "endpointslices",
        {
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": recorder.port}],
        },
    )
    c.ingress(name, (f"{name}.example", "/", "Prefix", name), annotations=annotations)


def filled() -> list[socket.socket]:
    """A listening socket, first, that takes no more connections, and those that it has."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    found = [listening]
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listening.getsockname())
        found.append(one)
    return found


class TestThroughHAProxy:
    pytestmark = needs_haproxy

    def test_protocols_to_the_pods(self, tmp_path: Path) -> None:
        """backend-protocol, proxy-protocol"""

        @with_cluster
        async def run(c: Cluster) -> None:
            certificate(tmp_path / "c")
            pem = tmp_path / "c" / "default.pem"
            wanted: dict[str, tuple[Path | None, dict[str, str], bytes, str]] = {
                "plain": (None, {}, b"GET / HTTP/1.1", ""),
                "h2c": (None, {"backend_protocol": "h2c"}, b"PRI * HTTP/2.0", ""),
                "grpc": (None, {"backend_protocol": "grpc"}, b"PRI * HTTP/2.0", ""),
                "https": (pem, {"backend_protocol": "https"}, b"GET / HTTP/1.1", "none"),
                "grpcs": (pem, {"backend_protocol": "grpcs"}, b"PRI * HTTP/2.0", "h2"),
                "proxied": (None, {"proxy_protocol": "true"}, b"\r\n\r\n\0\r\nQUIT\n\x21\x11", ""),
            }
            recorders = {name: await Recorder().start(cert) for name, (cert, *_) in wanted.items()}
            for name, (_, asked, _, _) in wanted.items():
                await recorded(c, name, recorders[name], **asked)
            await c.settled()
            for name, (_, _, first, alpn) in wanted.items():
                _, writer = await asyncio.open_connection("127.0.0.1", c.http)
                writer.write(f"GET / HTTP/1.1\r\nHost: {name}.example\r\n\r\n".encode())
                async with asyncio.timeout(30):
                    said, chosen = await recorders[name].seen.get()
                assert said.startswith(first) and chosen == alpn, (name, said, chosen)
                writer.close()
                recorders[name].close()

        (tmp_path / "run").mkdir()
        run(tmp_path / "run")

    def test_times_cookies_realms_and_ways_to_choose(self, tmp_path: Path) -> None:
        """timeout-*, session-cookie-name, auth-realm, load-balance, ssl-redirect, cors-*"""

        @with_cluster
        async def run(c: Cluster) -> None:
            def make(name: str, service: str = "web", **annotations: str) -> None:
                c.ingress(name, (f"{name}.example", "/", "Prefix", service), annotations=annotations)

            await c.service("web", "w1", "w2", "w3")
            await c.service("slow", "slow")
            await c.service("far")
            c.backends["slow"].delay = 30.0
            full = filled()
            c.informers.put(
                "endpointslices",
                {
                    "metadata": {"name": "far-1", "labels": {"kubernetes.io/service-name": "far"}},
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
                    "ports": [{"name": "http", "port": full[0].getsockname()[1]}],
                },
            )
            c.secret("users", auth="ann:$6$abc$x\n")
            make("server", "slow", timeout_server="200ms")
            make("connect", "far", timeout_connect="50ms")
            make("tunnel", timeout_tunnel="200ms")
            make("sticky", affinity="cookie", session_cookie_name="MINE")
            make("realm", auth_secret="users", auth_realm="Staff only")
            make("source", load_balance="source")
            make("round", load_balance="roundrobin")
            for name in ("leastconn", "random"):
                make(name, load_balance=name)
            make("secure", ssl_redirect="true")
            lists = {"cors_allow_methods": "GET", "cors_allow_headers": "X-A", "cors_max_age": "7"}
            make("cors", cors_allow_origin="https://a.example", cors_allow_credentials="false", **lists)
            await c.settled()
            assert c.events == []
            assert await c.who("server.example") == "504" and await c.who("connect.example") == "503"
            reader, writer = await asyncio.open_connection("127.0.0.1", c.http)
            key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            words = b"GET / HTTP/1.1\r\nHost: tunnel.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            writer.write(words + key + b"\r\n")
            async with asyncio.timeout(30):
                assert b"101" in await reader.readuntil(b"\r\n\r\n")
                assert await reader.read() == b""
            writer.close()
            assert (await c.get("sticky.example"))[1]["set-cookie"].startswith("MINE=s")
            assert (await c.get("realm.example"))[1]["www-authenticate"] == 'Basic realm="Staff only"'
            assert len({await c.who("source.example") for _ in range(6)}) == 1
            assert {await c.who("round.example") for _ in range(6)} == {"w1", "w2", "w3"}
            for name in ("leastconn", "random"):
                assert await c.who(f"{name}.example") in {"w1", "w2", "w3"}
            assert (await c.get("secure.example"))[0] == 308
            _, headers, _ = await c.get("cors.example", method="OPTIONS", Origin="https://a.example")
            shown = {k.removeprefix("access-control-"): v for k, v in headers.items() if k.startswith("access-")}
            answer = {
                "allow-origin": "https://a.example",
                "allow-methods": "GET",
                "allow-headers": "X-A",
                "max-age": "7",
            }
            assert shown == answer
            for one in full:
                one.close()

        run(tmp_path)

    def test_addresses_of_clients_behind_a_balancer(self, tmp_path: Path) -> None:
        """--accept-proxy, --trust-forwarded-headers"""

        async def main() -> None:
            async with cluster(tmp_path) as c:
                own = dataclasses.replace(c.settings, accept_proxy=True, trust_forwarded=True)
                c.controller._settings = own
                await c.service("web", "w")
                c.ingress("web", ("x.example", "/", "Prefix", "web"))
                await c.settled()
                reader, writer = await asyncio.open_connection("127.0.0.1", c.http)
                writer.write(b"PROXY TCP4 9.8.7.6 127.0.0.1 4711 80\r\n")
                writer.write(
                    b"GET / HTTP/1.1\r\nHost: x.example\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n"
                )
                async with asyncio.timeout(30):
                    body = (await reader.read()).decode()
                writer.close()
                assert "x-real-ip=9.8.7.6" in body
                head = c.backends["w"].head.lower()
                assert "x-forwarded-for: 1.2.3.4\r\n" in head and "x-forwarded-for: 9.8.7.6\r\n" in head

        asyncio.run(main())


def test_paths_that_could_lead_elsewhere_are_refused() -> None:
    from peavine.ingress.ingresses import read_ingresses
    from peavine.ingress.settings import Settings

    service: Any = {"spec": {"ports": [{"port": 80}]}}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [
        {"path": p, "pathType": "Prefix", "backend": backend} for p in ("/ other_backend", "/a\nb c", "x", "/ü", "/ok")
    ]
    spec = {"rules": [{"host": "x.example", "http": {"paths": paths}}]}
    ingress: Any = {"metadata": {"name": "i", "namespace": "n"}, "spec": spec}
    routing = read_ingresses([ingress], {("n", "web"): service}, {}, Settings("/nowhere"))
    routes = next(iter(routing.frontends.values())).routes
    assert routes is not None and list(routes.prefix) == [("x.example", "/ok")] and not routes.exact
    assert [p.reason for p in routing.problems] == ["InvalidPath"] * 4


@pytest.mark.parametrize("name", READERS)
def test_every_annotation_refuses_nonsense(name: str) -> None:
    bad = {"cors-allow-origin": "a\nb", "cors-allow-methods": 'a"b', "cors-allow-headers": "%[src]", "auth-realm": "ü"}
    with pytest.raises(AnnotationError, match=name):
        options_of({f"ingress.peavine.dev/{name}": bad.get(name, "no such\nthing")})
