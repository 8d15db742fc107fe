"""`peavine ingress` against the real API server: class, status, addresses, and nothing running afterwards."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peavine.client.rest import Client
from peavine.ingress import haproxy
from peavine.machinery.errors import ApiError
from tests.ingress.cluster import free_port
from tests.ingress.gateways import GROUP, gateway, listener, route, rule

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(haproxy.program() is None, reason="haproxy is not installed"),
]


def peavine(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", "peavine.cmd.main", *arguments], stdout=out, stderr=out)


async def until(what: Any, seconds: float = 60.0) -> Any:
    """The first true result; errors of a server that is not there yet are passed over."""
    last: object = None
    async with asyncio.timeout(seconds):
        while True:
            try:
                if last := await what():
                    return last
            except (OSError, ApiError) as error:
                last = error
            await asyncio.sleep(0.05)


def test_an_ingress_is_served_and_a_load_balancer_gets_its_address(tmp_path: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []
    try:
        asyncio.run(_drive(tmp_path, running))
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(20)
    assert not (tmp_path / "run" / "haproxy.pid").exists()


async def _drive(tmp_path: Path, running: list[subprocess.Popen[bytes]]) -> None:
    data, port, http = tmp_path / "data", free_port(), free_port()
    where = ["--data-dir", str(data), "--secure-port", str(port), "--bind-address", "127.0.0.1"]
    running.append(peavine("apiserver", *where, log=tmp_path / "apiserver.log"))

    async def files() -> bool:
        return (data / "admin.kubeconfig").exists() and (data / "kubeconfigs" / "ingress.kubeconfig").exists()

    await until(files)
    client = Client.from_kubeconfig(data / "admin.kubeconfig")
    arguments = ["--kubeconfig", str(data / "kubeconfigs" / "ingress.kubeconfig"), "--listen", "127.0.0.1"]
    arguments += ["--http-port", str(http), "--https-port", "0", "--publish-address", "10.4.7.11"]
    health, metrics = free_port(), free_port()
    arguments += ["--run-dir", str(tmp_path / "run"), "--healthz-bind-address", f"127.0.0.1:{health}"]
    arguments += ["--access-log", "--metrics-bind-address", f"127.0.0.1:{metrics}"]
    arguments += ["--load-balancer-pool", "10.4.7.200-10.4.7.201", "--gateway-api"]
    running.append(peavine("ingress", *arguments, log=tmp_path / "ingress.log"))
    spec: dict[str, Any] = {"ports": [{"name": "http", "port": 80}], "type": "LoadBalancer"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    await until(lambda: client.resource("v1", "services").create(service, "default"))
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}
    classes = client.resource("networking.k8s.io/v1", "ingressclasses")
    await until(lambda: classes.get("peavine"))
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}}
    ingress["spec"] = {"rules": [{"host": "x.example", "http": {"paths": [path]}}]}  # type: ignore[assignment]
    ingresses = client.resource("networking.k8s.io/v1", "ingresses")
    await until(lambda: ingresses.create(ingress, "default"))

    async def published() -> bool:
        status = (await ingresses.get("web", "default")).get("status") or {}
        return (status.get("loadBalancer") or {}).get("ingress") == [{"ip": "10.4.7.11"}]

    async def balanced() -> bool:
        status = (await client.resource("v1", "services").get("web", "default")).get("status") or {}
        return [e["ip"] for e in (status.get("loadBalancer") or {}).get("ingress") or []] == ["10.4.7.200"]

    await until(published)
    await until(balanced)
    # The route exists, its Service has no endpoints: not the 404 of an unknown host.
    assert await _status(http, "x.example") == 503
    assert await _status(http, "other.example") == 404
    await _gateway(client, http)
    client.close()
    assert await _status(health, "h", "/healthz") == 200 and await _status(health, "h", "/readyz") == 200
    assert b"peavine_ingress_reloads_total " in await _page(health, "h", "/metrics")
    assert b"haproxy_frontend_http_requests_total{" in await _page(metrics, "m", "/metrics")

    async def logged() -> bool:
        return '"GET /said?so=1 HTTP/1.1"' in (tmp_path / "ingress.log").read_text()

    await _status(http, "x.example", "/said?so=1")
    await until(logged)


async def _gateway(client: Client, http: int) -> None:
    """A Gateway on the Ingresses' port: its statuses, as they come back from the API server."""

    def api(plural: str) -> Any:
        return client.resource(f"{GROUP}/v1", plural)

    async def conditions(plural: str, name: str, namespace: str | None = "default") -> Any:
        status = (await api(plural).get(name, namespace)).get("status") or {}
        return {c["type"]: (c["status"], c["reason"]) for c in status.get("conditions") or ()}

    kind = {"apiVersion": f"{GROUP}/v1"}
    allowed = {"namespaces": {"from": "All"}}
    made = gateway("gw", listener("http", http, allowedRoutes=allowed), listener("tcp", 9, "TCP"))
    await until(lambda: api("gateways").create({**kind, "kind": "Gateway", **made}, "default"))
    for name, service in (("routed", "web"), ("broken", "nothing")):
        obj = route(name, rule(service), hosts=(f"{name}.example",))
        await api("httproutes").create({**kind, "kind": "HTTPRoute", **obj}, "default")

    async def seen() -> bool:
        return len((await api("httproutes").get("broken", "default")).get("status", {}).get("parents") or []) == 1

    await until(seen)
    wanted = {"Accepted": ("True", "Accepted"), "SupportedVersion": ("True", "SupportedVersion")}
    assert await conditions("gatewayclasses", "peavine", None) == wanted
    wanted = {"Accepted": ("True", "ListenersNotValid"), "Programmed": ("True", "Programmed")}
    await until(lambda: _equals(conditions("gateways", "gw"), wanted))
    status = (await api("gateways").get("gw", "default"))["status"]
    assert status["addresses"] == [{"type": "IPAddress", "value": "10.4.7.11"}]
    assert [(x["name"], x["attachedRoutes"]) for x in status["listeners"]] == [("http", 2), ("tcp", 0)]
    entry = (await api("httproutes").get("broken", "default"))["status"]["parents"][0]
    reasons = {c["type"]: c["reason"] for c in entry["conditions"]}
    assert reasons == {"Accepted": "Accepted", "ResolvedRefs": "BackendNotFound"}
    assert all(c["observedGeneration"] == 1 for c in entry["conditions"])
    assert entry["controllerName"] == "peavine.dev/gateway"
    assert await _status(http, "routed.example") == 503 and await _status(http, "broken.example") == 500
    assert await _status(http, "x.example") == 503


async def _equals(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def _status(port: int, host: str, path: str = "/") -> int:
    return int((await _page(port, host, path)).split()[1])


async def _page(port: int, host: str, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer
