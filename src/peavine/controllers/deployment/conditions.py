"""A Deployment's status: counts and the conditions Available, Progressing and ReplicaFailure. Pure."""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import condition, is_terminal
from peavine.controllers.deployment.arithmetic import available_of, fenceposts, replicas_of
from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time

Object = dict[str, Any]

NO_DEADLINE = 2**31 - 1


def new_condition(type: str, status: str, reason: str, message: str, now: float) -> Object:
    when = stamp(now)
    return {
        "type": type,
        "status": status,
        "lastUpdateTime": when,
        "lastTransitionTime": when,
        "reason": reason,
        "message": message,
    }


def put_condition(status: Object, new: Object) -> None:
    """Set a condition: unchanged if status and reason are, and its transition time kept if its status is."""
    conditions = status.setdefault("conditions", [])
    for i, old in enumerate(conditions):
        if old["type"] == new["type"]:
            if (old["status"], old.get("reason")) == (new["status"], new["reason"]):
                return
            if old["status"] == new["status"]:
                new["lastTransitionTime"] = old.get("lastTransitionTime", new["lastTransitionTime"])
            del conditions[i]
            break
    conditions.append(new)


def drop_condition(status: Object, type: str) -> None:
    status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != type]


def has_deadline(deployment: Object) -> bool:
    deadline = deployment["spec"].get("progressDeadlineSeconds")
    return deadline is not None and deadline != NO_DEADLINE


def counted_status(
    deployment: Object, new: Object | None, all_sets: list[Object], pods: list[Object], now: float
) -> Object:
    """Counts and the Available condition; the other conditions as they were."""
    old = deployment.get("status") or {}
    wanted = replicas_of(deployment)
    available = sum(available_of(rs) for rs in all_sets)
    replicas = sum((rs.get("status") or {}).get("replicas") or 0 for rs in all_sets)
    counts = {
        "replicas": replicas,
        "updatedReplicas": ((new.get("status") or {}).get("replicas") or 0) if new else 0,
        "readyReplicas": sum((rs.get("status") or {}).get("readyReplicas") or 0 for rs in all_sets),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(replicas_of(rs) for rs in all_sets) - available),
    }
    status: Object = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    status |= {k: v for k, v in counts.items() if v}
    status["terminatingReplicas"] = sum("deletionTimestamp" in p["metadata"] and not is_terminal(p) for p in pods)
    if old.get("collisionCount"):
        status["collisionCount"] = old["collisionCount"]
    if old.get("conditions"):
        status["conditions"] = [dict(c) for c in old["conditions"]]
    if available >= wanted - fenceposts(deployment)[1]:
        words = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        words = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    put_condition(status, new_condition("Available", *words, now))
    return status


def is_complete(deployment: Object, status: Object) -> bool:
    """Every replica is of the new template and available, and no other is left."""
    wanted = replicas_of(deployment)
    return (
        status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
        and status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    )


def _progresses(old: Object, new: Object) -> bool:
    def count(status: Object, name: str) -> int:
        return status.get(name) or 0

    def outdated(status: Object) -> int:
        return count(status, "replicas") - count(status, "updatedReplicas")

    return (
        count(new, "updatedReplicas") > count(old, "updatedReplicas")
        or outdated(new) < outdated(old)
        or count(new, "readyReplicas") > count(old, "readyReplicas")
        or count(new, "availableReplicas") > count(old, "availableReplicas")
    )


def timed_out(deployment: Object, status: Object, now: float) -> bool:
    current = condition({"status": status}, "Progressing")
    if current is None or current.get("reason") == "NewReplicaSetAvailable":
        return False
    if current.get("reason") == "ProgressDeadlineExceeded":
        return True
    return parse_time(current["lastUpdateTime"]) + deployment["spec"]["progressDeadlineSeconds"] < now


def rollout_status(
    deployment: Object, new: Object | None, all_sets: list[Object], pods: list[Object], now: float
) -> Object:
    """The whole status in a rollout: counts, Available, Progressing (where there is a deadline), ReplicaFailure."""
    status = counted_status(deployment, new, all_sets, pods, now)
    if not has_deadline(deployment):
        drop_condition(status, "Progressing")
    current = condition({"status": status}, "Progressing")
    settled = (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current.get("reason") == "NewReplicaSetAvailable"
    )
    if has_deadline(deployment) and not settled:
        subject = f'ReplicaSet "{new["metadata"]["name"]}"' if new else f'Deployment "{deployment["metadata"]["name"]}"'
        if is_complete(deployment, status):
            words = ("True", "NewReplicaSetAvailable", f"{subject} has successfully progressed.")
            put_condition(status, new_condition("Progressing", *words, now))
        elif _progresses(deployment.get("status") or {}, status):
            moving = new_condition("Progressing", "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
            if current is not None and current["status"] == "True":
                moving["lastTransitionTime"] = current.get("lastTransitionTime", moving["lastTransitionTime"])
            # Replaced even when nothing but lastUpdateTime differs: progress restarts the deadline.
            drop_condition(status, "Progressing")
            status["conditions"].append(moving)
        elif timed_out(deployment, status, now):
            words = ("False", "ProgressDeadlineExceeded", f"{subject} has timed out progressing.")
            put_condition(status, new_condition("Progressing", *words, now))
    failures = [c for rs in ([new] if new else []) + all_sets if (c := condition(rs, "ReplicaFailure"))]
    if failures:
        first = failures[0]
        failure = new_condition(
            "ReplicaFailure", first["status"], first.get("reason", ""), first.get("message", ""), now
        )
        put_condition(status, failure)
    else:
        drop_condition(status, "ReplicaFailure")
    if not status.get("conditions"):
        status.pop("conditions", None)
    return status


def seconds_until_deadline(deployment: Object, status: Object, now: float) -> float | None:
    """When to look again to notice that a silent rollout is stuck; None where nothing can time out."""
    current = condition({"status": status}, "Progressing")
    if not has_deadline(deployment) or current is None or is_complete(deployment, status):
        return None
    if current.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
        return None
    return max(0.0, parse_time(current["lastUpdateTime"]) + deployment["spec"]["progressDeadlineSeconds"] - now) + 1
