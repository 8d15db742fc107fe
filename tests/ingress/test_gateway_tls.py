"""TLS and gRPC through Gateways: HTTPS listeners, TLSRoutes, GRPCRoutes, with a real HAProxy."""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from peavine.ingress import haproxy
from tests.ingress.cluster import Cluster, free_port
from tests.ingress.gateways import gateway, grant, header, listener, path, route, rule
from tests.ingress.test_gateway_routes import put, services, with_gateway
from tests.ingress.test_ingress import certificate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy.program() is None, reason="haproxy is not installed"),
]


def trusting(cert: Path | None = None) -> ssl.SSLContext:
    """Asks nobody who they are; shows `cert`."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert is not None:
        context.load_cert_chain(cert)
    return context


async def shown(port: int, name: str) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname=name)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(der).strip()


def secure(name: str, port: int, host: str = "", *secrets: Any, **more: Any) -> Any:
    references = [{"name": s} if isinstance(s, str) else s for s in secrets]
    return listener(name, port, "HTTPS", host, tls={"certificateRefs": references}, **more)


@with_gateway
async def test_https_listeners_show_their_certificates(c: Cluster, port: int) -> None:
    """HTTPRouteHTTPSListener, GatewayModifyListeners, GatewaySecretReferenceGrantSpecific."""
    folder = Path(c.settings.run_dir)
    pems = [certificate(folder / f"c{n}") for n in range(3)]
    await services(c, "v1", "v2")
    c.secret("one", tls_crt=pems[0][0], tls_key=pems[0][1])
    c.secret("far", namespace="certs", tls_crt=pems[1][0], tls_key=pems[1][1])
    far = {"name": "far", "namespace": "certs"}
    c.informers.put(
        "gateways",
        gateway("gw", secure("one", port, "one.example.org", "one"), secure("two", port, "two.example.org", far),
                listener("plain", free_port())),
    )  # fmt: skip
    put(
        c,
        route("one", rule("v1"), hosts=("one.example.org",)),
        route("two", rule("v2"), parents=({"name": "gw", "sectionName": "two"},)),
    )
    await c.settled()

    async def who(host: str) -> str:
        return await c.who(host, port=port, ssl=trusting())

    assert await who("one.example.org") == "v1" and await shown(port, "one.example.org") == pems[0][0].strip()
    # Not permitted: the listener is not served.
    assert await who("two.example.org") == "404"
    c.informers.put("referencegrants", grant("Gateway", "default", "certs", "Secret", "far"))
    await c.settled()
    assert await who("two.example.org") == "v2" and await shown(port, "two.example.org") == pems[1][0].strip()
    assert await who("three.example.org") == "404"
    reloads = c.controller.counts.reloads
    c.secret("one", tls_crt=pems[2][0], tls_key=pems[2][1])
    await c.settled()
    assert await shown(port, "one.example.org") == pems[2][0].strip() and c.controller.counts.reloads == reloads
    c.informers.delete("gateways", "gw")
    await c.settled()
    with pytest.raises(OSError):
        await who("one.example.org")


@with_gateway
async def test_clients_show_certificates_where_the_gateway_asks(c: Cluster, port: int) -> None:
    """GatewayFrontendClientCertificateValidation, with the insecure fallback."""
    folder = Path(c.settings.run_dir)
    other = free_port()
    pem, (known, _) = certificate(folder / "server"), certificate(folder / "client")
    certificate(folder / "stranger")
    await services(c, "v1")
    c.secret("one", tls_crt=pem[0], tls_key=pem[1])
    c.informers.put("configmaps", {"metadata": {"name": "ca"}, "data": {"ca.crt": known}})
    asked = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    lenient = {"port": other, "tls": {"validation": {**asked, "mode": "AllowInsecureFallback"}}}
    front = {"frontend": {"default": {"validation": asked}, "perPort": [lenient]}}
    c.informers.put("gateways", gateway("gw", secure("s", port, "", "one"), secure("l", other, "", "one"), tls=front))
    put(c, route("r", rule("v1")))
    await c.settled()

    async def who(name: str, at: int) -> str:
        try:
            shown = folder / name / "default.pem" if name else None
            return await c.who("x.example", port=at, ssl=trusting(shown))
        except (OSError, IndexError, ValueError):  # An alert, or the end of the connection.
            return "refused"

    assert [await who(name, port) for name in ("client", "stranger", "")] == ["v1", "refused", "refused"]
    assert [await who(name, other) for name in ("client", "stranger", "")] == ["v1", "v1", "v1"]


async def tls_server(name: str, pem: Path) -> tuple[asyncio.Server, int]:
    """Answers every connection with its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


