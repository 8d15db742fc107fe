"""InterPodAffinity: near or far from other pods, by what the pod wants and by what pods already there want.

What the pod wants is asked of cohorts (how many matching pods stand where), what the others want of carriers (how many
pods that carry a term stand where); either is summed by the value of the term's topology label.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from peavine.scheduler.cluster import Cluster, Match
from peavine.scheduler.nodes import ALL, Ints, Mask, Rows
from peavine.scheduler.plugins.base import SCORE_MAX, Check, Plugin, Rating
from peavine.scheduler.template import AffinityTerm, Object, Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

REASON_AFFINITY = "node(s) didn't match pod affinity rules"
REASON_ANTI = "node(s) didn't match pod anti-affinity rules"
REASON_EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"


class InterPodAffinity(Plugin):
    name = "InterPodAffinity"
    wakes_on = frozenset(
        ("Node/Add", "Node/UpdateLabel", "AssignedPod/Add", "AssignedPod/Delete", "AssignedPod/UpdateLabel")
    )

    def check(self, context: Context, template: Template) -> Check | None:
        cluster = context.cluster
        existing = cluster.carriers_matching(template, lambda carrier: carrier.kind == "anti")
        if not existing and not template.affinity_terms and not template.anti_affinity_terms:
            return None
        return _Check(cluster, template, existing)

    def hint(self, context: Context, template: Template, event: str, old: Object | None, new: Object | None) -> bool:
        if not event.startswith("AssignedPod/"):
            return True
        # A pod that came may be one to join; one that went may be one to avoid, or one that avoided this.
        namespaces = context.cluster.namespaces
        gone = [pod for pod in (old,) if pod is not None]
        for pod in [pod for pod in (new,) if pod is not None]:
            if any(term.covers(pod, namespaces) for term in template.affinity_terms):
                return True
        return any(
            (pod["spec"].get("affinity") or {}).get("podAntiAffinity")
            or any(term.covers(pod, namespaces) for term in template.anti_affinity_terms)
            for pod in gone
        )

    def rating(self, context: Context, template: Template) -> Rating | None:
        cluster = context.cluster
        hard = self.args.get("hardPodAffinityWeight", 1)
        if self.args.get("ignorePreferredTermsOfExistingPods") and not template.preferred_terms:
            return None
        carriers = cluster.carriers_matching(
            template, lambda c: c.kind == "preferred" or (c.kind == "affinity" and hard > 0)
        )
        parts: list[tuple[int, str, Any]] = [
            (hard if c.kind == "affinity" else c.weight, c.term.topology_key, c) for c in carriers
        ]
        for weight, term in template.preferred_terms:
            parts.append((weight, term.topology_key, cluster.cohort(Match((term,), False))))
        return _Rating(cluster, parts) if parts else None


def _by_domain(cluster: Cluster, key: str, counts: Any) -> tuple[Any, Any]:
    """The label's ids, and the sum of `counts` for each of its values; the last entry, 0, is for nodes without it."""
    column = cluster.nodes.column(key)
    sums = np.bincount(column.ids + 1, counts, len(column.values) + 1)
    return column.ids, np.append(sums[1:], 0)


def _where(cluster: Cluster, key: str, counts: Any) -> Mask:
    """Rows whose domain has any."""
    ids, sums = _by_domain(cluster, key, counts)
    found: Mask = (sums > 0)[ids]
    return found


class _Check(Check):
    plugin = InterPodAffinity.name
    local = False

    def __init__(self, cluster: Cluster, template: Template, existing: list[Any]) -> None:
        self._cluster, self._existing = cluster, existing
        self._affinity: list[AffinityTerm] = template.affinity_terms
        self._all = cluster.cohort(Match(tuple(self._affinity), False)) if self._affinity else None
        # The first of a group that wants to be together has no one to join: it may start anywhere.
        self._self_matches = all(cluster.matches(term, template) for term in self._affinity)
        self._anti = [
            (term.topology_key, cluster.cohort(Match((term,), False))) for term in template.anti_affinity_terms
        ]

    def _near(self) -> Mask:
        nodes = self._cluster.nodes
        mask, labelled, anywhere = np.ones(nodes.capacity, np.bool_), np.ones(nodes.capacity, np.bool_), False
        if self._all is None:
            return mask
        for term in self._affinity:
            ids, sums = _by_domain(self._cluster, term.topology_key, self._all.counts)
            labelled &= ids >= 0
            mask &= (sums > 0)[ids]
            anywhere = anywhere or bool((sums > 0).any())
        return labelled if not anywhere and self._self_matches else mask

    def _far(self) -> Mask:
        mask = np.ones(self._cluster.nodes.capacity, np.bool_)
        for key, cohort in self._anti:
            if cohort.total:
                mask &= ~_where(self._cluster, key, cohort.counts)
        return mask

    def _undisturbed(self) -> Mask:
        mask = np.ones(self._cluster.nodes.capacity, np.bool_)
        for carrier in self._existing:
            if carrier.total:
                mask &= ~_where(self._cluster, carrier.term.topology_key, carrier.counts)
        return mask

    def ok(self, rows: Rows = ALL) -> Mask:
        mask = self._far() & self._undisturbed()
        if self._affinity:
            mask &= self._near()
        return mask[rows]

    def explain(self, failed: Mask) -> list[tuple[str, Mask]]:
        lonely = failed & ~self._near()
        close = failed & ~lonely & ~self._far()
        return [(REASON_AFFINITY, lonely), (REASON_ANTI, close), (REASON_EXISTING, failed & ~lonely & ~close)]

    def hopeless(self, failed: Mask) -> Mask:
        return failed & ~self._near()


class _Rating(Rating):
    plugin = InterPodAffinity.name
    local = False

    def __init__(self, cluster: Cluster, parts: list[tuple[int, str, Any]]) -> None:
        self._cluster = cluster
        self._by_key: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        for weight, key, counted in parts:
            self._by_key[key].append((weight, counted))

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        total = np.zeros(len(feasible))
        for key, parts in self._by_key.items():
            weighted: Any = 0
            for weight, counted in parts:
                if counted.total:
                    weighted = weighted + weight * counted.counts
            if not isinstance(weighted, int):
                ids, sums = _by_domain(self._cluster, key, weighted)
                total += sums[ids]
        among = total[feasible]
        if not len(among) or (high := among.max()) == (low := among.min()):
            return np.zeros(len(feasible), np.int64)[rows]
        return (SCORE_MAX * ((total - low) / (high - low))).astype(np.int64)[rows]
