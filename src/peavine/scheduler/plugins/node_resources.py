"""NodeResourcesFit and NodeResourcesBalancedAllocation: is there room, and where is it best used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from peavine.scheduler.nodes import ALL, Ints, Mask, Rows
from peavine.scheduler.plugins.base import SCORE_MAX, Check, Plugin, Rating
from peavine.scheduler.template import CPU, EPHEMERAL, MEMORY, PODS, Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON_PODS = "Too many pods"
_DEFAULT_RESOURCES = ({"name": CPU, "weight": 1}, {"name": MEMORY, "weight": 1})
_ORDER = {CPU: 0, MEMORY: 1, EPHEMERAL: 2}


class NodeResourcesFit(Plugin):
    name = "NodeResourcesFit"
    wakes_on = frozenset(("Node/Add", "Node/UpdateAllocatable", "AssignedPod/Delete", "AssignedPod/ScaleDown"))

    def check(self, context: Context, template: Template) -> Check | None:
        ignored = set(self.args.get("ignoredResources") or ())
        groups = set(self.args.get("ignoredResourceGroups") or ())
        wanted = {
            name: amount
            for name, amount in template.requests.items()
            if name not in ignored and name.partition("/")[0] not in groups
        }
        return Fit(context, wanted, template.priority, context.served_by_devices(template))

    def rating(self, context: Context, template: Template) -> Rating | None:
        strategy = self.args.get("scoringStrategy") or {}
        resources = strategy.get("resources") or _DEFAULT_RESOURCES
        kind = strategy.get("type") or "LeastAllocated"
        if kind == "RequestedToCapacityRatio":
            shape = (strategy.get("requestedToCapacityRatio") or {}).get("shape") or []
            return _CapacityRatio(context, template, resources, shape)
        return (_MostAllocated if kind == "MostAllocated" else _LeastAllocated)(context, template, resources)

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        if not event.startswith("Node/") or new is None:
            return True
        nodes = context.cluster.nodes
        row = nodes.row_of.get(new["metadata"]["name"])
        fit = Fit(context, template.requests, template.priority, context.served_by_devices(template))
        return row is None or bool(fit.ok(np.array([row]))[0])


class Fit(Check):
    """Room for the requests beside what is used, and beside what is promised to pods of at least this priority."""

    plugin = NodeResourcesFit.name

    def __init__(
        self, context: Context, wanted: dict[str, int], priority: int, by_devices: frozenset[str] = frozenset()
    ) -> None:
        """`by_devices`: resources that nodes without any of them serve otherwise (see DynamicResources)."""
        self._cluster, self._nodes, self._priority = context.cluster, context.cluster.nodes, priority
        names = sorted(wanted, key=lambda name: (_ORDER.get(name, 3), name))
        self._wanted = [(name, self._nodes.resource(name), wanted[name]) for name in names]
        self._by_devices = by_devices

    def _used(self, rows: Rows, freed: Ints | None = None) -> Ints:
        used = self._nodes.used[:, rows]
        if self._cluster.nominated:
            used = used + self._cluster.promised.of(self._priority)[:, rows]
        return used if freed is None else used - freed[:, rows]

    def ok(self, rows: Rows = ALL, freed: Ints | None = None) -> Mask:
        """`freed` (shaped like `NodeTable.used`) is taken off what is used: what preemption might free."""
        used, allocatable = self._used(rows, freed), self._nodes.allocatable
        pods = 3  # FIXED_RESOURCES
        mask: Mask = used[pods] < allocatable[pods, rows]
        for name, n, amount in self._wanted:
            enough = allocatable[n, rows] - used[n] >= amount
            mask &= enough | (allocatable[n, rows] == 0) if name in self._by_devices else enough
        return mask

    def explain(self, failed: Mask, freed: Ints | None = None) -> list[tuple[str, Mask]]:
        used, allocatable = self._used(ALL, freed), self._nodes.allocatable
        pods = self._nodes.resource_ids[PODS]
        reasons = [(REASON_PODS, failed & (used[pods] >= allocatable[pods]))]
        for name, n, amount in self._wanted:
            lacking = failed & (allocatable[n] - used[n] < amount)
            if name in self._by_devices:
                lacking &= allocatable[n] > 0
            reasons.append((f"Insufficient {name}", lacking))
        return reasons

    def hopeless(self, failed: Mask) -> Mask:
        mask = np.zeros_like(failed)
        for name, n, amount in self._wanted:
            short = failed & (self._nodes.allocatable[n] < amount)
            mask |= short & (self._nodes.allocatable[n] > 0) if name in self._by_devices else short
        return mask

    def room(self, row: int, freed: Ints) -> dict[str, int]:
        """What the row would have left of each wanted resource (and of pods) with this pod on it and `freed` off."""
        used = self._used(np.array([row]), freed)[:, 0]
        pods = self._nodes.resource_ids[PODS]
        left = {PODS: int(self._nodes.allocatable[pods, row] - used[pods]) - 1}
        for name, n, amount in self._wanted:
            if name in self._by_devices and not self._nodes.allocatable[n, row]:
                continue
            left[name] = int(self._nodes.allocatable[n, row] - used[n]) - amount
        return left


class _Allocation(Rating):
    """The weighted mean of a score for each resource that the node has."""

    plugin = NodeResourcesFit.name

    def __init__(self, context: Context, template: Template, resources: Any) -> None:
        self._nodes = context.cluster.nodes
        self._parts: list[tuple[int, int, int, int]] = []  # (resource, line of nonzero or -1, asked, weight)
        for resource in resources:
            name, weight = resource["name"], resource.get("weight") or 1
            if name in (CPU, MEMORY):
                line = 0 if name == CPU else 1
                self._parts.append((self._nodes.resource(name), line, template.nonzero[line], weight))
            elif name == EPHEMERAL or template.requests.get(name):
                self._parts.append((self._nodes.resource(name), -1, template.requests.get(name, 0), weight))

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        nodes = self._nodes
        total: Ints | int = 0
        weights: Ints | int = 0
        for n, line, asked, weight in self._parts:
            capacity = nodes.allocatable[n, rows]
            requested = (nodes.nonzero[line, rows] if line >= 0 else nodes.used[n, rows]) + asked
            score, counts = self._score(requested, capacity)
            total = total + score * weight * counts
            weights = weights + counts * weight
        if not self._parts:
            return np.zeros(nodes.capacity, np.int64)[rows]
        return self._mean(total, weights)

    def _mean(self, total: Any, weights: Any) -> Ints:
        return total // np.maximum(weights, 1)

    def _score(self, requested: Ints, capacity: Ints) -> tuple[Ints, Ints]:
        """Scores, and 1 where the resource counts at all (0 where not)."""
        raise NotImplementedError


class _LeastAllocated(_Allocation):
    def _score(self, requested: Ints, capacity: Ints) -> tuple[Ints, Ints]:
        counts = (capacity > 0).astype(np.int64)
        free = np.maximum(capacity - requested, 0)
        return free * SCORE_MAX // np.maximum(capacity, 1), counts


class _MostAllocated(_Allocation):
    def _score(self, requested: Ints, capacity: Ints) -> tuple[Ints, Ints]:
        counts = (capacity > 0).astype(np.int64)
        return np.minimum(requested, capacity) * SCORE_MAX // np.maximum(capacity, 1), counts


class _CapacityRatio(_Allocation):
    def __init__(self, context: Context, template: Template, resources: Any, shape: list[Object]) -> None:
        super().__init__(context, template, resources)
        points = shape or [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]
        self._shape = [(p.get("utilization") or 0, (p.get("score") or 0) * 10) for p in points]

    def _score(self, requested: Ints, capacity: Ints) -> tuple[Ints, Ints]:
        known = capacity > 0
        use = np.where(known & (requested <= capacity), requested * SCORE_MAX // np.maximum(capacity, 1), SCORE_MAX)
        score = np.full(use.shape, self._shape[-1][1], np.int64)
        for (x0, y0), (x1, y1) in reversed(list(zip(self._shape, self._shape[1:]))):
            between = y0 + _quotient((y1 - y0) * (use - x0), x1 - x0)
            score = np.where(use <= x1, between, score)
        score = np.where(use <= self._shape[0][0], self._shape[0][1], score)
        return score, (known & (score > 0)).astype(np.int64)

    def _mean(self, total: Any, weights: Any) -> Ints:
        return np.floor(total / np.maximum(weights, 1) + 0.5).astype(np.int64)


def _quotient(a: Ints, b: int) -> Ints:
    """Integer division toward zero, as Go's."""
    return np.sign(a) * (np.abs(a) // b)


class NodeResourcesBalancedAllocation(Plugin):
    name = "NodeResourcesBalancedAllocation"

    def rating(self, context: Context, template: Template) -> Rating | None:
        names = [str(r["name"]) for r in self.args.get("resources") or _DEFAULT_RESOURCES]
        # A pod that asks for nothing would always go to the most balanced node: all of them to one.
        if not any(template.requests.get(name) for name in names):
            return None
        return _Balance(context, template, names)


class _Balance(Rating):
    plugin = NodeResourcesBalancedAllocation.name

    def __init__(self, context: Context, template: Template, names: list[str]) -> None:
        self._nodes = context.cluster.nodes
        self._parts = [
            (self._nodes.resource(name), template.requests.get(name, 0))
            for name in names
            if name in _ORDER or template.requests.get(name)
        ]

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        nodes = self._nodes
        fractions, known = [], []
        for n, asked in self._parts:
            capacity = nodes.allocatable[n, rows]
            fractions.append(np.minimum((nodes.used[n, rows] + asked) / np.maximum(capacity, 1), 1.0))
            known.append(capacity > 0)
        if len(fractions) == 2:
            deviation = np.where(known[0] & known[1], np.abs((fractions[0] - fractions[1]) / 2), 0.0)
        else:
            f, k = np.stack(fractions), np.stack(known)
            number = np.maximum(k.sum(axis=0), 1)
            mean = np.where(k, f, 0.0).sum(axis=0) / number
            deviation = np.sqrt(np.where(k, (f - mean) ** 2, 0.0).sum(axis=0) / number)
        return ((1 - deviation) * float(SCORE_MAX)).astype(np.int64)
