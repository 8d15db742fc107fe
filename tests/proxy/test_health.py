"""What load balancers and probes are told."""

from __future__ import annotations

import asyncio

import orjson

from peavine.base.clock import SimulatedClock
from peavine.base.pages import at, host_and_port, serve
from peavine.proxy.health import ProxyHealth, ServiceHealth
from peavine.proxy.model import HealthCheck


async def get(port: int, path: str = "/") -> tuple[int, str, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), head.decode(), body


def test_a_proxy_is_healthy_until_changes_wait_too_long() -> None:
    clock = SimulatedClock()
    health = ProxyHealth(clock)
    assert health.healthz()[0] == 503
    health.updated()
    assert health.healthz()[0] == 200
    health.pending()
    asyncio.run(clock.advance(61))
    assert health.healthz()[0] == 503 and health.livez()[0] == 503
    health.updated()
    health.node_eligible = False
    assert health.healthz()[0] == 503 and health.livez()[0] == 200


def test_a_services_health_port_counts_and_moves_and_goes() -> None:
    async def main() -> None:
        free = await serve("127.0.0.1", 0, at({}))
        port = free.sockets[0].getsockname()[1]
        free.close()
        health = ServiceHealth("127.0.0.1", lambda: True)
        await health.sync([HealthCheck(("n", "s"), port, 2)])
        code, head, body = await get(port, "/anything")
        assert code == 200 and "X-Load-Balancing-Endpoint-Weight: 2" in head
        assert orjson.loads(body)["localEndpoints"] == 2
        await health.sync([HealthCheck(("n", "s"), port, 0)])
        assert (await get(port))[0] == 503
        await health.sync([])
        try:
            await get(port)
        except ConnectionError:
            return
        raise AssertionError("the port is still open")

    asyncio.run(main())


def test_bind_addresses() -> None:
    assert host_and_port("0.0.0.0:80") == ("0.0.0.0", 80)
    assert host_and_port("[::1]:80") == ("::1", 80) and host_and_port(":9") == ("", 9)
