"""Ingress through a real HAProxy: what clients get, before, during and after changes."""

from __future__ import annotations

import asyncio
import functools
import ssl
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from peavine.ingress import haproxy
from peavine.ingress.certificates import ensure_default
from tests.ingress.cluster import Cluster, cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy.program() is None, reason="haproxy is not installed"),
]


def with_cluster(test: Callable[[Cluster], Awaitable[None]]) -> Callable[[Path], None]:
    @functools.wraps(test)
    def run(tmp_path: Path) -> None:
        async def main() -> None:
            async with cluster(tmp_path) as c:
                await test(c)

        asyncio.run(main())

    del run.__wrapped__  # type: ignore[attr-defined]
    return run


@with_cluster
async def test_hosts_and_paths_with_upstreams_precedence(c: Cluster) -> None:
    for name in ("a", "b", "d", "e", "w"):
        await c.service(name, name)
    c.ingress(
        "one",
        ("x.example", "/", "Prefix", "a"),
        ("x.example", "/foo", "Prefix", "b"),
        ("x.example", "/foo", "Exact", "d"),
        ("x.example", "/foo/bar/", "Prefix", "e"),
        ("*.example", "/", "Prefix", "w"),
    )
    await c.settled()
    for path, who in (
        ("/", "a"), ("/foo", "d"), ("/foo/", "b"), ("/foo/x", "b"), ("/foobar", "a"), ("/foo/bar", "e"),
        ("/foo/bar/x", "e"), ("/foo?q=1", "d"),
    ):  # fmt: skip
        assert await c.who("x.example", path) == who, path
    assert await c.who("X.Example:80") == "a"
    assert await c.who("y.example", "/foo") == "w"
    # A host is no path: routes are for what is in the path.
    assert await c.who("x.example/foo/bar", "/secret") == "400"
    # A wildcard stands for one label.
    assert await c.who("z.y.example") == "404" and await c.who("example") == "404"
    assert await c.who("other.org") == "404"
    assert c.informers.patched[0] == ("one", {"status": {"loadBalancer": {"ingress": [{"ip": "10.4.7.11"}]}}})


@with_cluster
async def test_rules_without_host_and_the_default_backend(c: Cluster) -> None:
    for name in ("a", "b", "d"):
        await c.service(name, name)
    c.ingress("any", ("", "/app", "Prefix", "a"))
    c.ingress("host", ("x.example", "/x", "Prefix", "b"))
    c.ingress("default", defaultBackend={"service": {"name": "d", "port": {"name": "http"}}})
    await c.settled()
    assert await c.who("anything", "/app/1") == "a"
    assert await c.who("anything", "/no") == "d"
    assert await c.who("x.example", "/x") == "b" and await c.who("x.example", "/") == "d"


@with_cluster
async def test_endpoints_come_and_go_without_a_reload(c: Cluster) -> None:
    await c.service("web", "w1", "w2")
    c.ingress("web", ("x.example", "/", "Prefix", "web"))
    await c.settled()
    reloads = c.controller.counts.reloads
    assert {await c.who("x.example") for _ in range(6)} == {"w1", "w2"}
    await c.endpoints("web", "w2", "w3")
    await c.settled()
    assert {await c.who("x.example") for _ in range(6)} == {"w2", "w3"}
    await c.endpoints("web")
    await c.settled()
    assert await c.who("x.example") == "503"
    await c.endpoints("web", "w1")
    await c.settled()
    assert await c.who("x.example") == "w1"
    assert c.controller.counts.reloads == reloads
    # More than there are spare servers for: one reload, with room for more.
    await c.endpoints("web", *(f"m{n}" for n in range(9)))
    await c.settled()
    assert len({await c.who("x.example") for _ in range(18)}) == 9
    assert c.controller.counts.reloads == reloads + 1


