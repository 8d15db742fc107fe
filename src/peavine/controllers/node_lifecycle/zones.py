"""How fast nodes may lose their pods: by zone, slower where many nodes fail at once, not at all where all do. Pure.

Upstream: pkg/controller/nodelifecycle; "Nodes", rate limits on eviction. When no node of the cluster answers, it is the
control plane that is cut off: nothing is evicted, and what had been tainted for eviction is let be.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from peavine.api.conditions import is_true

Object = dict[str, Any]

NORMAL, PARTIAL, FULL = "Normal", "PartialDisruption", "FullDisruption"
# A zone is not in partial disruption for the sake of one or two nodes.
UNREADY_LEAST = 3


@dataclass(frozen=True)
class Limits:
    """Upstream's flags and defaults. Rates are nodes a second, in each zone."""

    rate: float = 0.1
    secondary_rate: float = 0.01
    unhealthy_threshold: float = 0.55
    large_cluster: int = 50

    def of(self, state: str, nodes: int) -> float:
        """The rate in a zone of so many nodes that is in this state."""
        if state != PARTIAL:
            return self.rate
        return self.secondary_rate if nodes > self.large_cluster else 0.0


def zone_of(node: Object) -> str:
    """Region and zone by the node's labels; "" for a node that has neither."""
    labels = node["metadata"].get("labels") or {}
    region = labels.get("topology.kubernetes.io/region") or labels.get("failure-domain.beta.kubernetes.io/region", "")
    zone = labels.get("topology.kubernetes.io/zone") or labels.get("failure-domain.beta.kubernetes.io/zone", "")
    return f"{region}:{zone}" if region or zone else ""


def state_of(ready: int, unready: int, threshold: float) -> str:
    if ready == 0 and unready > 0:
        return FULL
    if unready >= UNREADY_LEAST and unready / (ready + unready) >= threshold:
        return PARTIAL
    return NORMAL


@dataclass
class Zone:
    """One zone's state, and its permits: one at a time, made at `rate` a second."""

    state: str = NORMAL
    rate: float = 0.0
    next_permit: float = 0.0

    def permit(self, now: float) -> float | None:
        """0 where a node may be driven off now (that uses the permit), else seconds to wait; None: not at this rate."""
        if self.rate <= 0:
            return None
        if now < self.next_permit:
            return self.next_permit - now
        self.next_permit = now + 1 / self.rate
        return 0.0


@dataclass
class Zones:
    limits: Limits = Limits()
    zones: dict[str, Zone] = field(default_factory=lambda: defaultdict(Zone))
    cut_off: bool = False  # every zone is in full disruption

    def update(self, nodes: list[Object], now: float) -> dict[str, tuple[str, str]]:
        """Look at all nodes anew. Returns the zones whose state changed: (before, after)."""
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for node in nodes:
            counts[zone_of(node)][0 if is_true(node, "Ready") else 1] += 1
        changed = {}
        for name in set(self.zones) - set(counts):
            del self.zones[name]
        for name, (ready, unready) in counts.items():
            zone, state = self.zones[name], state_of(ready, unready, self.limits.unhealthy_threshold)
            if state != zone.state:
                changed[name] = (zone.state, state)
                zone.state = state
            rate = self.limits.of(state, ready + unready)
            if rate != zone.rate:
                # A faster rate counts from now on: nobody waits out the slower one.
                zone.next_permit = min(zone.next_permit, now + 1 / rate) if rate > 0 else zone.next_permit
                zone.rate = rate
        self.cut_off = bool(self.zones) and all(zone.state == FULL for zone in self.zones.values())
        return changed
