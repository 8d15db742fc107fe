"""How many replicas each ReplicaSet of a Deployment may have: pure rules over plain objects.

Upstream: "Rolling Update Deployment", "Proportional scaling" in the Deployments page; pkg/controller/deployment.
"""

from __future__ import annotations

import math
from typing import Any

Object = dict[str, Any]

DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"


def replicas_of(obj: Object) -> int:
    """`spec.replicas`, 1 where it is absent."""
    wanted = obj["spec"].get("replicas")
    return 1 if wanted is None else wanted


def available_of(replica_set: Object) -> int:
    return (replica_set.get("status") or {}).get("availableReplicas") or 0


def total(replica_sets: list[Object]) -> int:
    return sum(replicas_of(rs) for rs in replica_sets)


def scaled(value: int | str | None, of: int, *, up: bool) -> int:
    """An int-or-percent of `of`, rounded up or down. Raises ValueError for anything else."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(f"invalid value for IntOrString: {value!r} is not a percentage")
    exact = int(value[:-1]) * of / 100
    return math.ceil(exact) if up else math.floor(exact)


def is_rolling(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"


def fenceposts(deployment: Object) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods. Both zero would never move: then one pod may be unavailable."""
    if not is_rolling(deployment) or replicas_of(deployment) == 0:
        return 0, 0
    rolling = (deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
    wanted = replicas_of(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), wanted, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, wanted)


def new_replica_set_size(deployment: Object, all_sets: list[Object], current: int) -> int:
    """What the new ReplicaSet, now at `current`, may be scaled to without passing maxSurge."""
    wanted = replicas_of(deployment)
    if not is_rolling(deployment):
        return wanted
    room = wanted + fenceposts(deployment)[0] - total(all_sets)
    return current if room <= 0 else current + min(room, wanted - current)


def old_replica_set_sizes(deployment: Object, new: Object | None, old: list[Object]) -> dict[str, int]:
    """New sizes of the old ReplicaSets (oldest first), by name; only those that change.

    Pods that are not available go first: they cost no availability.
    """
    if total(old) == 0:
        return {}
    all_sets = [*old, new] if new else old
    least = replicas_of(deployment) - fenceposts(deployment)[1]
    new_unavailable = replicas_of(new) - available_of(new) if new else 0
    removable = total(all_sets) - least - new_unavailable
    if removable <= 0:
        return {}
    sizes = {rs["metadata"]["name"]: replicas_of(rs) for rs in old}
    cleaned = 0
    for rs in old:
        name = rs["metadata"]["name"]
        unhealthy = min(removable - cleaned, sizes[name] - available_of(rs))
        if sizes[name] and unhealthy > 0:
            sizes[name] -= unhealthy
            cleaned += unhealthy
    spare = sum(available_of(rs) for rs in all_sets) - least
    for rs in old:
        name = rs["metadata"]["name"]
        step = min(sizes[name], max(0, spare))
        sizes[name] -= step
        spare -= step
    return {rs["metadata"]["name"]: n for rs in old if (n := sizes[rs["metadata"]["name"]]) != replicas_of(rs)}


def proportional_sizes(deployment: Object, active: list[Object]) -> dict[str, int]:
    """New sizes of all active ReplicaSets when a Deployment is scaled in the middle of a rollout."""
    wanted = replicas_of(deployment)
    allowed = wanted + fenceposts(deployment)[0] if wanted > 0 else 0
    to_add = allowed - total(active)
    # The larger ones carry the change; among equals the newer gains first and the older loses first.
    by_age = sorted(active, key=lambda rs: rs["metadata"].get("creationTimestamp", ""), reverse=to_add > 0)
    ordered = sorted(by_age, key=replicas_of, reverse=True)
    added, sizes = 0, {}
    for rs in ordered:
        size = replicas_of(rs)
        share = _share(rs, deployment, allowed, to_add - added) if to_add else 0
        sizes[rs["metadata"]["name"]] = size + share
        added += share
    if ordered and to_add - added:
        name = ordered[0]["metadata"]["name"]
        sizes[name] = max(0, sizes[name] + to_add - added)
    return sizes


def _share(rs: Object, deployment: Object, allowed: int, left: int) -> int:
    size = replicas_of(rs)
    if size == 0 or left == 0:
        return 0
    if replicas_of(deployment) == 0:
        share = -size
    else:
        annotated = (rs["metadata"].get("annotations") or {}).get(MAX_REPLICAS, "")
        before = int(annotated) if annotated.isdigit() else (deployment.get("status") or {}).get("replicas", 0)
        if not before:
            return 0
        share = math.floor(size * allowed / before + 0.5) - size
    return min(share, left) if left > 0 else max(share, left)
