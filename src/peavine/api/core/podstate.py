"""Questions about a pod that controllers, scheduler and kubelet all ask: is it ready, active, done; what is its QoS."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from peavine.api.conditions import condition as condition
from peavine.api.conditions import is_true
from peavine.api.conditions import set_condition as set_condition
from peavine.api.core.resources import is_sidecar

Object = dict[str, Any]

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"


def phase(pod: Object) -> str:
    return (pod.get("status") or {}).get("phase") or ""


def is_terminal(pod: Object) -> bool:
    """Whether all containers have ended for good."""
    return phase(pod) in (SUCCEEDED, FAILED)


def is_deleting(pod: Object) -> bool:
    return bool((pod.get("metadata") or {}).get("deletionTimestamp"))


def is_active(pod: Object) -> bool:
    """Whether a controller counts this pod as one of its replicas: neither ended nor being deleted."""
    return not is_terminal(pod) and not is_deleting(pod)


def is_ready(pod: Object) -> bool:
    return is_true(pod, "Ready")


def is_available(pod: Object, min_ready_seconds: int, now: float) -> bool:
    """Whether the pod has been ready for `min_ready_seconds` at `now` (Unix seconds)."""
    entry = condition(pod, "Ready")
    if entry is None or entry.get("status") != "True":
        return False
    if not min_ready_seconds:
        return True
    since = unix_time(entry.get("lastTransitionTime"))
    return since is not None and since + min_ready_seconds <= now


def available_in(pod: Object, min_ready_seconds: int, now: float) -> float | None:
    """Seconds until a ready pod becomes available (0: it is), or None while it is not ready."""
    entry = condition(pod, "Ready")
    if entry is None or entry.get("status") != "True":
        return None
    since = unix_time(entry.get("lastTransitionTime")) or now
    return max(0.0, since + min_ready_seconds - now)


def unix_time(text: str | None) -> float | None:
    """Unix seconds of an RFC3339 time of the wire; None for none or for a broken one."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def restart_count(pod: Object) -> int:
    """The highest restart count of any container: what a controller ranks pods for deletion by."""
    status = pod.get("status") or {}
    return max((s.get("restartCount") or 0 for s in status.get("containerStatuses") or []), default=0)


def all_containers(spec: Object) -> list[Object]:
    """Init, regular and ephemeral containers of a pod spec, in that order."""
    return [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
        *(spec.get("ephemeralContainers") or []),
    ]


def long_running_containers(spec: Object) -> list[Object]:
    """Sidecars and regular containers: those whose readiness is the pod's readiness."""
    return [c for c in spec.get("initContainers") or [] if is_sidecar(c)] + list(spec.get("containers") or [])


def qos_class(pod: Object) -> str:
    """The quality of service by which the kubelet evicts and the kernel kills. Only CPU and memory count."""
    spec = pod.get("spec") or {}
    own = spec.get("resources") or {}
    holders = (
        [spec]
        if own.get("requests") or own.get("limits")
        else [
            *(spec.get("containers") or []),
            *(spec.get("initContainers") or []),
        ]
    )
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for holder in holders:
        resources = holder.get("resources") or {}
        _add(requests, resources.get("requests"))
        if len(_add(limits, resources.get("limits"))) < 2:
            guaranteed = False
    if not requests and not limits:
        return BEST_EFFORT
    return GUARANTEED if guaranteed and requests == limits else BURSTABLE


def _add(total: dict[str, int], resources: Object | None) -> set[str]:
    """Add positive CPU and memory (in nanos) to `total`; the names that were there."""
    from peavine.machinery.quantity import parse_quantity

    found = set()
    for name in ("cpu", "memory"):
        nanos = parse_quantity((resources or {}).get(name, "0")).nanos
        if nanos > 0:
            total[name] = total.get(name, 0) + nanos
            found.add(name)
    return found


def host_ports(pod: Object) -> list[tuple[str, str, int]]:
    """(address, protocol, port) of every host port that the pod takes on its node."""
    spec = pod.get("spec") or {}
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in long_running_containers(spec)
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]


def controller_of(obj: Object) -> Object | None:
    """The owner reference that is marked as controller, or None."""
    for owner in (obj.get("metadata") or {}).get("ownerReferences") or []:
        if owner.get("controller"):
            return owner  # type: ignore[no-any-return]
    return None


def find_port(pod: Object, target: int | str, protocol: str = "TCP") -> int | None:
    """The number of a Service's target port in this pod: itself, or that of the container port of that name."""
    if isinstance(target, int):
        return target
    if target.isdigit():
        return int(target)
    for container in long_running_containers(pod.get("spec") or {}):
        for port in container.get("ports") or []:
            if port.get("name") == target and (port.get("protocol") or "TCP") == protocol:
                return port["containerPort"]  # type: ignore[no-any-return]
    return None
