"""DefaultPreemption: which pods of lower priority to remove, and where, so that a pod fits.

Follows upstream's rules: on each node that pods alone keep the pod from, take away everything of lower priority, then
give back the most important pods as far as there is room (those whose removal would break a disruption budget first);
of the nodes, take the one with the fewest broken budgets, the least important victims, the fewest, the youngest.

Where only resources decide, the arithmetic is done for all nodes at once, and victims of a node are kept for the next
pod of the template until the node changes; else every node is tried out on the cluster's picture and taken back.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from peavine.scheduler.context import Context
from peavine.scheduler.evaluation import Evaluation, Reasons
from peavine.scheduler.messages import NEVER_PREEMPTS, NO_VICTIMS, NOT_HELPFUL, TERMINATING_VICTIM, fit_error
from peavine.scheduler.nodes import Ints, Mask
from peavine.scheduler.plugins.node_resources import Fit
from peavine.scheduler.template import PODS, Object, Pod, Template, selector_of

CANDIDATES_PERCENT_MIN = 10
CANDIDATES_MIN = 100
REMEMBERED_TEMPLATES_MAX = 64
_numbers = itertools.count()


class Candidate(NamedTuple):
    cost: tuple[float, ...]  # lower is better
    row: int
    number: int  # no two are the same: a heap never looks further
    victims: tuple[Pod, ...]  # most important first


class Outcome(NamedTuple):
    """The node to clear and its victims; or None and why not (without the leading "preemption: ")."""

    candidate: Candidate | None
    refusal: str = ""
    keeps_nomination: bool = False


@dataclass
class _Known:
    """What was found for a template, as of a position in the cluster's changes."""

    version: int
    position: int
    candidates: dict[int, Candidate] = field(default_factory=dict)
    cheapest: list[Candidate] = field(default_factory=list)  # a heap; entries that `candidates` no longer has are stale
    breaks_budgets: bool = False  # whether any candidate was found that would


