"""PodTopologySpread: pods of a selector evenly over zones, nodes, or any other label's values.

A constraint's counts are a cohort (pods in the pod's namespace that match and are not being deleted); summing it by
the label's value gives the pods of each domain.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from peavine.api.core.taint import untolerated
from peavine.machinery.selectors import Requirement, Selector
from peavine.scheduler.cluster import Match
from peavine.scheduler.nodes import ALL, Ints, Mask, NodeTable, Rows
from peavine.scheduler.plugins.base import SCORE_MAX, Check, Plugin, Rating
from peavine.scheduler.plugins.node_affinity import required_mask
from peavine.scheduler.template import AffinityTerm, Object, SpreadConstraint, Template, selector_of, spread_constraint

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON = "node(s) didn't match pod topology spread constraints"
REASON_LABEL = REASON + " (missing required label)"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"

_SYSTEM_DEFAULTS = (
    {"topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 3},
    {"topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 5},
)


class PodTopologySpread(Plugin):
    name = "PodTopologySpread"
    wakes_on = frozenset(
        (
            "Node/Add",
            "Node/Delete",
            "Node/UpdateLabel",
            "Node/UpdateTaint",
            "AssignedPod/Add",
            "AssignedPod/Delete",
            "AssignedPod/UpdateLabel",
        )
    )

    def _constraints(self, context: Context, template: Template, required: bool) -> tuple[list[SpreadConstraint], bool]:
        """Those of the pod, else the defaults; and whether every node needs all of their labels to count."""
        if template.spread:
            return [c for c in template.spread if c.required == required], True
        system = self.args.get("defaultingType", "System") != "List"
        defaults = _SYSTEM_DEFAULTS if system else self.args.get("defaultConstraints") or ()
        defaults = [c for c in defaults if (c.get("whenUnsatisfiable") == "DoNotSchedule") == required]
        if not defaults:
            return [], True
        selector = _workload_selector(context, template)
        if selector.empty:
            return [], True
        return [spread_constraint(c, template.labels)._replace(selector=selector) for c in defaults], not system

    def check(self, context: Context, template: Template) -> Check | None:
        constraints, _ = self._constraints(context, template, True)
        return _Check([_Counts(context, template, c, constraints, True) for c in constraints]) if constraints else None

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        if not event.startswith("AssignedPod/"):
            return True
        constraints, _ = self._constraints(context, template, True)
        return any(
            pod is not None
            and pod["metadata"].get("namespace") == template.namespace
            and any(c.selector.matches(pod["metadata"].get("labels")) for c in constraints)
            for pod in (old, new)
        )

    def rating(self, context: Context, template: Template) -> Rating | None:
        constraints, all_labels = self._constraints(context, template, False)
        if not constraints:
            return None
        counts = [_Counts(context, template, c, constraints, all_labels) for c in constraints]
        return _Rating(counts, _with_labels(context.cluster.nodes, constraints) if all_labels else None)


def _workload_selector(context: Context, template: Template) -> Selector:
    """What selects the pod's siblings: the Services that select it, and its ReplicaSet, controller or StatefulSet."""
    labels: dict[str, str] = {}
    for service in context.lister("services").list(template.namespace):
        selector = (service.get("spec") or {}).get("selector")
        if selector and selector.items() <= template.labels.items():
            labels |= selector
    requirements = [Requirement(k, "=", (v,)) for k, v in labels.items()]
    plurals = {
        "ReplicaSet": "replicasets",
        "StatefulSet": "statefulsets",
        "ReplicationController": "replicationcontrollers",
    }
    if template.owner and (plural := plurals.get(template.owner[0])):
        owner = context.lister(plural).get(template.namespace, template.owner[1])
        selector = ((owner or {}).get("spec") or {}).get("selector")
        if plural == "replicationcontrollers":
            requirements += [Requirement(k, "=", (v,)) for k, v in (selector or {}).items()]
        elif selector:
            requirements += selector_of(selector).requirements
    return Selector(requirements)


def _with_labels(nodes: NodeTable, constraints: list[SpreadConstraint]) -> Mask:
    """Nodes that carry every constraint's label."""
    mask = nodes.present.copy()
    for constraint in constraints:
        mask &= nodes.column(constraint.topology_key).ids >= 0
    return mask


