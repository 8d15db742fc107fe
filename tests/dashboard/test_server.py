"""The dashboard's server against an API server: who may do what through it, and what it keeps out."""

from __future__ import annotations

import asyncio
import base64
import contextlib

import orjson
import pytest

from peavine.base.clock import SimulatedClock
from peavine.client import ClientConfig, load_kubeconfig
from peavine.client.transport import Upgraded
from peavine.dashboard.credentials import Unusable, with_kubeconfig
from peavine.dashboard.http import Limits
from peavine.dashboard.sessions import AGE_SECONDS_MAX, IDLE_SECONDS_MAX
from peavine.testing import AsyncCluster
from peavine.wire.websocket import Message, WebSocket
from peavine.wire.websocket_headers import accept_head, accept_key, request_headers
from tests.dashboard.serving import serving

PODS = "/api/k8s/api/v1/namespaces/default/pods"
MAPS = "/api/k8s/api/v1/namespaces/default/configmaps"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}
TOKENS = 'admin-token,admin,u1,"system:masters"\nalice-token,alice,u2,"dev"\n'


@contextlib.asynccontextmanager
async def a_cluster(directory):
    tokens = directory / "tokens.csv"
    tokens.write_text(TOKENS)
    async with AsyncCluster(controllers=False, scheduler=False, nodes=0, token_auth_file=str(tokens)) as cluster:
        given = load_kubeconfig(cluster.kubeconfig)
        yield cluster, ClientConfig(given.server, given.ca)


def test_it_acts_with_the_users_own_rights_and_only_in_a_session(tmp_path):
    async def story():
        async with a_cluster(tmp_path) as (_, where):
            async with serving(where) as admin, serving(where) as alice:
                # Without a session nothing is answered, whatever the browser brings along.
                assert await admin.status("GET", PODS) == 401
                assert await admin.status("GET", PODS, authorization="Bearer admin-token") == 401
                assert await admin.get("/api/session") == {"user": None}
                assert await admin.status("POST", "/api/login", {"token": "wrong"}, x_peavine_csrf="login") == 401

                answer = await admin.log_in(token="admin-token")
                cookie = answer.headers["set-cookie"]
                assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
                assert (await admin.get("/api/session"))["user"]["username"] == "admin"
                assert (await admin.get(PODS))["kind"] == "PodList"
                assert await admin.status("POST", MAPS, MAP) == 201
                assert (await admin.get(MAPS + "/m"))["metadata"]["name"] == "m"

                await alice.log_in(token="alice-token")
                answer, body = await alice.send("GET", PODS)
                assert answer.status == 403
                assert '"alice" cannot list resource "pods"' in orjson.loads(body)["message"]
                # Neither another token nor another name comes through.
                assert await alice.status("GET", PODS, authorization="Bearer admin-token") == 403
                assert await alice.status("GET", PODS, impersonate_user="admin") == 403

                assert await admin.status("POST", "/api/logout") == 200
                assert await admin.status("GET", PODS) == 401

    asyncio.run(story())


def test_a_kubeconfigs_client_certificate_logs_in_and_its_server_is_ignored(tmp_path):
    async def story():
        async with a_cluster(tmp_path) as (cluster, where), serving(where) as browser:
            text = cluster.kubeconfig.read_text().replace(cluster.url, "https://192.0.2.1:1")
            await browser.log_in(kubeconfig=text)
            session = await browser.get("/api/session")
            assert session["user"]["username"] == "kubernetes-admin"
            assert session["server"] == cluster.url
            assert (await browser.get(PODS))["items"] == []

    asyncio.run(story())


def test_changes_need_the_csrf_token_and_other_sites_are_refused(tmp_path):
    async def story():
        async with a_cluster(tmp_path) as (_, where), serving(where) as browser:
            # A login too: nobody shall be logged in as someone else by another site.
            assert await browser.status("POST", "/api/login", {"token": "admin-token"}) == 403
            await browser.log_in(token="admin-token")
            for wrong in ("", "login", "x" * 43):
                assert await browser.status("POST", MAPS, MAP, x_peavine_csrf=wrong) == 403
                assert await browser.status("POST", "/api/logout", x_peavine_csrf=wrong) == 403
            assert await browser.status("POST", MAPS, MAP, origin="http://evil.example") == 403
            assert await browser.status("GET", MAPS, origin="http://evil.example") == 403
            assert await browser.status("GET", MAPS, sec_fetch_site="cross-site") == 403
            assert await browser.status("POST", MAPS, MAP) == 201

    asyncio.run(story())


