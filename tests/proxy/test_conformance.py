"""One suite for every mode, with real packets between network namespaces: what clients meet, not which rules exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from peavine.proxy import modes
from peavine.proxy.backend import Backend, BackendUnavailable, Settings
from peavine.proxy.model import Model, Node, view_service, view_slice
from tests.linux import world as worlds
from tests.linux.world import PODS, World

pytestmark = pytest.mark.root

FAMILIES = (4, 6)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with worlds.make() as made:
        for pod in PODS:
            made.serve(pod, 8080)
        made.serve("a", 8080, answer="node")
        yield made


class Proxy:
    """A backend on node a, fed with objects as the informers would."""

    def __init__(self, world: World, mode: str) -> None:
        self.world, self.mode = world, mode
        self.model = Model(Node("a", "zone-1"))
        self.settings = Settings(cluster_cidrs=worlds.POD_CIDRS)
        with world.inside("a"):
            self.backend: Backend = modes.make(mode, self.settings)
            self.backend.start([])

    def set_service(self, name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> None:
        metadata = {"name": name, "namespace": "default"}
        self.model.set_service(
            ("default", name), view_service({"metadata": metadata, "spec": spec, "status": status or {}})
        )

    def set_endpoints(self, name: str, *pods: Any, family: int = 4, protocol: str = "TCP", port: int = 8080) -> None:
        """Endpoints are pod names, or (pod name, fields of the endpoint)."""
        endpoints = []
        for entry in pods:
            pod, more = entry if isinstance(entry, tuple) else (entry, {})
            home, ip, ip6 = PODS[pod]
            endpoints.append(
                {"addresses": [ip if family == 4 else ip6], "nodeName": home, "conditions": {"ready": True}, **more}
            )
        for kind in (protocol, *(("UDP",) if protocol == "TCP" else ())):
            piece = f"{name}-{family}-{kind.lower()}"
            slice_ = {
                "metadata": {"name": piece, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
                "addressType": f"IPv{family}",
                "endpoints": endpoints,
                "ports": [{"name": kind.lower(), "port": port, "protocol": kind}],
            }
            self.model.set_slice(("default", piece), view_slice(slice_))

    def remove(self, name: str) -> None:
        self.model.set_service(("default", name), None)

    def sync(self) -> None:
        with self.world.inside("a"):
            self.backend.apply(self.model.take())


@pytest.fixture(params=modes.BACKENDS)
def proxy(request: pytest.FixtureRequest, world: World) -> Iterator[Proxy]:
    with world.inside("a"):
        modes.cleanup()
    try:
        made = Proxy(world, request.param)
    except BackendUnavailable as error:
        pytest.skip(f"mode {request.param}: {error}")
    yield made
    made.backend.close()
    with world.inside("a"):
        modes.cleanup()


def service(address: str | list[str], *, port: int = 80, node_port: int = 0, **more: Any) -> dict[str, Any]:
    addresses = [address] if isinstance(address, str) else address
    ports = [
        {"name": p.lower(), "port": port, "protocol": p, **({"nodePort": node_port} if node_port else {})}
        for p in ("TCP", "UDP")
    ]
    return {"type": "NodePort" if node_port else "ClusterIP", "clusterIPs": addresses, "ports": ports, **more}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_cluster_ip_reaches_every_endpoint_from_pods_the_node_and_outside(proxy: Proxy, protocol: str) -> None:
    proxy.set_service("web", service("192.168.0.10"))
    proxy.set_endpoints("web", "a1", "b1")
    proxy.sync()
    for where in ("a2", "a", "client"):
        assert proxy.world.everyone(where, "192.168.0.10", 80, protocol) == {"a1", "b1"}
