"""Health of the proxy itself, and of the local endpoints of Services that load balancers ask about."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

import orjson

from peavine.base.clock import REAL, Clock
from peavine.base.pages import Page, serve
from peavine.proxy.model import HealthCheck, Key

log = logging.getLogger(__name__)

# Changes that wait longer than this for the kernel make the proxy unhealthy (upstream: 2 * sync period).
pending_seconds_max = 60.0


class ProxyHealth:
    """`/healthz` (is the node fit for load balancers) and `/livez` (is the proxy working)."""

    def __init__(self, clock: Clock = REAL) -> None:
        self._clock = clock
        self._updated = 0.0
        self._pending_since: float | None = None
        self.node_eligible = True
        """False once the node is being deleted: load balancers should leave it."""

    def pending(self) -> None:
        if self._pending_since is None:
            self._pending_since = self._clock.time()

    def updated(self) -> None:
        self._updated = self._clock.time()
        self._pending_since = None

    @property
    def working(self) -> bool:
        if not self._updated:
            return False
        return self._pending_since is None or self._clock.time() - self._pending_since < pending_seconds_max

    def healthz(self) -> Page:
        return self._page(self.working and self.node_eligible)

    def livez(self) -> Page:
        return self._page(self.working)

    def _page(self, well: bool) -> Page:
        at = self._updated if not self.working else self._clock.time()
        body = {
            "lastUpdated": _stamp(at),
            "currentTime": _stamp(self._clock.time()),
            "nodeEligible": self.node_eligible,
        }
        return Page(200 if well else 503, "application/json", orjson.dumps(body))


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class ServiceHealth:
    """One small server for each health-check node port."""

    def __init__(self, host: str, proxy_works: Callable[[], bool]) -> None:
        self._host = host
        self._proxy_works = proxy_works
        self._servers: dict[Key, tuple[int, asyncio.Server]] = {}
        self._counts: dict[Key, int] = {}

    async def sync(self, checks: Iterable[HealthCheck]) -> None:
        """Serve exactly these. A port that cannot be had is logged and tried again at the next sync."""
        wanted = {check.service: check for check in checks}
        for service, (port, server) in list(self._servers.items()):
            if service not in wanted or wanted[service].port != port:
                server.close()
                del self._servers[service]
        self._counts = {service: check.local_endpoints for service, check in wanted.items()}
        for service, check in wanted.items():
            if service not in self._servers:
                try:
                    # Every path is the same page: load balancers ask for what they like.
                    server = await serve(self._host, check.port, partial(self._answer, service))
                except OSError as error:
                    log.error("health check port %d of %s/%s: %s", check.port, *service, error)
                    continue
                self._servers[service] = (check.port, server)

    def close(self) -> None:
        for _, server in self._servers.values():
            server.close()
        self._servers.clear()

    def _answer(self, service: Key, path: str, query: dict[str, list[str]]) -> Page:
        count = self._counts.get(service, 0)
        works = self._proxy_works()
        body = {
            "service": {"namespace": service[0], "name": service[1]},
            "localEndpoints": count,
            "serviceProxyHealthy": works,
        }
        headers = (("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(count)))
        return Page(200 if count and works else 503, "application/json", orjson.dumps(body), headers)
