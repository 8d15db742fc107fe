"""How many replicas one metric asks for. Pure; values are in thousandths, as metrics come.

Upstream's replica calculator: pods that are not ready count as using nothing when scaling up, pods without a metric
as using nothing when scaling up and all they ask for when scaling down, and neither may turn the direction round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from peavine.api.conditions import condition
from peavine.api.core.podstate import is_deleting, phase, unix_time

Object = dict[str, Any]

CPU_INITIALIZATION_SECONDS, INITIAL_READINESS_SECONDS = 300.0, 30.0
TOLERANCE = 0.1


class NoMetrics(ValueError):
    """Nothing to reckon with; the text goes into the condition."""


@dataclass
class Sample:
    """What one pod used: thousandths, when it was measured (Unix seconds) and over how many seconds."""

    value: int
    timestamp: float = 0.0
    window: float = 60.0


@dataclass
class Groups:
    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


def group(pods: list[Object], metrics: dict[str, Sample], resource: str, now: float) -> Groups:
    found = Groups()
    for pod in pods:
        name = pod["metadata"]["name"]
        if is_deleting(pod) or phase(pod) == "Failed":
            found.ignored.add(name)
        elif phase(pod) == "Pending":
            found.unready.add(name)
        elif name not in metrics:
            found.missing.add(name)
        elif resource == "cpu" and _warming_up(pod, metrics[name], now):
            found.unready.add(name)
        else:
            found.ready += 1
    return found


def _warming_up(pod: Object, sample: Sample, now: float) -> bool:
    """CPU while a container starts says nothing of the load."""
    ready, started = condition(pod, "Ready"), unix_time((pod.get("status") or {}).get("startTime"))
    if ready is None or started is None:
        return True
    since = unix_time(ready.get("lastTransitionTime")) or started
    down = ready.get("status") == "False"
    if started + CPU_INITIALIZATION_SECONDS > now:
        return down or sample.timestamp < since + sample.window
    return down and started + INITIAL_READINESS_SECONDS > since


@dataclass(frozen=True)
class Tolerance:
    up: float = TOLERANCE
    down: float = TOLERANCE

    def holds(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def by_utilization(
    current: int,
    target_percent: int,
    metrics: dict[str, Sample],
    requests: dict[str, int],
    groups: Groups,
    tolerance: Tolerance = Tolerance(),
) -> tuple[int, int, int]:
    """(replicas, utilization in percent, average value) for a share of what pods request. Raises NoMetrics."""
    kept = {n: s.value for n, s in metrics.items() if n not in groups.unready and n not in groups.ignored}
    if not kept:
        raise NoMetrics("did not receive metrics for targeted pods (pods might be unready)")

    def ratio(values: dict[str, int]) -> float:
        asked = sum(requests.get(name, 0) for name in values)
        if not asked:
            raise NoMetrics("no metrics returned matched known pods")
        return sum(values.values()) * 100 / asked / target_percent

    first = ratio(kept)
    utilization = int(sum(kept.values()) * 100 / sum(requests.get(name, 0) for name in kept))
    average = sum(kept.values()) // len(kept)
    full = max(100, target_percent)
    missing_down = {name: requests.get(name, 0) * full // 100 for name in groups.missing}
    return _settle(current, kept, first, ratio, groups, missing_down, tolerance), utilization, average


def by_average(
    current: int, target: int, metrics: dict[str, Sample], groups: Groups, tolerance: Tolerance = Tolerance()
) -> tuple[int, int]:
    """(replicas, average value) for an average per pod. Raises NoMetrics."""
    kept = {n: s.value for n, s in metrics.items() if n not in groups.unready and n not in groups.ignored}
    if not kept:
        raise NoMetrics("did not receive metrics for targeted pods (pods might be unready)")

    def ratio(values: dict[str, int]) -> float:
        return sum(values.values()) / len(values) / target

    first = ratio(kept)
    missing_down = dict.fromkeys(groups.missing, target)
    return _settle(current, kept, first, ratio, groups, missing_down, tolerance), sum(kept.values()) // len(kept)


def _settle(
    current: int,
    kept: dict[str, int],
    first: float,
    ratio: Any,
    groups: Groups,
    missing_down: dict[str, int],
    tolerance: Tolerance,
) -> int:
    up_with_unready = bool(groups.unready) and first > 1.0
    if not up_with_unready and not groups.missing:
        return current if tolerance.holds(first) else math.ceil(first * groups.ready)
    values = dict(kept)
    if groups.missing:
        if first < 1.0:
            values |= missing_down
        elif first > 1.0:
            values |= dict.fromkeys(groups.missing, 0)
    if up_with_unready:
        values |= dict.fromkeys(groups.unready, 0)
    second = ratio(values)
    if tolerance.holds(second) or (first < 1.0 < second) or (second < 1.0 < first):
        return current
    wanted = math.ceil(second * len(values))
    if (second < 1.0 and wanted > current) or (second > 1.0 and wanted < current):
        return current
    return wanted


def by_value(current: int, target: int, value: int, ready: int, tolerance: Tolerance = Tolerance()) -> int:
    """For one number about the whole (an object's, or an external metric's sum)."""
    if current == 0:
        return math.ceil(value / target)
    ratio = value / target
    return current if tolerance.holds(ratio) else math.ceil(ratio * ready)


def by_value_per_pod(current: int, target: int, value: int, tolerance: Tolerance = Tolerance()) -> int:
    if current and tolerance.holds(value / (target * current)):
        return current
    return math.ceil(value / target)