def test_read_only_refuses_every_change_but_answers_what_one_may(tmp_path):
    async def story():
        async with a_cluster(tmp_path) as (_, where), serving(where, read_only=True) as browser:
            await browser.log_in(token="admin-token")
            assert (await browser.get("/api/session"))["readOnly"] is True
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                answer, body = await browser.send(method, MAPS + ("" if method == "POST" else "/m"), MAP)
                assert (answer.status, orjson.loads(body)["message"]) == (403, "the dashboard is read-only")
            shell = await browser.upgrade(PODS + "/p/exec?command=sh", dict(request_headers("a" * 22 + "==")))
            assert shell.status == 403
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {"verb": "list", "resource": "pods"}},
            }
            path = "/api/k8s/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            answer, body = await browser.send("POST", path, review)
            assert orjson.loads(body)["status"]["allowed"] is True
            assert (await browser.get(MAPS))["items"] == []

    asyncio.run(story())


def test_a_watch_streams_and_ends_when_the_browser_goes_away(tmp_path):
    async def story():
        async with a_cluster(tmp_path) as (cluster, where), serving(where) as browser:
            await browser.log_in(token="admin-token")
            version = (await browser.get(MAPS))["metadata"]["resourceVersion"]
            request = browser.request("GET", f"{MAPS}?watch=1&resourceVersion={version}")
            answer = await browser.transport.exchange(request, idempotent=True)
            await cluster.client.resource("v1", "configmaps").create(MAP, "default")
            async for piece in answer.chunks():
                event = orjson.loads(piece)
                assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "m")
                break
            answer.close()
            # The tab is closed: its own watch at the API server ends, and the dashboard goes on.
            assert (await browser.get(MAPS))["items"][0]["metadata"]["name"] == "m"

    asyncio.run(story())


def test_every_answer_carries_a_strict_policy_and_data_can_never_run_as_a_page(tmp_path):
    async def story():
        async with serving(ClientConfig("http://127.0.0.1:9")) as browser:
            page, body = await browser.send("GET", "/")
            assert page.status == 200 and b"<script" in body
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            data, _ = await browser.send("GET", PODS)
            assert data.headers["content-security-policy"].startswith("default-src 'none'")
            assert "sandbox" in data.headers["content-security-policy"]
            assert data.headers["cache-control"] == "no-store"
            for path in ("/../server.py", "/__init__.py", "/%2e%2e/server.py", "/nothing"):
                assert await browser.status("GET", path) == 404
            # An API server that does not answer is said so, with no session begun.
            answer, _ = await browser.send("POST", "/api/login", {"token": "t"}, x_peavine_csrf="login")
            assert answer.status == 502 and "set-cookie" not in answer.headers

    asyncio.run(story())


@pytest.mark.parametrize(
    "path",
    [
        "/debug/pprof",
        "/api/../metrics",
        "/api/%2e%2e/metrics",
        "/api//v1/pods",
        "/api/v1/namespaces/default/services/web/proxy/",
        "/api/v1/nodes/n/proxy/logs/",
        "/api/v1/namespaces/default/pods/p/exec?command=reboot",
        "/api/v1/namespaces/default/pods/p/%65xec?command=reboot",
    ],
)
def test_what_is_not_plain_kubernetes_api_is_not_passed_on(path):
    async def story():
        async with upstream() as port, serving(ClientConfig(f"http://127.0.0.1:{port}")) as browser:
            await browser.log_in(token="t")
            assert await browser.status("GET", "/api/k8s" + path) == 403

    asyncio.run(story())