class _Counts:
    """One constraint over the present nodes."""

    def __init__(
        self, context: Context, template: Template, c: SpreadConstraint, among: list[SpreadConstraint], all_labels: bool
    ) -> None:
        nodes = context.cluster.nodes
        self.constraint = c
        self.column = nodes.column(c.topology_key)
        self.ids = self.column.ids
        self.domains = len(self.column.values)
        term = AffinityTerm(frozenset((template.namespace,)), None, c.selector, "")
        self.cohort = context.cluster.cohort(Match((term,), True))
        self.self_matches = c.selector.matches(template.labels)
        included = _with_labels(nodes, among) if all_labels else nodes.present.copy()
        if c.honor_affinity and (allowed := required_mask(nodes, template)) is not None:
            included &= allowed
        if c.honor_taints:
            good = [untolerated(taints, template.tolerations) is None for taints in nodes.taint_sets]
            included &= np.array(good)[nodes.taint_set]
        self.included = included
        counted = included & (self.ids >= 0)
        self._rows = np.flatnonzero(counted)
        self._row_ids = self.ids[self._rows]
        self.known = np.unique(self._row_ids)

    def by_domain(self) -> Ints:
        """Matching pods of each value of the label, over included nodes. One more entry, 0, for nodes without it."""
        counts = np.bincount(self._row_ids, self.cohort.counts[self._rows], self.domains + 1)
        return counts.astype(np.int64)


class _Check(Check):
    plugin = PodTopologySpread.name
    local = False

    def __init__(self, parts: list[_Counts]) -> None:
        self._parts = parts

    def _fits(self, part: _Counts) -> Mask:
        c, counts = part.constraint, part.by_domain()
        if not len(part.known):
            return np.ones(len(part.ids), np.bool_)
        least = int(counts[part.known].min()) if len(part.known) >= c.min_domains else 0
        fits: Mask = (counts + int(part.self_matches) - least) <= c.max_skew
        return fits[part.ids]

    def ok(self, rows: Rows = ALL) -> Mask:
        mask = np.ones(len(self._parts[0].ids), np.bool_)
        for part in self._parts:
            mask &= self._fits(part)
            mask &= part.ids >= 0
        return mask[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        left, reasons = failed, []
        for part in self._parts:
            missing = left & (part.ids < 0)
            skewed = left & ~missing & ~self._fits(part)
            reasons += [(REASON_LABEL, missing), (REASON, skewed)]
            left = left & ~missing & ~skewed
        return reasons

    def hopeless(self, failed: Mask) -> Mask:
        mask = np.zeros_like(failed)
        for part in self._parts:
            mask |= failed & (part.ids < 0)
        return mask


class _Rating(Rating):
    plugin = PodTopologySpread.name
    local = False

    def __init__(self, parts: list[_Counts], with_labels: Mask | None) -> None:
        self._parts, self._with_labels = parts, with_labels

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        rated = feasible if self._with_labels is None else feasible & self._with_labels
        total = np.zeros(len(feasible))
        for part in self._parts:
            c = part.constraint
            if c.topology_key == HOSTNAME:
                size = int(np.count_nonzero(rated))
                counts = part.cohort.counts.astype(np.int64)
            else:
                seen = np.zeros(part.domains + 1, np.bool_)
                seen[part.ids[rated]] = True  # -1, the last: nodes without the label are a domain of their own
                size = int(np.count_nonzero(seen))
                counts = part.by_domain()[part.ids]
            total += np.where(part.ids >= 0, counts * math.log(size + 2) + (c.max_skew - 1), 0.0)
        scores = np.floor(total + 0.5).astype(np.int64)
        if not rated.any():
            return np.zeros(len(feasible), np.int64)[rows]
        low, high = int(scores[rated].min()), int(scores[rated].max())
        if high == 0:
            result = np.full(len(feasible), SCORE_MAX, np.int64)
        else:
            result = SCORE_MAX * (high + low - scores) // high
        return np.where(rated, result, 0)[rows]
