"""Groups that another server answers for."""

from __future__ import annotations

import asyncio
import json
import time

from peavine.apiserver.http import Exchange, HttpServer, Response
from peavine.apiserver.http.tls import server_context
from peavine.base.lifetimes import scope
from peavine.cmd.pki import ensure_pki
from tests.apiserver.inside import Client, request_bytes, serving

SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
RESOURCES = [
    {"name": "metrics", "singularName": "metric", "namespaced": True, "kind": "Metric", "verbs": ["get", "list"]},
    {"name": "metrics/status", "singularName": "", "namespaced": True, "kind": "Metric", "verbs": ["get"]},
]


async def available(api: Client, name: str, wanted: str) -> dict:
    deadline = time.monotonic() + 30
    while True:
        service = (await api("GET", f"{SERVICES}/{name}")).json
        for condition in service.get("status", {}).get("conditions", ()):
            if condition["type"] == "Available" and condition["status"] == wanted:
                return condition
        assert time.monotonic() < deadline, service
        await asyncio.sleep(0.02)


def test_requests_go_to_the_registered_server_with_the_users_name(tmp_path):
    seen: list[Exchange] = []

    async def backend(exchange: Exchange) -> Response | None:
        seen.append(exchange)
        if exchange.info.path == "/apis/metrics.example.com/v1":
            doc = {"kind": "APIResourceList", "groupVersion": "metrics.example.com/v1", "resources": RESOURCES}
            return Response(200, json.dumps(doc).encode())
        if exchange.upgrade:
            raw = exchange.take_over(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            )
            while data := await raw.read():
                raw.write(data.upper())
            return None
        if exchange.info.query.get("redirect"):
            return Response(302, b"", "", [("Location", "https://elsewhere.example.com/")])
        body = await exchange.read_body(1000)
        return Response(418, b'{"said":"%b"}' % body)

    async def main():
        pki = ensure_pki(tmp_path / "other")
        tls = server_context(str(pki.cert("apiserver")), str(pki.key("apiserver")))
        async with scope() as tasks, serving(tmp_path) as api:
            other = HttpServer(backend, tls=tls)
            port = await other.listen("127.0.0.1", 0, tasks)
            body = {
                "metadata": {"name": "v1.metrics.example.com"},
                "spec": {
                    "group": "metrics.example.com",
                    "version": "v1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 10,
                    "insecureSkipTLSVerify": True,
                    "service": {"namespace": "default", "name": "other", "port": port},
                },
            }
            assert (await api("POST", SERVICES, body)).status == 201
            missing = await available(api, "v1.metrics.example.com", "False")
            assert missing["reason"] == "ServiceNotFound"
            assert (await api("GET", "/apis/metrics.example.com/v1/x")).status == 503

            service = {"metadata": {"name": "other"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
            assert (await api("POST", "/api/v1/namespaces/default/services", service)).status == 201
            await available(api, "v1.metrics.example.com", "True")
            groups = [g["name"] for g in (await api("GET", "/apis")).json["groups"]]
            assert "metrics.example.com" in groups
            accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
            items = (await api("GET", "/apis", headers=accept)).json["items"]
            mine = next(i for i in items if i["metadata"]["name"] == "metrics.example.com")
            assert mine["versions"][0]["resources"][0]["subresources"][0]["subresource"] == "status"

            path = "/apis/metrics.example.com/v1/namespaces/default/metrics/m?a=b"
            answer = await api("POST", path, b"hello", {"X-Remote-User": "forged"})
            assert (answer.status, answer.json) == (418, {"said": "hello"})
            headers = seen[-1].info.raw_headers
            assert [v for k, v in headers if k == "x-remote-user"] == ["admin"]
            assert "system:masters" in [v for k, v in headers if k == "x-remote-group"]
            assert not [v for k, v in headers if k == "authorization"]
            assert seen[-1].info.query_string == "a=b"

            reader, writer = await api.open()
            upgrade = {"Connection": "Upgrade", "Upgrade": "echo"}
            writer.write(request_bytes("GET", "/apis/metrics.example.com/v1/x", None, upgrade) + b"early")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert await reader.readexactly(5) == b"EARLY"
            writer.write(b"late")
            assert await reader.readexactly(4) == b"LATE"
            writer.close()
            headers = seen[-1].info.raw_headers
            assert [v for k, v in headers if k == "x-remote-user"] == ["admin"]
            assert not [v for k, v in headers if k == "authorization"]

            redirected = await api("GET", "/apis/metrics.example.com/v1/x?redirect=1")
            assert redirected.status == 502 and "location" not in redirected.headers  # CVE-2022-3172
            assert "attempted to redirect this request" in redirected.json["message"]

            other.stop_listening()
            await other.drain(0.1)
            await api("DELETE", "/api/v1/namespaces/default/services/other")
            await available(api, "v1.metrics.example.com", "False")
            assert (await api("POST", path, b"hello")).status == 503
            await api("DELETE", f"{SERVICES}/v1.metrics.example.com")
            assert (await api("GET", "/apis/metrics.example.com/v1")).status == 404

    asyncio.run(main())


def test_every_served_group_has_a_local_apiservice(tmp_path):
    async def main():
        async with serving(tmp_path) as api:
            deadline = time.monotonic() + 30
            while True:
                names = {s["metadata"]["name"] for s in (await api("GET", SERVICES)).json["items"]}
                if {"v1.", "v1.apps", "v2.autoscaling"} <= names:
                    break
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            apps = (await api("GET", f"{SERVICES}/v1.apps")).json
            assert apps["status"]["conditions"][0]["reason"] == "Local"

    asyncio.run(main())
