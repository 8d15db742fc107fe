"""Where may pods of one template go, and where best: the filters and scores of a profile over all nodes, kept current.

The first question about a template costs a pass over all rows; the next ones only recompute rows that changed since,
except for filters and scores that depend on pods anywhere (spreading, pod affinity).
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from peavine.scheduler import metrics
from peavine.scheduler.context import Context
from peavine.scheduler.nodes import ALL, Ints, Mask, Rows
from peavine.scheduler.plugins.base import Check, Plugin, Rating, Rejected
from peavine.scheduler.plugins.node_resources import Fit
from peavine.scheduler.points import default_points
from peavine.scheduler.template import Template

EVALUATIONS_MAX = 256
TIMED_EVERY = 10  # passes over the plugins, of which one is measured
_INFEASIBLE = -1


class Profile(NamedTuple):
    """A scheduler's name and what it decides by."""

    name: str
    plugins: tuple[tuple[Plugin, int], ...]  # filters in order of their reasons; the weight is of the score
    filters: frozenset[str]  # names of plugins whose filter is on
    scores: frozenset[str]
    points: Mapping[str, tuple[str, ...]] = MappingProxyType(default_points())  # names of plugins at every point
    broken: str = ""  # why every attempt fails, where one point needs another that is off
    percentage: int = 0  # of nodes to score; 0: all of them
    args: Mapping[str, Mapping[str, Any]] = MappingProxyType({})  # of plugins, as configured

    def has(self, point: str, plugin: str) -> bool:
        return plugin in self.points[point]


class Reasons(NamedTuple):
    """Why no node fits: how many nodes gave each reason, and which plugins refused."""

    counts: Counter[str]
    plugins: frozenset[str]
    hopeless: Mask  # rows where fewer pods would not help


