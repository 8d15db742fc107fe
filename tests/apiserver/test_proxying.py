"""Requests passed on: to pods and services by name, to kubelets with the server's own certificate."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest

from peavine.apiserver.http import Exchange, HttpServer, Response
from peavine.apiserver.http.tls import server_context
from peavine.apiserver.proxying.rewriting import Rewriting, packed, unpacked
from peavine.base.lifetimes import scope
from peavine.cmd.pki import ensure_pki
from tests.apiserver.inside import Client, request_bytes, serving
from tests.apiserver.test_objects import MERGE, PODS, pod

PLAIN = {"disable_admission_plugins": ("ServiceAccount",), "enable_aggregation": False}


@contextlib.asynccontextmanager
async def backend(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[Exchange]]]:
    """Says what it was asked; /moved redirects, /stream streams, /up echoes after an upgrade."""
    seen: list[Exchange] = []

    async def handler(exchange: Exchange) -> Response | None:
        seen.append(exchange)
        info = exchange.info
        if info.path.endswith("/moved"):
            return Response(302, b"", "", [("Location", "/elsewhere")])
        if info.path == "/page":
            page = b'<a href="/deep?a=b&amp;c">x</a> <A class=x HREF=/q> <a href="rel"> '
            page += b'<a href="https://other/z"> <p a="/b">'
            return Response(200, page, "text/html; charset=utf-8")
        if info.path == "/stream" or info.query.get("follow"):
            exchange.start_stream(200, [("Content-Type", "text/plain")])
            for line in (b"one\n", b"two\n"):
                exchange.write(line)
                await asyncio.sleep(0)
            exchange.end_stream()
            return None
        if exchange.upgrade:
            raw = exchange.take_over(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            while data := await raw.read():
                raw.write(data)
            return None
        body = await exchange.read_body(1 << 20)
        said = f"{info.method} {info.path}?{info.query_string} ".encode() + body
        return Response(200, said, "text/plain", [("X-Own", "kept")])

    async with scope() as tasks:
        server = HttpServer(handler, tls=tls)
        yield await server.listen("127.0.0.1", 0, tasks), seen
        server.stop_listening()
        await server.drain(0.1)


async def running(api: Client, name: str, port: int) -> None:
    body = pod(name, nodeName="n1")
    body["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": port}]
    assert (await api("POST", PODS, body)).status == 201
    status = {"status": {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
    assert (await api("PATCH", f"{PODS}/{name}/status", status, MERGE)).status == 200


def test_a_pod_is_reached_by_its_name_and_port(tmp_path):
    async def main():
        async with serving(tmp_path, **PLAIN) as api, backend() as (port, seen):
            await running(api, "p", port)
            for wanted in ("p", f"p:{port}", "p:web"):
                answer = await api("POST", f"{PODS}/{wanted}/proxy/a/b?c=d", b"body", {"X-Mine": "1"})
                assert answer.body == b"POST /a/b?c=d body" and answer.headers["x-own"] == "kept"
            headers = seen[-1].info.headers
            assert headers["x-mine"] == "1" and "authorization" not in headers and "x-forwarded-for" in headers
            moved = await api("GET", f"{PODS}/p/proxy/moved")
            assert moved.headers["location"] == f"{PODS}/p/proxy/elsewhere"
            page = await api("GET", f"{PODS}/p/proxy/page")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            prefix = f"{PODS}/p/proxy"
            assert page.body.decode() == (
                f'<a href="{prefix}/deep?a=b&amp;c">x</a> <A class=x HREF="{prefix}/q"> <a href="rel"> '
                '<a href="https://other/z"> <p a="/b">'
            )
            assert (await api("GET", f"{PODS}/p/proxy/stream")).body == b"one\ntwo\n"
            assert (await api("GET", f"{PODS}/p/proxy")).status == 301
            assert (await api("GET", f"{PODS}/none/proxy/")).status == 404
            assert (await api("GET", f"{PODS}/p:1/proxy/")).status == 503

    asyncio.run(main())


def test_a_pod_that_speaks_tls_is_reached_whoever_signed_its_certificate(tmp_path):
    async def main():
        pki = ensure_pki(tmp_path / "keys")
        tls = server_context(str(pki.cert("apiserver")), str(pki.key("apiserver")))
        async with serving(tmp_path, **PLAIN) as api, backend(tls) as (port, _):
            await running(api, "p", port)
            answer = await api("GET", f"{PODS}/https:p:{port}/proxy/x")
            assert (answer.status, answer.body) == (200, b"GET /x? "), answer.body
            moved = await api("GET", f"{PODS}/https:p:{port}/proxy/moved")
            assert moved.headers["location"] == f"{PODS}/https:p:{port}/proxy/elsewhere"

    asyncio.run(main())


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_links_to_the_root_of_a_page_are_led_through_the_proxy(encoding):
    rewriting = Rewriting("/proxy", frozenset(("10.0.0.1:80",)))
    page = b"<base href='/'>\n<!-- <a href='/no'> --><script src=/s.js>'<a href=\"/no\">'</script>"
    page += b"<a\n href='http://10.0.0.1:80/a'>"
    data = unpacked(packed(page, encoding), encoding)
    assert rewriting.page(data) == (
        b'<base href="/proxy/">\n<!-- <a href=\'/no\'> --><script src="/proxy/s.js">\'<a href="/no">\'</script>'
        b'<a\n href="/proxy/a">'
    )
    assert rewriting.url("/proxy/there") == "/proxy/there" and rewriting.url("//else/x") == "//else/x"


def test_a_service_is_reached_through_its_endpoints(tmp_path):
    async def main():
        async with serving(tmp_path, **PLAIN) as api, backend() as (port, _):
            services = "/api/v1/namespaces/default/services"
            made = {"metadata": {"name": "s"}, "spec": {"ports": [{"name": "web", "port": 80}], "clusterIP": "None"}}
            assert (await api("POST", services, made)).status == 201
            assert (await api("GET", f"{services}/s:web/proxy/x")).status == 503
            slice_ = {
                "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
                "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
            }
            # Loopback is no address for a slice of the API; the server itself may be told anything.
            writer = api.server.writer
            slice_["endpoints"][0]["addresses"] = ["10.0.0.1"]
            await writer.create("discovery.k8s.io", "v1", "endpointslices", "default", slice_)
            location = api.server.locations.service("default", "s:web")
            assert (location.host, location.port) == ("10.0.0.1", port)
            assert api.server.locations.service("default", "https:s:80").tls is not None

    asyncio.run(main())


async def log_by_websocket(api: Client) -> bytes:
    reader, writer = await api.open()
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    writer.write(request_bytes("GET", f"{PODS}/p/log?follow=1", None, handshake))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    said = b""
    while (head := await reader.readexactly(2))[0] == 0x82:
        said += await reader.readexactly(head[1])
    assert head[0] == 0x88
    writer.close()
    return said


def test_logs_and_execs_go_to_the_kubelet_under_the_servers_certificate(tmp_path):
    async def main():
        pki = ensure_pki(tmp_path / "keys")
        tls = server_context(str(pki.cert("apiserver")), str(pki.key("apiserver")), [str(pki.cert("ca"))])
        settings = {
            **PLAIN,
            "kubelet_certificate_authority": str(pki.cert("ca")),
            "kubelet_client_certificate": str(pki.cert("apiserver-kubelet-client")),
            "kubelet_client_key": str(pki.key("apiserver-kubelet-client")),
        }
        async with serving(tmp_path, **settings) as api, backend(tls) as (port, seen):
            await running(api, "p", 80)
            assert (await api("GET", f"{PODS}/p/log")).status == 404  # no such node
            node = {"metadata": {"name": "n1"}, "spec": {}}
            assert (await api("POST", "/api/v1/nodes", node)).status == 201
            status = {
                "status": {
                    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                    "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
                }
            }
            assert (await api("PATCH", "/api/v1/nodes/n1/status", status, MERGE)).status == 200
            log = await api("GET", f"{PODS}/p/log?tailLines=5&timestamps=true")
            assert log.body == b"GET /containerLogs/default/p/c?tailLines=5&timestamps=true "
            assert seen[-1].info.peer_certificate is not None
            assert (await api("GET", f"{PODS}/p/log?follow=1")).body == b"one\ntwo\n"
            assert await log_by_websocket(api) == b"one\ntwo\n"
            assert (await api("GET", f"{PODS}/p/log?tailLines=-1")).status == 422
            wrong = await api("GET", f"{PODS}/p/log?container=x")
            assert wrong.status == 400 and wrong.json["message"] == "container x is not valid for pod p"
            assert (await api("GET", "/api/v1/nodes/n1/proxy/healthz")).body == b"GET /healthz? "
            assert (await api("POST", f"{PODS}/p/exec?command=sh")).status == 400  # no upgrade

            reader, writer = await api.open()
            upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
            writer.write(request_bytes("POST", f"{PODS}/p/exec?command=ls&command=-l&stdout=1&tty=1", b"", upgrade))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            writer.write(b"anything")
            assert await reader.readexactly(8) == b"anything"
            writer.close()
            assert seen[-1].info.path == "/exec/default/p/c"
            assert seen[-1].info.query["command"] == ["ls", "-l"] and seen[-1].info.query["tty"] == ["1"]

    asyncio.run(main())


def test_cve_2022_3294_a_status_cannot_lead_into_the_servers_own_machine(tmp_path):
    async def main():
        async with serving(tmp_path, **PLAIN, advertise_address="192.0.2.10") as api, backend() as (port, seen):
            await running(api, "p", port)
            answer = await api("GET", f"{PODS}/p/proxy/")
            assert (answer.status, answer.json["message"]) == (400, "address not allowed")
            for address in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "127.0.0.1", "localhost"):
                node = {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "Hostname", "address": address}]}}
                await api.server.writer.create("", "v1", "nodes", None, node)
                await api.server.writer.patch(
                    "", "v1", "nodes", None, "n", lambda live, n=node: {**live, **n}, "status"
                )
                answer = await api("GET", "/api/v1/nodes/n:80/proxy/")
                assert (answer.status, answer.json["message"]) == (400, "address not allowed"), address
                await api("DELETE", "/api/v1/nodes/n")
            assert not seen

    asyncio.run(main())
