"""What a pod asks for and may use: the arithmetic over containers, init containers, sidecars, overhead and pod level.

Follows component-helpers' `resource` package: regular containers add up; an init container needs its own request plus
that of the sidecars started before it; the pod needs the largest of these; pod-level resources replace the sum for the
resources they name; overhead comes on top.
"""

from __future__ import annotations

from typing import Any

from peavine.machinery.quantity import ZERO, Quantity, parse_quantity

Resources = dict[str, Quantity]
Object = dict[str, Any]

POD_LEVEL_PREFIXES = ("hugepages-",)
POD_LEVEL_NAMES = frozenset(("cpu", "memory"))


def pod_requests(pod: Object, *, resized: bool = False, overhead: bool = True, pod_level: bool = True) -> Resources:
    """The requests that the scheduler reserves and the kubelet admits by.

    With `resized`, a container that is being resized in place counts with the larger of what it wants and what it has
    (status.containerStatuses).
    """
    return _total(pod, "requests", resized=resized, overhead=overhead, pod_level=pod_level)


def pod_limits(pod: Object, *, overhead: bool = True, pod_level: bool = True) -> Resources:
    """The limits of the whole pod. Overhead is added only to resources that have a limit."""
    return _total(pod, "limits", resized=False, overhead=overhead, pod_level=pod_level)


def container_requests(container: Object) -> Resources:
    return parse_resources((container.get("resources") or {}).get("requests"))


def container_limits(container: Object) -> Resources:
    return parse_resources((container.get("resources") or {}).get("limits"))


def parse_resources(resources: dict[str, Any] | None) -> Resources:
    """A resource list of the wire with its quantities parsed."""
    return {name: parse_quantity(value) for name, value in (resources or {}).items()}


def is_sidecar(container: Object) -> bool:
    """An init container that keeps running beside the main ones."""
    return container.get("restartPolicy") == "Always"


def is_pod_level(name: str) -> bool:
    """Whether a resource may be set for the pod as a whole."""
    return name in POD_LEVEL_NAMES or name.startswith(POD_LEVEL_PREFIXES)


def add(total: Resources, more: Resources) -> None:
    for name, quantity in more.items():
        total[name] = total[name] + quantity if name in total else quantity


def raise_to(total: Resources, floor: Resources) -> None:
    """Make each resource of `total` at least what it is in `floor`."""
    for name, quantity in floor.items():
        if name not in total or total[name] < quantity:
            total[name] = quantity


def sum_of(resources: Resources, name: str) -> Quantity:
    return resources.get(name, ZERO)


def _total(pod: Object, what: str, *, resized: bool, overhead: bool, pod_level: bool) -> Resources:
    spec = pod.get("spec") or {}
    statuses: dict[str, Object] = {}
    if resized:
        status = pod.get("status") or {}
        for name in ("containerStatuses", "initContainerStatuses"):
            statuses |= {s.get("name", ""): s for s in status.get(name) or []}
    total = _containers(spec, what, statuses)
    if pod_level:
        own = parse_resources((spec.get("resources") or {}).get(what))
        total |= {name: quantity for name, quantity in own.items() if is_pod_level(name)}
    if overhead and spec.get("overhead"):
        extra = parse_resources(spec["overhead"])
        if what == "limits":
            extra = {name: quantity for name, quantity in extra.items() if name in total}
        add(total, extra)
    return total


def _containers(spec: Object, what: str, statuses: dict[str, Object]) -> Resources:
    total: Resources = {}
    for container in spec.get("containers") or []:
        add(total, _one(container, what, statuses))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in spec.get("initContainers") or []:
        needs = _one(container, what, statuses)
        if is_sidecar(container):
            add(total, needs)
            add(sidecars, needs)
            needs = dict(sidecars)
        else:
            needs = dict(needs)
            add(needs, sidecars)
        raise_to(peak, needs)
    raise_to(total, peak)
    return total


def _one(container: Object, what: str, statuses: dict[str, Object]) -> Resources:
    wanted = parse_resources((container.get("resources") or {}).get(what))
    status = statuses.get(container.get("name", ""))
    if status and what == "requests":
        raise_to(wanted, parse_resources((status.get("resources") or {}).get("requests")))
        raise_to(wanted, parse_resources(status.get("allocatedResources")))
    return wanted