def test_heads_and_bodies_have_limits():
    async def story():
        limits = Limits(head_bytes=2000, body_bytes=1000, idle_seconds=0.2)
        async with serving(ClientConfig("http://127.0.0.1:9"), limits) as browser:
            assert await browser.status("GET", "/", x_long="x" * 3000) == 431
            assert await browser.status("POST", "/api/login", b"x" * 1001) == 413
            assert await browser.status("GET", "/") == 200
            for bad in (b"GET / HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(browser.base.rpartition(":")[2]))
                writer.write(bad)
                assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
                writer.close()

    asyncio.run(story())


def test_sessions_end_when_unused_and_when_old():
    async def story():
        clock = SimulatedClock()
        async with upstream() as port, serving(ClientConfig(f"http://127.0.0.1:{port}"), clock=clock) as browser:
            await browser.log_in(token="t")
            await clock.advance(IDLE_SECONDS_MAX - 1)
            assert await browser.status("GET", "/api/k8s/version") == 200
            await clock.advance(IDLE_SECONDS_MAX + 1)
            assert await browser.status("GET", "/api/k8s/version") == 401
            await browser.log_in(token="t")
            for _ in range(int(AGE_SECONDS_MAX / 1700) + 1):
                await browser.status("GET", "/api/k8s/version")
                await clock.advance(1700)
            assert await browser.status("GET", "/api/k8s/version") == 401

    asyncio.run(story())


def test_a_shells_frames_pass_through_both_ways():
    async def story():
        async with upstream() as port, serving(ClientConfig(f"http://127.0.0.1:{port}")) as browser:
            await browser.log_in(token="t")
            key = base64.b64encode(b"0123456789abcdef").decode()
            headers = dict(request_headers(key, ["v4.channel.k8s.io"]))
            path = PODS + "/p/exec?command=sh&stdin=true"
            assert (await browser.upgrade(path, {**headers, "origin": "http://evil.example"})).status == 403
            shell = await browser.upgrade(path, headers)
            assert isinstance(shell, Upgraded)
            assert shell.headers["sec-websocket-accept"] == accept_key(key)
            assert shell.headers["sec-websocket-protocol"] == "v4.channel.k8s.io"
            socket = WebSocket(client=True)
            shell.write(socket.send(b"\x00echo hello\n"))
            found = []
            while not found:
                found = socket.receive(await shell.read())
            assert found == [Message(b"\x01echo hello\n")]
            shell.close()

    asyncio.run(story())


def test_logging_out_and_growing_old_end_an_open_shell_but_an_open_shell_keeps_one_from_being_idle():
    async def story():
        clock = SimulatedClock()
        key = base64.b64encode(b"0123456789abcdef").decode()
        path = PODS + "/p/exec?command=sh&stdin=true"
        async with upstream() as port, serving(ClientConfig(f"http://127.0.0.1:{port}"), clock=clock) as browser:
            await browser.log_in(token="t")
            shell = await browser.upgrade(path, dict(request_headers(key)))
            assert await browser.status("POST", "/api/logout") == 200
            async with asyncio.timeout(10):
                assert await shell.read() == b""

            await browser.log_in(token="t")
            shell = await browser.upgrade(path, dict(request_headers(key)))
            await clock.advance(IDLE_SECONDS_MAX + 60)
            assert await browser.status("GET", "/api/k8s/version") == 200
            await clock.advance(AGE_SECONDS_MAX)
            async with asyncio.timeout(10):
                assert await shell.read() == b""

    asyncio.run(story())


@pytest.mark.parametrize(
    "user, words",
    [
        ({"client-certificate": "/etc/shadow", "client-key": "/etc/shadow"}, "names a file"),
        ({"tokenFile": "/etc/shadow"}, "names a file"),
        ({"exec": {"command": "reboot"}}, "'exec' cannot log in"),
        ({"token": "a b"}, "no bearer token"),
        ({"token": "a\r\nX: y"}, "no bearer token"),
        ({"client-certificate-data": "AAAA", "client-key-data": "AAAA"}, "cannot be read|PEM"),
        ({}, "neither a token"),
    ],
)
def test_an_uploaded_kubeconfig_reads_no_file_and_runs_nothing(user, words):
    doc = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "users": [{"name": "u", "user": user}],
    }
    with pytest.raises(Unusable, match=words):
        with_kubeconfig(ClientConfig("https://127.0.0.1:9"), orjson.dumps(doc).decode())


@contextlib.asynccontextmanager
async def upstream():
    """Something that answers like an API server: who you are, its version, and a shell that echoes."""

    async def one(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                if "sec-websocket-key" in headers:
                    writer.write(accept_head(headers, "v4.channel.k8s.io"))
                    socket = WebSocket()
                    while data := await reader.read(1000):
                        for message in socket.receive(data):
                            if isinstance(message, Message):
                                writer.write(socket.send(b"\x01" + message.data[1:]))
                    break
                posted = lines[0].startswith("POST")
                body = orjson.dumps({"status": {"userInfo": {"username": "someone"}}})
                code = "201 Created" if posted else "200 OK"
                writer.write(f"HTTP/1.1 {code}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
