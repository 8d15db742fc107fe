"""The scheduler's picture of the cluster: nodes as arrays, pods counted on them, and what changed since when.

Pods are counted in three ways, each kept current as a pod comes or goes:
- what they use of their node (resources, ports), in `NodeTable`;
- how many of each template stand on each row (`Template.rows`), and from that, on demand, how many pods that match some
  terms stand on each row: a `Cohort`;
- how many pods on each row carry an affinity term that concerns other pods: a `Carrier`.

An assumed pod (bound by us, not yet seen bound) counts like a bound one.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np

from peavine.scheduler.nodes import Ids, NodeTable
from peavine.scheduler.reservations import PrioritySums
from peavine.scheduler.storage import Storage
from peavine.scheduler.template import PODS, AffinityTerm, Object, Pod, Template

CHANGES_MAX = 100_000
COHORTS_MAX = 4096


class Match(NamedTuple):
    """Pods that match all of `terms` (namespace and labels). `live`: without those being deleted."""

    terms: tuple[AffinityTerm, ...]
    live: bool


class Cohort:
    """How many pods of a `Match` stand on each row."""

    __slots__ = ("__weakref__", "counts", "match", "total", "used")

    def __init__(self, match: Match, capacity: int) -> None:
        self.match = match
        self.counts: Ids = np.zeros(capacity, np.int32)
        self.total = 0
        self.used = 0


CarrierKind = Literal["anti", "affinity", "preferred"]


class Carrier:
    """How many pods on each row carry a term. `weight` is that of a preferred term (negative: anti), else 0."""

    __slots__ = ("counts", "kind", "term", "total", "weight")

    def __init__(self, kind: CarrierKind, term: AffinityTerm, weight: int, capacity: int) -> None:
        self.kind, self.term, self.weight = kind, term, weight
        self.counts: Ids = np.zeros(capacity, np.int32)
        self.total = 0


class Cluster:
    def __init__(self) -> None:
        self.nodes = NodeTable()
        self.pods: dict[tuple[str, str], Pod] = {}  # bound and assumed
        self.pods_on: dict[int, dict[tuple[str, str], Pod]] = defaultdict(dict)
        self._homeless: dict[str, dict[tuple[str, str], Pod]] = defaultdict(dict)  # node not (yet) known
        self.namespaces: dict[str, Mapping[str, str]] = {}
        # Pods that wait for victims to go from a node: others of at most their priority leave them the room.
        self.nominated: dict[tuple[str, str], Pod] = {}
        self.nominated_on: dict[str, dict[tuple[str, str], Pod]] = defaultdict(dict)
        self.promised = PrioritySums(self.nodes, lambda p, threshold: p >= threshold, self._nominated_rows)
        self.used_below = PrioritySums(self.nodes, lambda p, threshold: p < threshold, self._counted_rows)
        self.storage: Storage | None = None  # is told of pods with volumes
        self._tentative = False
        self._templates: dict[str, dict[Template, int]] = defaultdict(dict)  # by namespace, with their number of pods
        self._cohorts: dict[Match, Cohort] = {}
        self._carriers: dict[tuple[CarrierKind, AffinityTerm, int], Carrier] = {}
        self.carriers_version = 0  # rises when a term appears or goes
        # Rows whose use changed, in order. Whoever evaluates remembers how far it has read.
        self.changes: list[int] = []
        self.changes_start = 0
        # Anything else that makes evaluations stale: labels, taints, capacity, namespaces.
        self.version = 0

    # Nodes

    def set_node(self, node: Object) -> bool:
        """Add or update; True where scheduling might see a difference."""
        before = self.nodes.capacity
        name = node["metadata"]["name"]
        new = name not in self.nodes.row_of
        row, changed = self.nodes.set(node)
        if self.nodes.capacity != before:
            more = np.zeros(self.nodes.capacity - before, np.int32)
            counted: list[Cohort | Carrier] = [*self._cohorts.values(), *self._carriers.values()]
            for one in counted:
                one.counts = np.concatenate([one.counts, more])
        if changed:
            self.version += 1
        if new:
            for pod in self._homeless.pop(name, {}).values():
                self._count(pod, row, 1)
            for pod in self.nominated_on.get(name, {}).values():
                self._promise(pod, 1)
        return changed

    def remove_node(self, name: str) -> None:
        row = self.nodes.row_of.get(name)
        if row is None:
            return
        pods = list(self.pods_on.pop(row, {}).values())
        for pod in pods:
            self._count(pod, row, -1)
            self._homeless[name][pod.key] = pod
        for pod in list(self.nominated_on.get(name, {}).values()):
            self.denominate(pod.key)
        self.nodes.remove(name)
        self.version += 1

    # Pods

    def add_pod(self, pod: Pod) -> None:
        """Count a pod on `pod.node`; one of that key that is counted already gives way."""
        if pod.key in self.pods:
            self.remove_pod(pod.key)
        self.pods[pod.key] = pod
        row = self.nodes.row_of.get(pod.node)
        if row is None:
            self._homeless[pod.node][pod.key] = pod
        else:
            self._count(pod, row, 1)

    def remove_pod(self, key: tuple[str, str]) -> Pod | None:
        pod = self.pods.pop(key, None)
        if pod is None:
            return None
        row = self.nodes.row_of.get(pod.node)
        if row is None:
            homeless = self._homeless[pod.node]
            homeless.pop(key, None)
            if not homeless:
                del self._homeless[pod.node]
        else:
            self._count(pod, row, -1)
        return pod

    def _count(self, pod: Pod, row: int, sign: int) -> None:
        nodes, template = self.nodes, pod.template
        for name, amount in template.requests.items():
            n = nodes.resource(name)  # first: it may replace the arrays
            nodes.used[n, row] += sign * amount
        nodes.used[nodes.resource_ids[PODS], row] += sign
        nodes.nonzero[0, row] += sign * template.nonzero[0]
        nodes.nonzero[1, row] += sign * template.nonzero[1]
        if template.host_ports:
            nodes.take_ports(row, template.host_ports, sign)
        if sign > 0:
            self.pods_on[row][pod.key] = pod
        else:
            on = self.pods_on[row]
            on.pop(pod.key, None)
            if not on:
                del self.pods_on[row]
        self._count_template(template, row, sign, pod.deleting)
        self.used_below.change(template, row, sign)
        if template.volumes and self.storage is not None:
            self.storage.count(pod, row, sign)
        if not self._tentative:
            self._note(row)

    @contextlib.contextmanager
    def tentative(self) -> Iterator[None]:
        """Within, `lift` and `put_back` are invisible to whoever follows the changes: all of it must be taken back."""
        self._tentative = True
        try:
            yield
        finally:
            self._tentative = False

    def lift(self, pod: Pod, row: int) -> None:
        """Tentatively: as if the pod were not on the row."""
        self._count(pod, row, -1)

    def put_back(self, pod: Pod, row: int) -> None:
        """Tentatively: as if the pod were on the row."""
        self._count(pod, row, 1)

    def _note(self, row: int) -> None:
        self.changes.append(row)
        if len(self.changes) > CHANGES_MAX:
            half = CHANGES_MAX // 2
            del self.changes[:half]
            self.changes_start += half

    def changed_since(self, position: int) -> list[int] | None:
        """Rows noted after `position` (repeats possible); None where that is too long ago."""
        at = position - self.changes_start
        return self.changes[at:] if at >= 0 else None

    @property
    def position(self) -> int:
        return self.changes_start + len(self.changes)

    # Nominations

    def nominate(self, pod: Pod, node: str) -> None:
        """Promise the pod room on a node (it has none yet: its victims have to go first)."""
        self.denominate(pod.key)
        pod.nominated = node
        self.nominated[pod.key] = pod
        self.nominated_on[node][pod.key] = pod
        self._promise(pod, 1)

    def denominate(self, key: tuple[str, str]) -> None:
        pod = self.nominated.pop(key, None)
        if pod is None:
            return
        on = self.nominated_on[pod.nominated]
        del on[key]
        if not on:
            del self.nominated_on[pod.nominated]
        self._promise(pod, -1)

    def _promise(self, pod: Pod, sign: int) -> None:
        row = self.nodes.row_of.get(pod.nominated)
        if row is not None:
            self.promised.change(pod.template, row, sign)
            if not self._tentative:
                self._note(row)

    def _nominated_rows(self) -> Iterator[tuple[Template, int]]:
        for pod in self.nominated.values():
            row = self.nodes.row_of.get(pod.nominated)
            if row is not None:
                yield pod.template, row

    def _counted_rows(self) -> Iterator[tuple[Template, int]]:
        for row, pods in self.pods_on.items():
            for pod in pods.values():
                yield pod.template, row

    # Templates, cohorts, carriers

    def _count_template(self, template: Template, row: int, sign: int, deleting: bool) -> None:
        known = self._templates[template.namespace]
        number = known.get(template, 0) + sign
        if template.cohorts is None:
            template.cohorts = [c for c in self._cohorts.values() if self._matches_all(c.match, template)]
        if template.carriers is None:
            template.carriers = self._carriers_of(template)
        _add(template.rows, row, sign)
        if deleting:
            _add(template.terminating, row, sign)
        for cohort in template.cohorts:
            if not (deleting and cohort.match.live):
                cohort.counts[row] += sign
                cohort.total += sign
        for carrier in template.carriers:
            carrier.counts[row] += sign
            carrier.total += sign
        if number or self._tentative:
            known[template] = number
            return
        known.pop(template, None)
        if not known:
            del self._templates[template.namespace]
        for carrier in template.carriers:
            if not carrier.total:
                key = (carrier.kind, carrier.term, carrier.weight)
                if self._carriers.pop(key, None) is not None:
                    self.carriers_version += 1
        # Interned again when it comes back: the cohorts may be others by then.
        template.cohorts = template.carriers = None

    def _carriers_of(self, template: Template) -> list[Carrier]:
        wanted: list[tuple[CarrierKind, AffinityTerm, int]] = [
            *(("anti", term, 0) for term in template.anti_affinity_terms),
            *(("affinity", term, 0) for term in template.affinity_terms),
            *(("preferred", term, weight) for weight, term in template.preferred_terms),
        ]
        found = []
        for key in wanted:
            carrier = self._carriers.get(key)
            if carrier is None:
                carrier = self._carriers[key] = Carrier(*key, self.nodes.capacity)
                self.carriers_version += 1
            found.append(carrier)
        return found

    def carriers_matching(self, template: Template, wanted: Callable[[Carrier], bool]) -> list[Carrier]:
        """Carriers whose term is about a pod of this template."""
        return [c for c in self._carriers.values() if wanted(c) and self.matches(c.term, template)]

    def matches(self, term: AffinityTerm, template: Template) -> bool:
        labels = self.namespaces.get(template.namespace, {})
        return term.names_namespace(template.namespace, labels) and term.selector.matches(template.labels)

    def _matches_all(self, match: Match, template: Template) -> bool:
        return all(self.matches(term, template) for term in match.terms)

    def cohort(self, match: Match) -> Cohort:
        """The (shared, kept) counts of the pods that match."""
        cohort = self._cohorts.get(match)
        if cohort is None:
            if len(self._cohorts) >= COHORTS_MAX:
                self._forget_cohorts()
            cohort = self._cohorts[match] = Cohort(match, self.nodes.capacity)
            names = match.terms[0].namespaces if match.terms[0].namespace_selector is None else list(self._templates)
            for namespace in names:
                for template in self._templates.get(namespace, ()):
                    if self._matches_all(match, template):
                        assert template.cohorts is not None
                        template.cohorts.append(cohort)
                        _sum(cohort, template)
        return cohort

    def _forget_cohorts(self) -> None:
        """Start over: evaluations notice by the version and ask for theirs again."""
        self._cohorts.clear()
        for templates in self._templates.values():
            for template in templates:
                template.cohorts = []
        self.version += 1

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> bool:
        """A namespace's labels, None where it is gone; True where terms that select namespaces may see a difference."""
        old = self.namespaces.get(name)
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels
        if old == labels:
            return False
        if self._templates.get(name):
            self._forget_cohorts()
        self.version += 1
        return True


def _add(rows: dict[int, int], row: int, sign: int) -> None:
    number = rows.get(row, 0) + sign
    if number:
        rows[row] = number
    else:
        rows.pop(row, None)


def _sum(cohort: Cohort, template: Template) -> None:
    for row, number in template.rows.items():
        if cohort.match.live:
            number -= template.terminating.get(row, 0)
        cohort.counts[row] += number
        cohort.total += number