def endpoint(c: Cluster, service: str, port: int) -> None:
    c.informers.put(
        "endpointslices",
        {
            "metadata": {"name": f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": port}],
        },
    )


@with_gateway
async def test_tls_passes_or_ends_by_the_name_in_the_handshake(c: Cluster, port: int) -> None:
    """TLSRouteSimpleSameNamespace, TLSRouteHostnameIntersection, TLSRouteTerminateSimpleSameNamespace,
    GatewayHTTPSAndTLSPassthroughSamePort.
    """
    folder = Path(c.settings.run_dir)
    pem = certificate(folder / "web")
    servers = []
    for name in ("exact", "wild"):
        certificate(folder / name)
        server, at = await tls_server(name, folder / name / "default.pem")
        servers.append(server)
        await c.service(name)
        endpoint(c, name, at)
    await services(c, "v1", "v2")
    c.secret("web", tls_crt=pem[0], tls_key=pem[1])
    passes, ends = {"mode": "Passthrough"}, {"mode": "Terminate", "certificateRefs": [{"name": "web"}]}
    c.informers.put(
        "gateways",
        gateway("gw", listener("pass", port, "TLS", "*.pass.example", tls=passes),
                listener("end", port, "TLS", "end.example", tls=ends), secure("web", port, "web.example", "web")),
    )  # fmt: skip
    put(
        c,
        route("exact", rule("exact"), hosts=("a.pass.example", "a.other.example")),
        route("wild", rule("wild"), hosts=("*.pass.example",)),
        route("gone", rule("nothing"), hosts=("gone.pass.example",)),
        route("end", rule("v2"), hosts=("end.example",)),
        kind="tlsroutes",
    )
    put(c, route("web", rule("v1")))
    await c.settled()

    async def said(name: str) -> tuple[str, str]:
        """(what is said, the certificate)"""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname=name)
        der = writer.get_extra_info("ssl_object").getpeercert(True)
        async with asyncio.timeout(20):
            words = await reader.read()
        writer.close()
        return words.decode(), ssl.DER_cert_to_PEM_cert(der).strip()

    try:
        for name, who in (("a.pass.example", "exact"), ("b.pass.example", "wild"), ("b.c.pass.example", "wild")):
            cert = (folder / who / "default.pem").read_text().partition("-----BEGIN PRIVATE")[0].strip()
            assert await said(name) == (who, cert), name
        with pytest.raises(OSError):
            await said("gone.pass.example")
        # TLS ends here, what is in it goes to a backend that speaks HTTP.
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname="end.example")
        writer.write(b"GET /x HTTP/1.1\r\nHost: anything\r\n\r\n")
        async with asyncio.timeout(20):
            assert b" 200 OK" in await reader.readline()
            assert b"v2 /x" in await reader.readuntil(b"v2 /x")
        writer.close()
        assert await c.who("web.example", port=port, ssl=trusting()) == "v1"
        assert await shown(port, "web.example") == pem[0].strip()
        # A host that the listener does not share with the route is nobody's here.
        default = (folder / "certs" / "default.pem").read_text().partition("-----BEGIN PRIVATE")[0].strip()
        assert await shown(port, "a.other.example") == default
        # Clients' addresses survive the way through.
        assert "x-forwarded-for=127.0.0.1 " in (await c.get("web.example", port=port, ssl=trusting()))[2]
    finally:
        for server in servers:
            server.close()


GRPC = """
import sys
from concurrent import futures
import grpc

class Echo(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: self.name)

if sys.argv[1] == "serve":
    servers = []
    for name in sys.argv[2:]:
        servers.append(grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo(name.encode())]))
        print(servers[-1].add_insecure_port("127.0.0.1:0"), flush=True)
        servers[-1].start()
    sys.stdin.read()
else:
    for line in sys.stdin:
        port, host, method, *headers = line.split()
        channel = grpc.insecure_channel("127.0.0.1:" + port, options=[("grpc.default_authority", host)])
        metadata = [tuple(h.split("=")) for h in headers]
        try:
            print(channel.unary_unary(method)(b"", timeout=20, metadata=metadata).decode(), flush=True)
        except grpc.RpcError as error:
            print(error.code().name, flush=True)
        channel.close()
"""


@with_gateway
async def test_grpc_routes_match_services_methods_and_headers(c: Cluster, port: int) -> None:
    """GRPCExactMethodMatching, GRPCRouteHeaderMatching, GRPCRouteListenerHostnameMatching."""
    pytest.importorskip("grpc")
    pipe = asyncio.subprocess.PIPE
    names = ("v1", "v2", "v3")
    # Processes of their own: gRPC's threads have no place in this one.
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", GRPC, "serve", *names, stdin=pipe, stdout=pipe)
    client = await asyncio.create_subprocess_exec(sys.executable, "-c", GRPC, "ask", stdin=pipe, stdout=pipe)
    try:
        assert server.stdout and client.stdin and client.stdout
        for name in names:
            async with asyncio.timeout(60):
                at = int(await server.stdout.readline())
            await c.service(name)
            endpoint(c, name, at)
        method = {"service": "test.Echo", "method": "Say"}
        put(
            c,
            route("one", rule("v1", matches=[{"method": method}]),
                  rule("v2", matches=[{"method": {"service": "test.Echo"}}]),
                  rule("v3", matches=[{"method": method, "headers": [header("version", "three")]},
                                      {"method": {"method": "Ping"}}]),
                  rule("nothing", matches=[{"method": {"service": "test.Gone"}}]), hosts=("rpc.example",)),
            route("all", rule("v2"), hosts=("all.example",)),
            kind="grpcroutes",
        )  # fmt: skip
        # An older route of another kind has this host.
        put(c, route("http", rule("v1", matches=[path("/test.Echo/Say")]), hosts=("all.example",)))
        await c.settled()

        async def ask(host: str, path: str, *headers: str) -> str:
            assert client.stdin and client.stdout
            client.stdin.write(" ".join((str(port), host, path, *headers)).encode() + b"\n")
            async with asyncio.timeout(60):
                return (await client.stdout.readline()).decode().strip()

        for path_, headers, wanted in (
            ("/test.Echo/Say", (), "v1"), ("/test.Echo/Other", (), "v2"), ("/x.Y/Ping", (), "v3"),
            ("/test.Echo/Ping", (), "v2"), ("/test.Echo/Say", ("version=three",), "v3"),
            ("/x.Y/Other", (), "UNIMPLEMENTED"), ("/test.Gone/Say", (), "UNAVAILABLE"),
        ):  # fmt: skip
            assert await ask("rpc.example", path_, *headers) == wanted, path_
        assert await ask("all.example", "/test.Echo/Say") == "v2"
        assert await ask("no.example", "/test.Echo/Say") == "UNIMPLEMENTED"
    finally:
        for process in (server, client):
            process.kill()
            await process.wait()