class Evaluation:
    """Raises `Rejected` from its methods where no node matters."""

    def __init__(self, context: Context, profile: Profile, template: Template) -> None:
        self._context, self._profile, self.template = context, profile, template
        self._version = -1
        self._carriers_version = -1
        self._position = -1
        self._passes = 0  # of filters and scores, to measure some of them
        self.attempts = 0  # pods that were tried since the metrics were last told
        self._explained: tuple[int, int, Reasons] | None = None
        self._noted: tuple[int, int, Any] | None = None
        self._checks: list[tuple[str, Check]] = []
        self._ratings: list[tuple[str, int, Rating]] = []

    # Keeping current

    def _refresh(self) -> None:
        cluster = self._context.cluster
        version = cluster.version + self._context.version_for(self.template)
        if version != self._version:
            self._prepare()
            # Read again: making cohorts may have made room by forgetting others.
            self._version = cluster.version + self._context.version_for(self.template)
            self._recompute(ALL)
        else:
            if cluster.carriers_version != self._carriers_version:
                self._prepare_affinity()
            changed = cluster.changed_since(self._position)
            if changed is None or len(changed) > cluster.nodes.capacity // 4:
                self._recompute(ALL)
            elif changed:
                self._recompute(np.array(list(set(changed))))
        self._carriers_version = cluster.carriers_version
        self._position = cluster.position

    def _prepare(self) -> None:
        self._version = -1  # stays stale if a plugin rejects
        self._checks, self._ratings = [], []
        for plugin, weight in self._profile.plugins:
            self._prepare_plugin(plugin, weight)

    def _prepare_plugin(self, plugin: Plugin, weight: int) -> None:
        if plugin.name in self._profile.filters:
            started = time.perf_counter()
            check = plugin.check(self._context, self.template)
            metrics.plugin_seconds(plugin.name, "PreFilter").observe(time.perf_counter() - started)
            if check is not None:
                self._checks.append((plugin.name, check))
        if weight and plugin.name in self._profile.scores:
            started = time.perf_counter()
            rating = plugin.rating(self._context, self.template)
            metrics.plugin_seconds(plugin.name, "PreScore").observe(time.perf_counter() - started)
            if rating is not None:
                self._ratings.append((plugin.name, weight, rating))
        self._locals = [c for _, c in self._checks if c.local]
        self._globals = [c for _, c in self._checks if not c.local]
        self._local_ratings = [(w, r) for _, w, r in self._ratings if r.local]
        self._global_ratings = [(w, r) for _, w, r in self._ratings if not r.local]

    def _prepare_affinity(self) -> None:
        """The terms that pods carry have changed: only this plugin reads them."""
        for plugin, weight in self._profile.plugins:
            if plugin.name == "InterPodAffinity":
                order = {plugin.name: n for n, (plugin, _) in enumerate(self._profile.plugins)}
                self._checks = [c for c in self._checks if c[0] != plugin.name]
                self._ratings = [r for r in self._ratings if r[0] != plugin.name]
                self._prepare_plugin(plugin, weight)
                self._checks.sort(key=lambda c: order[c[0]])

    def _recompute(self, rows: Rows) -> None:
        nodes = self._context.cluster.nodes
        ok = nodes.present[rows].copy()
        self._passes += 1
        timed = self._passes % TIMED_EVERY == 0
        for check in self._locals:
            started = time.perf_counter() if timed else 0.0
            ok &= check.ok(rows)
            if timed:
                metrics.plugin_seconds(check.plugin, "Filter").observe(time.perf_counter() - started)
        if rows is ALL:
            score: Ints = np.zeros(nodes.capacity, np.int64)
        else:
            score = np.zeros(len(rows), np.int64)
        for weight, rating in self._local_ratings:
            started = time.perf_counter() if timed else 0.0
            score += weight * rating.rate(rows, ok)
            if timed:
                metrics.plugin_seconds(rating.plugin, "Score").observe(time.perf_counter() - started)
        if rows is ALL:
            self._ok, self._score = ok, score
            self._masked = np.where(ok, score, _INFEASIBLE)
        else:
            self._ok[rows] = ok
            self._score[rows] = score
            self._masked[rows] = np.where(ok, score, _INFEASIBLE)

    # Asking

    def feasible(self) -> Mask:
        """Rows where a pod of the template fits now. Do not change it."""
        self._refresh()
        if not self._globals:
            return self._ok
        mask = self._ok.copy()
        self._passes += 1
        timed = self._passes % TIMED_EVERY == 0
        for check in self._globals:
            started = time.perf_counter() if timed else 0.0
            mask &= check.ok()
            if timed:
                metrics.plugin_seconds(check.plugin, "Filter").observe(time.perf_counter() - started)
        return mask

    def best(self, exclude: Rows | None = None, among: Mask | None = None) -> tuple[Ints, int]:
        """The rows with the highest total score (all of them, for the caller to choose), and how many rows fit.

        `exclude` are rows that are not to be considered, though they fit; `among`, where given, those that are."""
        self._refresh()
        if not self._globals and not self._global_ratings and exclude is None and among is None:
            scores = self._masked
            feasible = self._ok
        else:
            feasible = self.feasible()
            if among is not None:
                feasible = feasible & among
            if exclude is not None:
                feasible = feasible.copy()
                feasible[exclude] = False
            scores = np.where(feasible, self.totals(feasible), _INFEASIBLE)
        number = int(np.count_nonzero(feasible))
        if not number:
            return np.zeros(0, np.int64), 0
        return np.flatnonzero(scores == scores.max()), number

    def totals(self, feasible: Mask) -> Ints:
        """The weighted sum of all scores for each row, given which are feasible."""
        total = self._score
        timed = self._passes % TIMED_EVERY == 0
        for weight, rating in self._global_ratings:
            started = time.perf_counter() if timed else 0.0
            total = total + weight * rating.rate(ALL, feasible)
            if timed:
                metrics.plugin_seconds(rating.plugin, "Score").observe(time.perf_counter() - started)
        return total

    def fits(self, row: int) -> bool:
        """Whether the template fits one row as the arrays are now, read without refreshing anything that is kept: for
        questions of the kind "what if" between changes that are taken back."""
        if self._version < 0:
            self._refresh()
        rows = np.array([row])
        return bool(self._context.cluster.nodes.present[row]) and all(bool(c.ok(rows)[0]) for _, c in self._checks)

    def reasons_of(self, row: int) -> list[str]:
        """Why the row fails as the arrays are now: the reasons of the first check that refuses it."""
        failed = np.zeros(self._context.cluster.nodes.capacity, np.bool_)
        failed[row] = True
        for _, check in self._checks:
            if not check.ok(np.array([row]))[0]:
                return [reason for reason, mask in check.explain(failed) if mask[row]]
        return []

    def fit(self) -> Fit | None:
        """The check of the resources, if the profile has it."""
        self._refresh()
        return next((check for _, check in self._checks if isinstance(check, Fit)), None)

    def only_resources(self) -> bool:
        """Whether fewer pods on a node can change nothing but the room there."""
        return all(check.static or isinstance(check, Fit) for _, check in self._checks)

    def note(self, conclusion: Any) -> None:
        """Keep what was concluded for any pod of the template, for as long as nothing in the cluster changes."""
        self._noted = (self._version, self._position, conclusion)

    def noted(self) -> Any:
        """The last conclusion, None where the cluster has changed since."""
        self._refresh()
        return self._noted[2] if self._noted and self._noted[:2] == (self._version, self._position) else None

    def reasons(self, only: int | None = None) -> Reasons:
        """Why nothing fits (ask when nothing does). `only`: the one row that matters (-1: none), as if alone."""
        self._refresh()
        cluster = self._context.cluster
        if only is None and self._explained and self._explained[:2] == (self._version, self._position):
            return self._explained[2]
        if only is None:
            left = cluster.nodes.present.copy()
        else:
            left = np.zeros(cluster.nodes.capacity, np.bool_)
            if only >= 0:
                left[only] = cluster.nodes.present[only]
        counts: Counter[str] = Counter()
        plugins = set()
        hopeless = np.zeros_like(left)
        for name, check in self._checks:
            failed = left & ~check.ok()
            if not failed.any():
                continue
            plugins.add(name)
            for reason, mask in check.explain(failed):
                if number := int(np.count_nonzero(mask)):
                    counts[reason] += number
            hopeless |= check.hopeless(failed)
            left = left & ~failed
        reasons = Reasons(counts, frozenset(plugins), hopeless)
        if only is None:
            self._explained = (self._version, self._position, reasons)
        return reasons

    def counted(self) -> None:
        """Tell the metrics how many pods each plugin was asked about."""
        if self.attempts:
            for name, _ in self._checks:
                for point in ("PreFilter", "Filter"):
                    metrics.EVALUATIONS.labels(name, point, self._profile.name).inc(self.attempts)
            self.attempts = 0


class Evaluations:
    """The evaluations of the templates that were asked about lately."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: OrderedDict[tuple[str, Template], Evaluation] = OrderedDict()

    def of(self, profile: Profile, template: Template) -> Evaluation:
        key = (profile.name, template)
        evaluation = self._kept.get(key)
        if evaluation is None:
            evaluation = self._kept[key] = Evaluation(self._context, profile, template)
            if len(self._kept) > EVALUATIONS_MAX:
                self._kept.popitem(last=False)[1].counted()
        else:
            self._kept.move_to_end(key)
        return evaluation

    def counted(self) -> None:
        for evaluation in self._kept.values():
            evaluation.counted()


__all__ = ["Evaluation", "Evaluations", "Profile", "Reasons", "Rejected"]