class Preemption:
    def __init__(
        self,
        context: Context,
        random_source: random.Random,
        percent: int = CANDIDATES_PERCENT_MIN,
        least: int = CANDIDATES_MIN,
    ) -> None:
        self._context, self._random = context, random_source
        self._percent, self._least = percent, least
        self._known: OrderedDict[Template, _Known] = OrderedDict()

    def try_for(self, pod: Pod, evaluation: Evaluation, reasons: Reasons) -> Outcome:
        """What to do for a pod that fits nowhere, for `reasons`. Changes nothing."""
        refusal = self._eligible(pod, reasons)
        if refusal:
            return Outcome(None, refusal, keeps_nomination=True)
        cluster = self._context.cluster
        potential = cluster.nodes.present & ~reasons.hopeless
        counts: Counter[str] = Counter()
        if pod.pinned:
            only = np.zeros_like(potential)
            only[[cluster.nodes.row_of[pod.pinned]] if pod.pinned in cluster.nodes.row_of else []] = True
            potential &= only
        number = int(np.count_nonzero(potential))
        if others := len(cluster.nodes) - number:
            counts[NOT_HELPFUL] = others
        if number:
            candidate = self._best(pod, evaluation, potential, counts)
            if candidate is not None:
                return Outcome(candidate)
        return Outcome(None, fit_error(len(cluster.nodes), counts))

    def candidates(self, pod: Pod) -> dict[str, Candidate]:
        """By node, all that the last `try_for` a pod of the template has found."""
        names = self._context.cluster.nodes.names
        known = self._known.get(pod.template)
        return {names[row]: candidate for row, candidate in known.candidates.items()} if known is not None else {}

    def _eligible(self, pod: Pod, reasons: Reasons) -> str:
        if pod.template.never_preempts:
            return NEVER_PREEMPTS
        cluster = self._context.cluster
        row = cluster.nodes.row_of.get(pod.nominated) if pod.nominated else None
        if row is not None and not reasons.hopeless[row]:
            for other in cluster.pods_on.get(row, {}).values():
                if other.deleting and other.priority < pod.priority:
                    return TERMINATING_VICTIM
        return ""

    def _best(self, pod: Pod, evaluation: Evaluation, potential: Mask, counts: Counter[str]) -> Candidate | None:
        cluster = self._context.cluster
        fit = evaluation.fit()
        below = cluster.used_below.of(pod.priority)
        lower = below[cluster.nodes.resource_ids[PODS]] > 0
        if none := int(np.count_nonzero(potential & ~lower)):
            counts[NO_VICTIMS] += none
        pool = potential & lower
        if fit is not None:
            roomy = fit.ok(freed=below)
            for reason, mask in fit.explain(pool & ~roomy, below):
                if n := int(np.count_nonzero(mask)):
                    counts[reason] += n
            pool &= roomy
        rows = np.flatnonzero(pool)
        if not len(rows):
            return None
        known = self._remembered(pod)
        wanted = max(len(cluster.nodes) * self._percent // 100, self._least)
        if len(known.candidates) < wanted:
            only = fit if evaluation.only_resources() else None
            self._find(pod, evaluation, only, rows, wanted, known, counts)
        while known.cheapest:
            best = known.cheapest[0]
            if known.candidates.get(best.row) is best and pool[best.row]:
                return best
            heapq.heappop(known.cheapest)
        return None

    def _find(
        self,
        pod: Pod,
        evaluation: Evaluation,
        only: Fit | None,
        rows: Ints,
        wanted: int,
        known: _Known,
        counts: Counter[str],
    ) -> None:
        """More candidates among `rows`, from a random one on. `only`: nothing but the room counts."""
        start = self._random.randrange(len(rows))
        budgets = self._budgets()
        for row in np.concatenate([rows[start:], rows[:start]]).tolist():
            if len(known.candidates) >= wanted:
                break
            if row in known.candidates:
                continue
            if only is not None:
                candidate = self._by_arithmetic(pod, only, row, budgets)
            else:
                candidate = self._by_trial(pod, evaluation, row, budgets, counts)
            if candidate is not None:
                known.candidates[row] = candidate
                known.breaks_budgets = known.breaks_budgets or bool(candidate.cost[0])
                heapq.heappush(known.cheapest, candidate)

    def _remembered(self, pod: Pod) -> _Known:
        cluster = self._context.cluster
        version = cluster.version + self._context.version_for(pod.template) + cluster.carriers_version
        known = self._known.pop(pod.template, None)
        changed = cluster.changed_since(known.position) if known is not None else None
        if known is None or changed is None or known.version != version or pod.pinned:
            known = _Known(version, cluster.position)
        elif known.breaks_budgets:
            known = _Known(version, cluster.position)  # budgets move with every pod
        else:
            for row in changed:
                known.candidates.pop(row, None)
        known.position = cluster.position
        self._known[pod.template] = known
        if len(self._known) > REMEMBERED_TEMPLATES_MAX:
            self._known.popitem(last=False)
        return known

    # One node

    def _lower(self, pod: Pod, row: int) -> list[Pod]:
        """Pods on the row that may be victims, most important first."""
        on = self._context.cluster.pods_on.get(row, {}).values()
        return sorted((p for p in on if p.priority < pod.priority), key=lambda p: (-p.priority, p.started))

    def _by_arithmetic(self, pod: Pod, fit: Fit, row: int, budgets: list[_Budget]) -> Candidate | None:
        lower = self._lower(pod, row)
        room = fit.room(row, self._context.cluster.used_below.of(pod.priority))
        violating, harmless = _split(lower, budgets)
        victims, violations = [], 0
        for other in violating + harmless:
            needs = [(name, other.template.requests.get(name, 0)) for name in room if name != PODS]
            if room[PODS] >= 1 and all(room[name] >= amount for name, amount in needs):
                room[PODS] -= 1
                for name, amount in needs:
                    room[name] -= amount
            else:
                victims.append(other)
                violations += other in violating
        return candidate_of(row, victims, violations)

    def _by_trial(
        self, pod: Pod, evaluation: Evaluation, row: int, budgets: list[_Budget], counts: Counter[str]
    ) -> Candidate | None:
        cluster = self._context.cluster
        lower = self._lower(pod, row)
        victims, violations = [], 0
        with cluster.tentative():
            for other in lower:
                cluster.lift(other, row)
            away = list(lower)
            try:
                if not evaluation.fits(row):
                    counts.update(evaluation.reasons_of(row))
                    return None
                violating, harmless = _split(lower, budgets)
                for other in violating + harmless:
                    cluster.put_back(other, row)
                    away.remove(other)
                    if not evaluation.fits(row):
                        cluster.lift(other, row)
                        away.append(other)
                        victims.append(other)
                        violations += other in violating
            finally:
                for other in away:
                    cluster.put_back(other, row)
        return candidate_of(row, victims, violations)

    # Disruption budgets

    def _budgets(self) -> list[_Budget]:
        return [_Budget(obj) for obj in self._context.lister("poddisruptionbudgets").list()]


def candidate_of(row: int, victims: list[Pod], violations: int) -> Candidate | None:
    """With the cost by upstream's criteria: broken budgets, the highest priority, the sum of priorities, the number,
    and how long the most important victims have run."""
    if not victims:
        return None
    victims = sorted(victims, key=lambda p: (-p.priority, p.started))
    highest = victims[0].priority
    total = sum(pod.priority + (1 << 31) for pod in victims)
    earliest = min(pod.started for pod in victims if pod.priority == highest)
    return Candidate((violations, highest, total, len(victims), -earliest), row, next(_numbers), tuple(victims))


class _Budget:
    def __init__(self, obj: Object) -> None:
        status = obj.get("status") or {}
        self.namespace = obj["metadata"].get("namespace", "")
        self.selector = selector_of((obj.get("spec") or {}).get("selector"))
        self.allowed = status.get("disruptionsAllowed") or 0
        self.disrupted = frozenset(status.get("disruptedPods") or ())

    def covers(self, pod: Pod) -> bool:
        return (
            pod.namespace == self.namespace
            and bool(pod.template.labels)
            and not self.selector.empty
            and self.selector.matches(pod.template.labels)
            and pod.name not in self.disrupted
        )


def _split(pods: Iterable[Pod], budgets: list[_Budget]) -> tuple[list[Pod], list[Pod]]:
    """Pods whose removal would break a budget, and the others; in the order given, each removal using up budgets."""
    left = [budget.allowed for budget in budgets]
    violating: list[Pod] = []
    harmless: list[Pod] = []
    for pod in pods:
        broken = False
        for n, budget in enumerate(budgets):
            if budget.covers(pod):
                left[n] -= 1
                broken = broken or left[n] < 0
        (violating if broken else harmless).append(pod)
    return violating, harmless
