"""The proxy's loop: informers feed the model, what changed goes to the backend, at once and together."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.base.metrics import Counter, Gauge, Histogram
from peavine.client.informer import InformerFactory
from peavine.linux import netlink
from peavine.proxy import staleflows
from peavine.proxy.backend import Backend
from peavine.proxy.health import ProxyHealth, ServiceHealth
from peavine.proxy.model import (
    PROXY_NAME_LABEL,
    ZONE_LABEL,
    Change,
    Model,
    Node,
    view_service,
    view_slice,
)

log = logging.getLogger(__name__)

# How often the rules are looked at, in case another program flushed them.
look_seconds = 30.0

SYNC = Histogram("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds")
PROGRAMMING = Histogram(
    "kubeproxy_network_programming_duration_seconds",
    "In Cluster Network Programming Latency in seconds: from the change of an endpoint's trigger time to the rules",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)
LAST = Gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced")
FAILURES = Counter("kubeproxy_sync_proxy_rules_failures_total", "Failed syncs of the rules")
SERVICE_CHANGES = Counter("kubeproxy_sync_proxy_rules_service_changes_total", "Proxy rules Service changes")
ENDPOINT_CHANGES = Counter("kubeproxy_sync_proxy_rules_endpoint_changes_total", "Proxy rules Endpoint changes")
FORGOTTEN = Counter("kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale UDP flows removed")


def _slim_service(service: dict[str, Any]) -> dict[str, Any]:
    return _slim(service, view_service(service))


def _slim_slice(piece: dict[str, Any]) -> dict[str, Any]:
    return _slim(piece, view_slice(piece))


def _slim(obj: dict[str, Any], view: Any) -> dict[str, Any]:
    """What the informer keeps: identity and view. Objects of a large cluster would be ten times that."""
    meta = obj["metadata"]
    return {
        "metadata": {
            "name": meta["name"],
            "namespace": meta.get("namespace", ""),
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
        },
        "view": view,
    }


class Proxier:
    """Runs until cancelled. Errors of the kernel are logged, and a full sync is tried again with backoff."""

    def __init__(
        self,
        informers: InformerFactory,
        backend: Backend,
        node_name: str,
        *,
        families: tuple[bool, ...] = (False, True),
        min_sync_seconds: float = 0.0,
        clock: Clock = REAL,
        health: ProxyHealth | None = None,
        service_health: ServiceHealth | None = None,
    ) -> None:
        self.model = Model(Node(node_name))
        self.health = health or ProxyHealth(clock)
        self._service_health = service_health
        self._backend = backend
        self._clock = clock
        self._families = families
        self._min_sync_seconds = min_sync_seconds
        self._wake = asyncio.Event()
        self._flows = netlink.Netlink(netlink.NETFILTER)
        self._informers = informers
        services = informers.informer("v1", "services", label_selector=f"!{PROXY_NAME_LABEL}", transform=_slim_service)
        services.add_handler(self._service, lambda _, new: self._service(new), self._service_gone)
        slices = informers.informer(
            "discovery.k8s.io/v1",
            "endpointslices",
            label_selector=f"!{PROXY_NAME_LABEL},!service.kubernetes.io/headless",
            transform=_slim_slice,
        )
        slices.add_handler(self._slice, lambda _, new: self._slice(new), self._slice_gone)
        nodes = informers.informer("v1", "nodes", field_selector=f"metadata.name={node_name}")
        nodes.add_handler(self._node, lambda _, new: self._node(new), self._node_gone)
        self._sources = (services, slices)

    def _service(self, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        SERVICE_CHANGES.inc()
        self.model.set_service((meta["namespace"], meta["name"]), obj["view"])
        self._changed()

    def _service_gone(self, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        SERVICE_CHANGES.inc()
        self.model.set_service((meta["namespace"], meta["name"]), None)
        self._changed()

    def _slice(self, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        ENDPOINT_CHANGES.inc()
        self.model.set_slice((meta["namespace"], meta["name"]), obj["view"])
        self._changed()

    def _slice_gone(self, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        ENDPOINT_CHANGES.inc()
        self.model.set_slice((meta["namespace"], meta["name"]), None)
        self._changed()

    def _node(self, node: dict[str, Any]) -> None:
        meta = node["metadata"]
        self.model.set_node(Node(meta["name"], (meta.get("labels") or {}).get(ZONE_LABEL, "")))
        going = any(t.get("key") == "ToBeDeletedByClusterAutoscaler" for t in node["spec"].get("taints") or [])
        self.health.node_eligible = not going and "deletionTimestamp" not in meta
        self._changed()

    def _node_gone(self, _: dict[str, Any]) -> None:
        self.health.node_eligible = False

    def _changed(self) -> None:
        if self.model.dirty:
            self.health.pending()
            self._wake.set()

    async def run(self) -> None:
        try:
            async with scope() as tasks:
                tasks.start(self._informers.run(), name="informers")
                for informer in self._sources:
                    await informer.synced.wait()
                tasks.start(self._look_again(), name="look again")
                await self._sync_for_ever()
        finally:
            if self._service_health is not None:
                self._service_health.close()
            self._backend.close()
            self._flows.close()

    async def _look_again(self) -> None:
        while True:
            await self._clock.sleep(look_seconds)
            self._look = True
            self._wake.set()

    async def _sync_for_ever(self) -> None:
        backoff = Backoff(first=0.2, most=30.0)
        whole = True
        self._look = False
        while True:
            self._wake.clear()
            changes = self.model.take()
            try:
                with SYNC.time():
                    if self._look:
                        self._look = False
                        whole = whole or not self._backend.intact()
                    if whole:
                        self._backend.start([p for ports in self.model.ports.values() for p in ports])
                        log.info("synced %d services, mode %s", len(self.model.ports), self._backend.name)
                    elif changes:
                        self._backend.apply(changes)
                self._forget_flows(changes, whole)
                whole = False
                backoff.forget()
                LAST.set(self._clock.time())
                self.health.updated()
            except OSError as error:
                FAILURES.inc()
                whole = True
                delay = backoff.next()
                log.error("sync of the rules failed, full sync in %.1f s: %s", delay, error)
                await self._clock.sleep(delay)
                continue
            if self._service_health is not None:
                await self._service_health.sync(self.model.health_checks())
            if self._min_sync_seconds:
                await self._clock.sleep(self._min_sync_seconds)
            await self._wake.wait()

    def _forget_flows(self, changes: list[Change], whole: bool) -> None:
        if not whole and not staleflows.concerns(changes):
            return
        if whole:
            ports = [p for ports in self.model.ports.values() for p in ports]
        else:
            ports = [p for change in changes for p in change.new]
        removed = [p for change in changes for p in change.old]
        for ipv6 in self._families:
            count = staleflows.forget(self._flows, ports, ipv6, removed)
            if count:
                FORGOTTEN.inc(count)
                log.info("forgot %d stale UDP flows", count)
