"""Keeps a node known: registers it, renews its lease, reports its status when it changes, or every 5 minutes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.client.rest import Client
from peavine.client.transport import Unreachable
from peavine.kubelet.node.node import HEALTHY, Node, changed, extended, node_object, node_status
from peavine.kubelet.options import Options
from peavine.machinery.errors import ApiError

log = logging.getLogger(__name__)
Object = dict[str, Any]

REGISTER_RETRY_SECONDS_MAX = 7.0
# Condition -> reasons of the events that it is false, and that it is true.
TOLD = {
    "Ready": ("NodeNotReady", "NodeReady"),
    "MemoryPressure": ("NodeHasSufficientMemory", "NodeHasInsufficientMemory"),
    "DiskPressure": ("NodeHasNoDiskPressure", "NodeHasDiskPressure"),
    "PIDPressure": ("NodeHasSufficientPID", "NodeHasInsufficientPID"),
}
LEASE_NAMESPACE = "kube-node-lease"


def _slim(node: Object) -> Object:
    """What is compared later: a thousand nodes in one process are kept."""
    meta = node["metadata"]
    kept = {k: meta[k] for k in ("name", "uid", "labels") if k in meta}
    return {"metadata": kept, "status": node.get("status") or {}}


def micro_stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


class Registrar:
    """`prepare()` refreshes the Node record (images, pressures) before each look at it."""

    def __init__(
        self,
        client: Client,
        node: Node,
        options: Options,
        *,
        prepare: Callable[[], Any] | None = None,
        clock: Clock = REAL,
        registered: Callable[[Object], None] = lambda node: None,
        places: asyncio.Semaphore | None = None,
        record: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self._client, self.node, self._options, self._clock = client, node, options, clock
        self._nodes = client.resource("v1", "nodes")
        self._leases = client.resource("coordination.k8s.io/v1", "leases")
        self._prepare, self._registered = prepare, registered
        # (type, reason, message) of an event about the node
        self._record = record
        # Shared by all nodes of the process: so many talk to the API server at once.
        self._places = places or asyncio.Semaphore(2)
        self._object: Object | None = None
        self._lease: Object | None = None
        self._reported_at = float("-inf")
        self._nudge = asyncio.Event()

    def nudge(self) -> None:
        """Something about the node has changed: look now."""
        self._nudge.set()

    def seen(self, conditions: dict[str, str], resources: dict[str, str]) -> None:
        """What the API has of the Node: conditions (type -> status) and extended resources. If somebody has changed a
        condition of ours (the controller that counts leases says Unknown), or has advertised a resource, it is said
        again at once."""
        if self._object is None:
            return
        status = self._object.get("status") or {}
        told = {c["type"]: c["status"] for c in status.get("conditions") or []}
        if resources != extended(status.get("capacity") or {}) or any(
            conditions.get(type_, status) != status for type_, status in told.items() if type_ in HEALTHY
        ):
            self._object = None
            self.nudge()

    async def run(self) -> None:
        """Ends by cancellation."""
        if self._options.register_node:
            await self._register()
        async with scope() as tasks:
            tasks.start(self._keep_lease(), name=f"lease {self.node.name}")
            await self._keep_status()

    async def _register(self) -> None:
        wait = 0.05
        while True:
            try:
                async with self._places:
                    await self._create_or_reconcile()
                return
            except (ApiError, Unreachable, ConnectionError) as error:
                log.info("node %s is not registered yet: %s", self.node.name, error)
                await self._clock.sleep(wait)
                wait = min(REGISTER_RETRY_SECONDS_MAX, wait * 2)

    async def _create_or_reconcile(self) -> None:
        if self._prepare is not None:
            await self._prepare()
        wanted = node_object(self.node, self._options)
        wanted["status"] = node_status(self.node, {}, self._clock.time())
        try:
            self._object = _slim(await self._nodes.create(wanted))
            self._tell_changes({}, wanted["status"])
            self._reported_at = self._clock.monotonic()
        except ApiError as error:
            if error.code != 409:
                raise
            self._object = _slim(await self._nodes.get(self.node.name))
            await self._reconcile(wanted)
        self._registered(self._object)

    async def _reconcile(self, wanted: Object) -> None:
        """Labels of ours that differ are set again; taints and labels of others stay."""
        assert self._object is not None
        have = self._object["metadata"].get("labels") or {}
        labels = {k: v for k, v in wanted["metadata"]["labels"].items() if have.get(k) != v}
        if labels:
            self._object = _slim(await self._nodes.patch(self.node.name, {"metadata": {"labels": labels}}))

    async def _keep_status(self) -> None:
        options = self._options
        while True:
            # Before looking: what is told during the look needs another one.
            self._nudge.clear()
            try:
                async with self._places:
                    await self._report()
            except (ApiError, Unreachable, ConnectionError) as error:
                log.info("status of node %s is not written: %s", self.node.name, error)
                self._object = None
                if isinstance(error, ApiError) and error.code == 404 and options.register_node:
                    await self._register()
                    continue
            try:
                async with asyncio.timeout(options.node_status_update_seconds):
                    await self._nudge.wait()
            except TimeoutError:
                continue

    async def _report(self) -> None:
        if self._prepare is not None:
            await self._prepare()
        if self._object is None:
            self._object = _slim(await self._nodes.get(self.node.name))
        old = self._object.get("status") or {}
        wanted = node_status(self.node, old, self._clock.time())
        due = self._clock.monotonic() - self._reported_at >= self._options.node_status_report_seconds
        if not due and not changed(old, wanted):
            return
        patch = {"status": {k: v for k, v in wanted.items() if k == "conditions" or old.get(k) != v}}
        if "allocatable" in patch["status"]:
            # A merge keeps what a patch leaves out: what can be had no longer has to be named.
            gone = dict.fromkeys((old.get("allocatable") or {}).keys() - wanted["allocatable"].keys())
            patch["status"]["allocatable"] = {**patch["status"]["allocatable"], **gone}
        if patch["status"].get("addresses"):
            patch["status"]["addresses"] = [*patch["status"]["addresses"], {"$patch": "replace"}]
        answer = await self._nodes.patch(self.node.name, patch, type="strategic", subresource="status")
        self._tell_changes(old, wanted)
        self._object = _slim(answer)
        self._reported_at = self._clock.monotonic()

    def _tell_changes(self, old: Object, new: Object) -> None:
        """Events of what the node has become, in upstream's words."""
        if self._record is None:
            return
        before = {c["type"]: c["status"] for c in old.get("conditions") or []}
        for condition in new["conditions"]:
            type_, status = condition["type"], condition["status"]
            if type_ in TOLD and before.get(type_) != status:
                reason = TOLD[type_][status == "True"]
                self._record("Normal", reason, f"Node {self.node.name} status is now: {reason}")
        boot, was = new["nodeInfo"].get("bootID"), (old.get("nodeInfo") or {}).get("bootID")
        if was and boot and was != boot:
            self._record("Warning", "Rebooted", f"Node {self.node.name} has been rebooted, boot id: {boot}")

    async def _keep_lease(self) -> None:
        seconds = self._options.lease_duration_seconds
        every = seconds / 4
        while True:
            try:
                async with self._places:
                    await self._renew(seconds)
            except (ApiError, Unreachable, ConnectionError) as error:
                log.info("lease of node %s is not renewed: %s", self.node.name, error)
                self._lease = None
                await self._clock.sleep(min(1.0, every))
                continue
            # A little early, so that many nodes do not come together.
            await self._clock.sleep(every * (1 - 0.04 * random.random()))

    async def _renew(self, seconds: int) -> None:
        now = micro_stamp(self._clock.time())
        if self._lease is None:
            try:
                self._lease = await self._leases.get(self.node.name, LEASE_NAMESPACE)
            except ApiError as error:
                if error.code != 404:
                    raise
                self._lease = await self._leases.create(self._new_lease(seconds, now), LEASE_NAMESPACE)
                return
        spec = {**self._lease.get("spec", {}), "holderIdentity": self.node.name, "renewTime": now}
        spec["leaseDurationSeconds"] = seconds
        self._lease = await self._leases.update({**self._lease, "spec": spec})
        self._lease["metadata"].pop("managedFields", None)

    def _new_lease(self, seconds: int, now: str) -> Object:
        owners = []
        if self._object is not None:
            meta = self._object["metadata"]
            owners = [{"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta["uid"]}]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.node.name, "namespace": LEASE_NAMESPACE, "ownerReferences": owners},
            "spec": {"holderIdentity": self.node.name, "leaseDurationSeconds": seconds, "renewTime": now},
        }
