"""What nodes' conditions mean for pods: taints, Unknown conditions, pods not ready.

Upstream: pkg/controller/nodelifecycle; "Taints and Tolerations" (taint based evictions), KEP-589 (node leases).
Evicting the pods themselves is `taint_eviction`; how many nodes may be driven empty at once is `zones`.
"""

from __future__ import annotations

from dataclasses import dataclass

from peavine.api.conditions import condition
from peavine.api.core.taint import NO_EXECUTE, NOT_READY, UNREACHABLE, UNSCHEDULABLE, same
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.node_lifecycle.zones import Limits, Zones, zone_of
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp

MONITOR_SECONDS = 5.0
GRACE_SECONDS = 50.0
STARTUP_GRACE_SECONDS = 60.0
ZONES: Key = ("", "")  # the key of the look at all zones; no node has an empty name
ZONES_FRESH_SECONDS = 1.0
# condition -> {condition status: taint key} with effect NoSchedule
CONDITION_TAINTS = {
    "Ready": {"False": NOT_READY, "Unknown": UNREACHABLE},
    "MemoryPressure": {"True": "node.kubernetes.io/memory-pressure"},
    "DiskPressure": {"True": "node.kubernetes.io/disk-pressure"},
    "PIDPressure": {"True": "node.kubernetes.io/pid-pressure"},
    "NetworkUnavailable": {"True": "node.kubernetes.io/network-unavailable"},
}
MANAGED_TAINTS = {key for taints in CONDITION_TAINTS.values() for key in taints.values()} | {UNSCHEDULABLE}
WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass
class _Health:
    """What was last seen of a node's heartbeat, and when by our own clock: hosts' clocks are never compared."""

    beat: tuple[str, ...]
    seen: float


