"""How long a Job waits after failures before it starts the next pod: 10 s, doubled with each, at most 10 minutes."""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import phase
from peavine.controllers.job.policies import all_failures
from peavine.machinery.meta import parse_time

Object = dict[str, Any]

FIRST_SECONDS = 10.0
MOST_SECONDS = 600.0


def seconds_left(failures: int, last: float, now: float) -> float:
    if failures == 0:
        return 0.0
    return max(0.0, last + min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 20)) - now)


def of_job(pods: list[Object], now: float) -> float:
    """For the Job as a whole: the failures since the last success count."""
    succeeded = max((ended_at(p, now) for p in pods if phase(p) == "Succeeded"), default=0.0)
    recent = sorted(t for p in pods if phase(p) == "Failed" and (t := ended_at(p, now)) > succeeded)
    return seconds_left(len(recent), recent[-1], now) if recent else 0.0


def of_index(last_failed: Object | None, now: float) -> float:
    """For one index of a Job with backoffLimitPerIndex."""
    if last_failed is None:
        return 0.0
    return seconds_left(all_failures(last_failed) + 1, ended_at(last_failed, now), now)


def ended_at(pod: Object, now: float) -> float:
    """When its last container ended; of a pod that never ran, when it was deleted."""
    ends = [
        parse_time(t["finishedAt"])
        for c in (pod.get("status") or {}).get("containerStatuses") or ()
        if (t := (c.get("state") or {}).get("terminated")) and t.get("finishedAt")
    ]
    if ends:
        return max(ends)
    meta = pod["metadata"]
    ready = next((c for c in (pod.get("status") or {}).get("conditions") or () if c["type"] == "Ready"), None)
    for moment in (meta.get("deletionTimestamp"), (ready or {}).get("lastTransitionTime")):
        if moment:
            return min(parse_time(moment), now)
    return now
