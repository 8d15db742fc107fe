"""From requests and limits to control groups: the arithmetic of CPU shares, quotas, OOM scores and QoS groups."""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from peavine.api.core.resources import pod_limits, pod_requests
from peavine.linux.cgroups import PERIOD_MICROSECONDS, Limits
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]

SHARES_MIN, SHARES_MAX = 2, 262_144
QUOTA_MICROSECONDS_MIN = 1000
SYSTEM_CRITICAL = 2_000_000_000
OOM_GUARANTEED, OOM_BEST_EFFORT, OOM_POD_INFRA = -997, 1000, -998


def milli_to_shares(milli: int) -> int:
    """0 means nothing was asked for: the smallest share."""
    return SHARES_MIN if milli == 0 else max(SHARES_MIN, min(SHARES_MAX, milli * 1024 // 1000))


def milli_to_quota(milli: int, period: int = PERIOD_MICROSECONDS) -> int:
    return 0 if milli == 0 else max(QUOTA_MICROSECONDS_MIN, milli * period // 1000)


def _amount(resources: Object | None, name: str) -> Any:
    text = (resources or {}).get(name)
    return None if text is None else parse_quantity(text)


def linux_resources(pod: Object, container: Object, *, memory_capacity: int, quota: bool = True) -> Object:
    """CRI's LinuxContainerResources of one container."""
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    cpu_request, cpu_limit = _amount(requests, "cpu"), _amount(limits, "cpu")
    memory_limit = _amount(limits, "memory")
    # A limit without a request asks for as much.
    wanted = cpu_request if cpu_request is not None else cpu_limit
    found: Object = {
        "cpu_shares": milli_to_shares(wanted.milli() if wanted is not None else 0),
        "oom_score_adj": oom_score(pod, container, memory_capacity),
    }
    if memory_limit is not None and memory_limit.value() > 0:
        found["memory_limit_in_bytes"] = memory_limit.value()
    if quota and cpu_limit is not None and cpu_limit.milli() > 0:
        found["cpu_period"] = PERIOD_MICROSECONDS
        found["cpu_quota"] = milli_to_quota(cpu_limit.milli())
    pages = [
        {"page_size": name.removeprefix("hugepages-").replace("Mi", "MB").replace("Gi", "GB"), "limit": q.value()}
        for name in limits
        if name.startswith("hugepages-") and (q := _amount(limits, name)) is not None
    ]
    if pages:
        found["hugepage_limits"] = pages
    return found


def swap_bytes(pod: Object, container: Object, behavior: str, *, memory_capacity: int, swap_capacity: int) -> int:
    """How much a container may swap: with LimitedSwap, burstable ones (critical pods aside) the share of the machine's
    swap that their request has of its memory; others, and those that asked for all that they may have, nothing."""
    spec = pod.get("spec") or {}
    if behavior != "LimitedSwap" or qos_class(pod) != BURSTABLE or memory_capacity <= 0:
        return 0
    if (spec.get("priority") or 0) >= SYSTEM_CRITICAL:
        return 0
    asked = _amount((container.get("resources") or {}).get("requests"), "memory")
    limit = _amount((container.get("resources") or {}).get("limits"), "memory")
    if asked is None or asked.sign() <= 0 or (limit is not None and limit == asked):
        return 0
    return int(asked.value() * swap_capacity // memory_capacity)


def oom_score(pod: Object, container: Object, memory_capacity: int) -> int:
    """The more memory a burstable container asked for, the later the kernel kills it."""
    spec = pod.get("spec") or {}
    if spec.get("priorityClassName") == "system-node-critical" or (spec.get("priority") or 0) >= 2_000_001_000:
        return OOM_GUARANTEED
    quality = qos_class(pod)
    if quality == GUARANTEED:
        return OOM_GUARANTEED
    if quality == BEST_EFFORT or memory_capacity <= 0:
        return OOM_BEST_EFFORT
    request = _amount((container.get("resources") or {}).get("requests"), "memory")
    if request is None:
        request = _amount((container.get("resources") or {}).get("limits"), "memory")
    asked = request.value() if request is not None else 0
    score = 1000 - 1000 * asked // memory_capacity
    # Between guaranteed (with room for the runtime's own) and best effort, both excluded.
    if score < 1000 + OOM_GUARANTEED:
        return 1000 + OOM_GUARANTEED
    return OOM_BEST_EFFORT - 1 if score == OOM_BEST_EFFORT else score


def pod_group(root: str, pod: Object) -> str:
    """The control group of the pod: `kubepods/[burstable|besteffort/]pod<uid>` below the root."""
    quality = qos_class(pod)
    middle = "" if quality == GUARANTEED else f"/{quality.lower()}"
    return f"{root.rstrip('/')}/kubepods{middle}/pod{pod['metadata']['uid']}"


def pod_limits_of_group(pod: Object, pids_max: int = -1) -> Limits:
    """Limits of the pod's own group: bounded only where every container is."""
    spec = pod.get("spec") or {}
    requests, limits = pod_requests(pod), pod_limits(pod)
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    own = (spec.get("resources") or {}).get("limits") or {}

    def bounded(name: str) -> bool:
        if name in own:
            return True
        return all(name in ((c.get("resources") or {}).get("limits") or {}) for c in containers)

    cpu = requests["cpu"].milli() if "cpu" in requests else 0
    return Limits(
        cpu_shares=milli_to_shares(cpu),
        cpu_quota=milli_to_quota(limits["cpu"].milli()) if "cpu" in limits and bounded("cpu") else -1,
        memory_bytes=limits["memory"].value() if "memory" in limits and bounded("memory") else -1,
        pids=pids_max if pids_max > 0 else -1,
    )
