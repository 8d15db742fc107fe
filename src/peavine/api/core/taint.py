"""Taints and tolerations: which pod may be, or stay, on which node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Object = dict[str, Any]

NO_SCHEDULE, PREFER_NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "PreferNoSchedule", "NoExecute"

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
MEMORY_PRESSURE = "node.kubernetes.io/memory-pressure"
DISK_PRESSURE = "node.kubernetes.io/disk-pressure"
PID_PRESSURE = "node.kubernetes.io/pid-pressure"
NETWORK_UNAVAILABLE = "node.kubernetes.io/network-unavailable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a toleration covers a taint. An empty effect covers all effects; Exists without a key, all keys."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    value, tainted = toleration.get("value") or "", taint.get("value") or ""
    if operator == "Equal":
        return bool(toleration.get("key")) and value == tainted
    if operator in ("Gt", "Lt"):
        try:
            left, right = int(tainted), int(value)
        except ValueError:
            return False
        return left > right if operator == "Gt" else left < right
    return False


def tolerated(taint: Object, tolerations: Iterable[Object]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def untolerated(
    taints: Iterable[Object] | None,
    tolerations: list[Object] | None,
    effects: Iterable[str] = (NO_SCHEDULE, NO_EXECUTE),
) -> Object | None:
    """The first taint with one of `effects` that no toleration covers, or None."""
    wanted = frozenset(effects)
    for taint in taints or ():
        if taint.get("effect") in wanted and not tolerated(taint, tolerations or ()):
            return taint
    return None


def toleration_seconds(taints: list[Object], tolerations: list[Object] | None) -> float | None:
    """How long a pod may stay under NoExecute `taints`: 0 not at all, None for ever, else the shortest time."""
    shortest: float | None = None
    for taint in taints:
        used = [t for t in tolerations or [] if tolerates(t, taint)]
        if not used:
            return 0.0
        for toleration in used:
            seconds = toleration.get("tolerationSeconds")
            if seconds is not None and (shortest is None or seconds < shortest):
                shortest = float(max(0, seconds))
    return shortest


def same(a: Object, b: Object) -> bool:
    """Whether two taints are the same one: key and effect; the value is its content."""
    return a.get("key") == b.get("key") and a.get("effect") == b.get("effect")