class NodeLifecycleController(Controller):
    name = "node-lifecycle-controller"
    account = "node-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options = context.options
        self.period: float = options.get("node_monitor_period", MONITOR_SECONDS)
        self.grace: float = options.get("node_monitor_grace_period", GRACE_SECONDS)
        self.startup_grace: float = options.get("node_startup_grace_period", STARTUP_GRACE_SECONDS)
        usual = Limits()
        limits = Limits(
            options.get("node_eviction_rate", usual.rate),
            options.get("secondary_node_eviction_rate", usual.secondary_rate),
            options.get("unhealthy_zone_threshold", usual.unhealthy_threshold),
            options.get("large_cluster_size_threshold", usual.large_cluster),
        )
        self.zones, self._zones_seen = Zones(limits), float("-inf")
        self.nodes = self.watch("v1", "nodes")
        self.leases = self.read("coordination.k8s.io/v1", "leases", namespace="kube-node-lease")
        self.pods = self.read("v1", "pods")
        self.pods.add_index("node", lambda pod: [pod["spec"].get("nodeName", "")])
        self.resource = self.client.resource("v1", "nodes")
        self._health: dict[str, _Health] = {}

    async def start(self) -> None:
        self.queue.add(ZONES)

    async def reconcile(self, key: Key) -> float | None:
        if key == ZONES:
            self._look_at_zones()
            return self.period
        node = self.nodes.get(*key)
        if node is None:
            self._health.pop(key[1], None)
            return None
        if "deletionTimestamp" in node["metadata"]:
            return None
        silent = self._silent(node)
        if silent:
            node = await self._mark_unknown(node)
        node, wait = await self._taint(node)
        ready = condition(node, "Ready")
        if ready is not None and ready["status"] != "True":
            await self._pods_not_ready(key[1])
        return min(self.period, wait)

    def _look_at_zones(self) -> None:
        was_cut_off, now = self.zones.cut_off, self.clock.monotonic()
        changed = self.zones.update(self.nodes.list(), now)
        self._zones_seen = now
        for name, (before, after) in changed.items():
            self.log.info("zone %r is in state %s now, it was in %s", name, after, before)
        if was_cut_off and not self.zones.cut_off:
            # It was we who did not hear: every node gets its whole grace period again.
            for health in self._health.values():
                health.seen = now

    def _silent(self, node: Object) -> bool:
        name = node["metadata"]["name"]
        lease = self.leases.get("kube-node-lease", name)
        ready = condition(node, "Ready") or {}
        beat = (
            ((lease or {}).get("spec") or {}).get("renewTime") or "",
            # Our own verdict (Unknown) is no sign of life.
            ready.get("lastHeartbeatTime", "") if ready.get("status") != "Unknown" else "",
        )
        now = self.clock.monotonic()
        health = self._health.get(name)
        if health is None or any(new and new != old for new, old in zip(beat, health.beat, strict=True)):
            self._health[name] = _Health(beat, now)
            return False
        grace = self.grace if ready else self.startup_grace
        return now - health.seen > grace

    async def _mark_unknown(self, node: Object) -> Object:
        status = {**(node.get("status") or {})}
        conditions = [dict(c) for c in status.get("conditions") or ()]
        changed = False
        now = stamp(self.clock.time())
        for type_ in WATCHED_CONDITIONS:
            current = next((c for c in conditions if c["type"] == type_), None)
            if current is None:
                words = ("NodeStatusNeverUpdated", "Kubelet never posted node status.")
                created = node["metadata"].get("creationTimestamp", now)
                conditions.append(
                    {
                        "type": type_,
                        "status": "Unknown",
                        "reason": words[0],
                        "message": words[1],
                        "lastHeartbeatTime": created,
                        "lastTransitionTime": now,
                    }
                )
                changed = True
            elif current["status"] != "Unknown":
                current |= {
                    "status": "Unknown",
                    "reason": "NodeStatusUnknown",
                    "message": "Kubelet stopped posting node status.",
                    "lastTransitionTime": now,
                }
                changed = True
        if not changed:
            return node
        name = node["metadata"]["name"]
        self.recorder.event(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        return await self.resource.update({**node, "status": {**status, "conditions": conditions}}, "status")

    async def _taint(self, node: Object) -> tuple[Object, float]:
        """The taints that the conditions ask for (NoSchedule, and NoExecute for Ready), and no others of ours.

        Returns the node, and the seconds after which it may be driven empty if it may not yet.
        """
        wanted = [{"key": key, "effect": "NoSchedule"} for key in self._no_schedule(node)]
        evicting, wait = self._no_execute(node)
        wanted += [{"key": key, "effect": NO_EXECUTE} for key in evicting]
        current = node["spec"].get("taints") or []
        kept = [t for t in current if not _ours(t) or any(same(t, w) for w in wanted)]
        now = stamp(self.clock.time())
        added = [{**w, "timeAdded": now} for w in wanted if not any(same(w, t) for t in kept)]
        if len(kept) == len(current) and not added:
            return node, wait
        return await self.resource.update({**node, "spec": {**node["spec"], "taints": kept + added}}), wait

    def _no_execute(self, node: Object) -> tuple[list[str], float]:
        """Which taint drives the pods away, if one may: a new one needs a permit of the node's zone."""
        ready = (condition(node, "Ready") or {}).get("status")
        if ready not in ("False", "Unknown"):
            return [], self.period
        now = self.clock.monotonic()
        if now - self._zones_seen > ZONES_FRESH_SECONDS:
            self._look_at_zones()
        if self.zones.cut_off:
            return [], self.period
        key = CONDITION_TAINTS["Ready"][ready]
        taints = node["spec"].get("taints") or ()
        if any(t["effect"] == NO_EXECUTE and t["key"] in (NOT_READY, UNREACHABLE) for t in taints):
            return [key], self.period
        wait = self.zones.zones[zone_of(node)].permit(now)
        if wait == 0:
            return [key], self.period
        return [], self.period if wait is None else wait

    def _no_schedule(self, node: Object) -> list[str]:
        keys = [
            taints[status]
            for type_, taints in CONDITION_TAINTS.items()
            if (status := (condition(node, type_) or {}).get("status")) in taints
        ]
        return keys + ([UNSCHEDULABLE] if node["spec"].get("unschedulable") else [])

    async def _pods_not_ready(self, node: str) -> None:
        """Traffic must not go to pods whose kubelet is silent: their Ready becomes False."""
        for pod in self.pods.by_index("node", node):
            ready = condition(pod, "Ready")
            if ready is None or ready["status"] != "True":
                continue
            meta, now = pod["metadata"], stamp(self.clock.time())
            change = {"type": "Ready", "status": "False", "lastTransitionTime": now}
            patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": [change]}}
            try:
                await self.client.resource("v1", "pods").patch(
                    meta["name"], patch, meta["namespace"], type="strategic", subresource="status"
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
            else:
                self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def _ours(taint: Object) -> bool:
    """Whether this controller puts on, and takes off, such a taint."""
    if taint["effect"] == NO_EXECUTE:
        return taint["key"] in (NOT_READY, UNREACHABLE)
    return taint["effect"] == "NoSchedule" and taint["key"] in MANAGED_TAINTS