@with_cluster
async def test_bad_ingresses_hurt_nobody_else_and_get_events(c: Cluster) -> None:
    await c.service("web", "w")
    c.ingress("good", ("x.example", "/", "Prefix", "web"))
    c.ingress("gone", ("y.example", "/", "Prefix", "nothing"), ("y.example", "/ok", "Prefix", "web"))
    c.ingress("late", ("x.example", "/", "Prefix", "web"))
    c.ingress("odd", ("z.example", "/", "Prefix", "web"), annotations={"body_size": "huge"})
    # Only HAProxy knows how long is too long.
    c.ingress("refused", ("r.example", "/", "Prefix", "web"), annotations={"timeout_server": "9999999999h"})
    c.ingress("typo", ("z.example", "/", "Prefix", "web"), annotations={"bodysize": "1m"})
    c.ingress("tls", ("t.example", "/", "Prefix", "web"), tls=[{"hosts": ["t.example"], "secretName": "none"}])
    rule = {"path": "/", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b"}}}
    c.ingress("bucket", rules=[{"host": "b.example", "http": {"paths": [rule]}}])
    foreign = {"service": {"name": "web", "port": {"number": 80}}}
    c.ingress("foreign", ingressClassName="nginx", defaultBackend=foreign)
    await c.settled()
    assert await c.who("x.example") == "w" and await c.who("y.example", "/ok") == "w"
    assert await c.who("y.example") == "404" and await c.who("z.example") == "404"
    assert await c.who("r.example") == "404" and await c.who("t.example") == "w" and await c.who("b.example") == "404"
    assert sorted(set(c.events)) == [
        ("bucket", "ResourceBackend"),
        ("gone", "ServiceNotFound"),
        ("late", "Conflict"),
        ("odd", "InvalidAnnotation"),
        ("refused", "Refused"),
        ("tls", "SecretNotFound"),
        ("typo", "InvalidAnnotation"),
    ]
    await c.service("nothing", "n")
    await c.settled()
    assert await c.who("y.example") == "n"
    # What is refused is not tried again and again, nor told again.
    before = c.controller.counts.reloads, len(c.events)
    c.secret("other", key="x")
    await c.settled()
    assert (c.controller.counts.reloads, len(c.events)) == before


def certificate(folder: Path) -> tuple[str, str]:
    """(certificate, key) of a fresh self-signed one"""
    pem = ensure_default(folder).read_text()
    crt, _, key = pem.partition("-----BEGIN PRIVATE KEY-----")
    return crt, "-----BEGIN PRIVATE KEY-----" + key


async def served(c: Cluster, host: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", c.https, ssl=context, server_hostname=host)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(der).strip()


@with_cluster
async def test_tls_by_name_redirects_and_renewal_without_a_reload(c: Cluster) -> None:
    folder = Path(c.settings.run_dir)
    (crt1, key1), (crt2, key2), (crt3, key3) = (certificate(folder / f"c{n}") for n in range(3))
    await c.service("web", "w")
    c.secret("one", tls_crt=crt1, tls_key=key1)
    c.secret("two", tls_crt=crt2, tls_key=key2)
    c.secret("wrong", tls_crt=crt1, tls_key=key2)
    c.ingress("one", ("x.example", "/", "Prefix", "web"), tls=[{"hosts": ["x.example"], "secretName": "one"}])
    c.ingress("two", ("y.example", "/", "Prefix", "web"), tls=[{"hosts": ["*.example"], "secretName": "two"}])
    c.ingress("bad", ("z.org", "/", "Prefix", "web"), tls=[{"hosts": ["z.org"], "secretName": "wrong"}])
    c.ingress(
        "plain",
        ("p.example", "/", "Prefix", "web"),
        tls=[{"hosts": ["p.example"]}],
        annotations={"ssl_redirect": "false"},
    )
    await c.settled()
    assert await served(c, "x.example") == crt1.strip() and await served(c, "y.example") == crt2.strip()
    assert await served(c, "z.org") not in (crt1.strip(), crt2.strip())
    assert ("bad", "InvalidCertificate") in c.events
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    code, _, body = await c.get("x.example", "/p", port=c.https, ssl=context)
    assert code == 200 and "x-forwarded-proto=https" in body
    code, headers, _ = await c.get("x.example", "/p?q=1")
    assert (code, headers["location"]) == (308, f"https://x.example:{c.https}/p?q=1")
    assert await c.who("p.example") == "w"
    reloads = c.controller.counts.reloads
    c.secret("one", tls_crt=crt3, tls_key=key3)
    await c.settled()
    assert await served(c, "x.example") == crt3.strip()
    assert c.controller.counts.reloads == reloads


@with_cluster
async def test_annotations_do_what_they_say(c: Cluster) -> None:
    def make(name: str, **annotations: str) -> None:
        c.ingress(name, (f"{name}.example", "/api", "Prefix", "web"), annotations=annotations)

    await c.service("web", "w1", "w2")
    # openssl passwd -6 -salt abc secret
    digest = "$6$abc$fFm.DBnIRSoJ2nkBr4Z1WmYmb7s.oMEA6l.qkzSwBYKuvLwBZBrEa1fWsHXmbCrAVPhnSAa1ivL5CX/0Fj8Uv0"
    c.secret("users", auth=f"ann:{crypt(digest)}\n")
    make("rewrite", rewrite_target="/v1")
    make("root", rewrite_target="/")
    make("size", body_size="10")
    make("cors", cors_allow_origin="https://app.example", cors_allow_credentials="true")
    make("auth", auth_secret="users")
    make("range", allow_source_ranges="10.0.0.0/8")
    make("rate", limit_rps="2")
    make("cookie", affinity="cookie")
    await c.settled()
    assert c.events == []
    assert (await c.get("rewrite.example", "/api/x?q=1"))[2].split()[1] == "/v1/x?q=1"
    assert (await c.get("root.example", "/api"))[2].split()[1] == "/"
    assert (await c.get("size.example", "/api", method="POST", body=b"x" * 11))[0] == 413
    assert (await c.get("size.example", "/api", method="POST", body=b"x" * 10))[0] == 200
    code, headers, _ = await c.get("cors.example", "/api", method="OPTIONS", Origin="https://app.example")
    assert code == 204 and headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" in (await c.get("cors.example", "/api"))[1]
    assert (await c.get("auth.example", "/api"))[0] == 401
    assert (await c.get("auth.example", "/api", Authorization="Basic YW5uOnNlY3JldA=="))[0] == 200
    assert (await c.get("auth.example", "/api", Authorization="Basic YW5uOnd3dw=="))[0] == 401
    assert (await c.get("range.example", "/api"))[0] == 403
    assert 429 in {answer[0] for answer in await asyncio.gather(*(c.get("rate.example", "/api") for _ in range(20)))}
    code, headers, body = await c.get("cookie.example", "/api")
    cookie = headers["set-cookie"].split(";")[0]
    assert {(await c.get("cookie.example", "/api", Cookie=cookie))[2].split()[0] for _ in range(5)} == {body.split()[0]}
    # Clients cannot pretend to be somebody else.
    body = (await c.get("root.example", "/api", X_Forwarded_For="1.2.3.4"))[2]
    assert "x-forwarded-for=127.0.0.1 " in body and "x-real-ip=127.0.0.1" in body


def crypt(_: str) -> str:
    import subprocess

    command = ["openssl", "passwd", "-6", "-salt", "abc", "secret"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@with_cluster
async def test_a_websocket_outlives_a_reload(c: Cluster) -> None:
    await c.service("web", "w")
    c.ingress("web", ("x.example", "/", "Prefix", "web"))
    await c.settled()
    reader, writer = await asyncio.open_connection("127.0.0.1", c.http)
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x.example\r\n" + upgrade + key + b"\r\n")
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"one")
    assert await reader.read(100) == b"echo:one"
    reloads = c.controller.counts.reloads
    c.ingress("more", ("y.example", "/", "Prefix", "web"))
    await c.settled()
    assert c.controller.counts.reloads == reloads + 1 and await c.who("y.example") == "w"
    writer.write(b"two")
    assert await reader.read(100) == b"echo:two"
    writer.close()


@with_cluster
async def test_no_request_is_lost_while_endpoints_and_ingresses_change(c: Cluster) -> None:
    await c.service("web", "w1", "w2")
    c.ingress("web", ("x.example", "/", "Prefix", "web"))
    await c.settled()
    done = asyncio.Event()
    failures: list[Any] = []
    served = 0

    async def client(keep: bool) -> None:
        nonlocal served
        reader = writer = None
        while not done.is_set():
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", c.http)
                writer.write(b"GET / HTTP/1.1\r\nHost: x.example\r\n\r\n")
                async with asyncio.timeout(5):
                    head = await reader.readuntil(b"\r\n\r\n")
                    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(size)
                if b" 200 " not in head.split(b"\r\n")[0]:
                    failures.append(head)
                served += 1
                if not keep or b"connection: close" in head.lower():
                    writer.close()
                    writer = None
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                # An idle connection that the old worker closes between two requests is no lost request; a fresh one is.
                if not keep or isinstance(error, TimeoutError):
                    failures.append(repr(error))
                writer = None
        if writer is not None:
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(client(keep=number % 2 == 0))
        for turn in range(30):
            await c.endpoints("web", *(("w1", "w2", "w3"), ("w2", "w4"), ("w1", "w3"))[turn % 3])
            if turn % 5 == 0:
                c.ingress(f"extra{turn}", (f"h{turn}.example", "/", "Prefix", "web"))
            await asyncio.sleep(0.05)
        await c.settled()
        done.set()
    assert failures == []
    assert served > 200 and c.controller.counts.reloads >= 4


@with_cluster
async def test_haproxys_metrics_are_served(c: Cluster) -> None:
    await c.settled()
    port = int(c.settings.metrics.rpartition(":")[2])
    code, _, body = await c.get("m", "/metrics", port=port)
    assert code == 200 and "haproxy_process_uptime_seconds" in body


GRPC = """
import sys, threading
from concurrent import futures
import grpc

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, _: b"echo:" + request)

if sys.argv[1] == "serve":
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)
else:
    _, _, http, https, ca = sys.argv
    plain = grpc.insecure_channel("127.0.0.1:" + http, options=[("grpc.default_authority", "rpc.example")])
    credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
    options = [("grpc.ssl_target_name_override", "rpc.example")]
    secure = grpc.secure_channel("127.0.0.1:" + https, credentials, options)
    for channel in (plain, secure):
        assert channel.unary_unary("/test.Echo/Say")(b"hello", timeout=10) == b"echo:hello"
        channel.close()
"""


@with_cluster
async def test_grpc_passes_in_clear_text_and_over_tls(c: Cluster) -> None:
    pytest.importorskip("grpc")
    folder = Path(c.settings.run_dir)
    # The client trusts only what calls itself an authority.
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=rpc.example", "-addext", "subjectAltName=DNS:rpc.example", "-keyout", "k", "-out", "c"]
    made = await asyncio.create_subprocess_exec(*command, cwd=folder, stderr=asyncio.subprocess.DEVNULL)
    assert await made.wait() == 0
    # Processes of their own: gRPC's threads have no place in this one.
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", GRPC, "serve", stdin=pipe, stdout=pipe)
    try:
        assert server.stdout is not None and server.stdin is not None
        async with asyncio.timeout(15):
            port = int(await server.stdout.readline())
        c.secret("one", tls_crt=(folder / "c").read_text(), tls_key=(folder / "k").read_text())
        await c.service("rpc", app_protocol="kubernetes.io/h2c")
        slice_ = {"metadata": {"name": "rpc-1", "labels": {"kubernetes.io/service-name": "rpc"}}, "addressType": "IPv4"}
        endpoints = [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}]
        c.informers.put("endpointslices", {**slice_, "endpoints": endpoints, "ports": [{"name": "http", "port": port}]})
        tls = [{"hosts": ["rpc.example"], "secretName": "one"}]
        c.ingress("rpc", ("rpc.example", "/", "Prefix", "rpc"), tls=tls, annotations={"ssl_redirect": "false"})
        await c.settled()
        where = (str(c.http), str(c.https), str(folder / "c"))
        client = await asyncio.create_subprocess_exec(sys.executable, "-c", GRPC, "ask", *where)
        async with asyncio.timeout(30):
            assert await client.wait() == 0
    finally:
        server.kill()
        await server.wait()
