"""The three processes of a node as `peavine up` starts them, against a real API server, in a namespace of their own."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peavine.client.rest import Client
from peavine.linux import links, namespaces, nftables
from peavine.linux.programs import run
from peavine.machinery.errors import ApiError
from tests.dns.asking import read
from tests.linux.world import Servers

pytestmark = pytest.mark.root

OWN = "10.4.7.11"
memory_mb_max = 45


@pytest.fixture
def host() -> Iterator[str]:
    name = f"pv-{secrets.token_hex(3)}-host"
    namespaces.create(name)
    lines = ["link set lo up", "link add eth0 type veth peer name far", "link set eth0 up", "link set far up"]
    lines += [f"addr add {OWN}/24 dev eth0", "route add default via 10.4.7.1"]
    run(["ip", "-n", name, "-batch", "-"], "\n".join(lines) + "\n")
    yield name
    namespaces.remove(name)


def peavine(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", "peavine.cmd.main", *arguments], stdout=out, stderr=out)


async def until(what: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The first true result; the last exception or falsehood fails the test."""
    end = time.monotonic() + seconds
    while True:
        try:
            result = what()
            if asyncio.iscoroutine(result):
                result = await result
            if result:
                return result
        except (OSError, ApiError):
            if time.monotonic() > end:
                raise
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.05)


async def resolve(name: str) -> list[str]:
    """Through the Service's address, as a pod does."""
    import socket

    from peavine.wire import dns

    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
        s.connect(("192.168.0.2", 53))
        s.send(dns.query(1, dns.name(name), dns.A))
        async with asyncio.timeout(1):
            return read(await loop.sock_recv(s, 4096)).values


def memory_mb(process: subprocess.Popen[bytes]) -> float:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096 / 2**20


def test_services_names_and_pod_network_of_a_node_come_up_and_go_without_a_trace(tmp_path: Path, host: str) -> None:
    data = tmp_path / "data"
    running: list[subprocess.Popen[bytes]] = []
    servers = Servers()
    with namespaces.inside(host):
        try:
            servers.open(OWN, 8080, "backend")
            api = ["apiserver", "--data-dir", str(data), "--secure-port", "6443", "--bind-address", "0.0.0.0"]
            range_ = ["--service-cluster-ip-range", "192.168.0.0/16"]
            running.append(peavine(*api, *range_, log=tmp_path / "apiserver.log"))
            asyncio.run(_drive(tmp_path, data, running))
        finally:
            for process in reversed(running):
                process.terminate()
            for process in running:
                process.wait(20)
            servers.close()
        assert subprocess.call([sys.executable, "-m", "peavine.cmd.main", "proxy", "--cleanup"]) == 0
        where = ["--cni-conf-dir", str(tmp_path / "net.d"), "--state-dir", str(tmp_path / "state")]
        assert subprocess.call([sys.executable, "-m", "peavine.cmd.main", "network", "--cleanup", *where]) == 0
        assert "peavine" not in nftables.listing("ruleset") and links.link("peavine0") is None
        assert list((tmp_path / "net.d").iterdir()) == [] and not (tmp_path / "state").exists()


async def _drive(tmp_path: Path, data: Path, running: list[subprocess.Popen[bytes]]) -> None:
    files = data / "kubeconfigs"
    await until(lambda: (data / "admin.kubeconfig").exists() and (files / "dns.kubeconfig").exists())
    client = Client.from_kubeconfig(data / "admin.kubeconfig")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "172.7.11.0/24"}}
    node["spec"]["podCIDRs"] = ["172.7.11.0/24"]  # type: ignore[index]
    await until(lambda: client.resource("v1", "nodes").create(node))
    common = ["--hostname-override", "n1"]
    for name, more in (
        ("proxy", ["--cluster-cidr", "172.7.0.0/16"]),
        ("dns", ["--listen", OWN, "--service-ip", "192.168.0.2"]),
        (
            "network",
            ["--cluster-cidr", "172.7.0.0/16", "--cni-conf-dir", str(tmp_path / "net.d")]
            + ["--state-dir", str(tmp_path / "state"), "--node-ip", OWN],
        ),
    ):
        arguments = [name, "--kubeconfig", str(files / f"{name}.kubeconfig"), *common, *more]
        running.append(peavine(*arguments, log=tmp_path / f"{name}.log"))
    assert await until(lambda: resolve("kubernetes.default.svc.cluster.local")) == ["192.168.0.1"]
    await until(lambda: (tmp_path / "net.d" / "10-peavine.conflist").exists())
    assert links.link("peavine0") is not None
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    service["spec"] = {"clusterIP": "192.168.0.50", "ports": [{"port": 80, "protocol": "TCP"}]}  # type: ignore[assignment]
    await client.resource("v1", "services").create(service, "default")
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [OWN], "nodeName": "n1", "conditions": {"ready": True}}],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }
    await client.resource("discovery.k8s.io/v1", "endpointslices").create(slice_, "default")
    assert await until(lambda: resolve("web.default.svc.cluster.local")) == ["192.168.0.50"]
    await until(lambda: _ask("192.168.0.50", 80))
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"}}
    policy["spec"] = {"podSelector": {}, "policyTypes": ["Ingress"]}  # type: ignore[assignment]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.resource("v1", "serviceaccounts").create(account, "default")
    await client.resource("v1", "pods").create(_pod(), "default")
    status = {"metadata": {"name": "p"}, "status": {"phase": "Running", "podIPs": [{"ip": "172.7.11.9"}]}}
    status["status"]["podIP"] = "172.7.11.9"
    await client.resource("v1", "pods").patch("p", status, "default", subresource="status")
    await client.resource("networking.k8s.io/v1", "networkpolicies").create(policy, "default")
    await until(lambda: "172.7.11.9" in nftables.listing("map", "inet", "peavine-policy", "ingress-4"))
    for process in running[1:]:
        assert process.poll() is None
        assert memory_mb(process) < memory_mb_max
    await client.resource("v1", "services").delete("web", "default")
    await until(_gone)
    client.close()


def _pod() -> dict[str, Any]:
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


async def _ask(address: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(b"?")
    answer = await reader.read(100)
    writer.close()
    return answer.startswith(b"backend")


async def _gone() -> bool:
    return await resolve("web.default.svc.cluster.local") == []
