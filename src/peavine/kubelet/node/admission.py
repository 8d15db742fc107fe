"""Whether a pod may start on this node: the last word, after the scheduler's."""

from __future__ import annotations

from typing import Any

from peavine.api.core.nodeselector import pod_fits_node
from peavine.api.core.resources import pod_requests
from peavine.kubelet.node.node import Node
from peavine.kubelet.options import Options
from peavine.kubelet.pods.security import SAFE_SYSCTLS
from peavine.machinery.quantity import ZERO, Quantity, parse_quantity

Object = dict[str, Any]
Requests = dict[str, Quantity]


def refusal(
    pod: Object, node: Node, node_object: Object | None, others: list[Requests], options: Options
) -> tuple[str, str] | None:
    """None, or (reason, message). `others`: what the pods hold that are here already."""
    if node.shutting_down:
        return "NodeShutdown", "Pod was rejected as the node is shutting down."
    refused = _sysctls(pod, options)
    if refused is not None:
        return "SysctlForbidden", f"forbidden sysctl: {refused}"
    pressure = _pressure(pod, node)
    if pressure is not None:
        return pressure
    if node_object is not None and not pod_fits_node(pod, node_object):
        return "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    return _resources(pod, node, others)


def _sysctls(pod: Object, options: Options) -> str | None:
    for entry in ((pod.get("spec") or {}).get("securityContext") or {}).get("sysctls") or []:
        name = entry["name"].replace("/", ".")
        if name in SAFE_SYSCTLS:
            continue
        allowed = options.allowed_unsafe_sysctls
        if not any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in allowed):
            return f'"{entry["name"]}" not allowlisted'
    return None


def is_critical(pod: Object) -> bool:
    annotations = pod["metadata"].get("annotations") or {}
    static = annotations.get("kubernetes.io/config.source", "api") != "api"
    return static or ((pod.get("spec") or {}).get("priority") or 0) >= 2_000_000_000


def _pressure(pod: Object, node: Node) -> tuple[str, str] | None:
    from peavine.api.core.podstate import BEST_EFFORT, qos_class

    if not node.pressures or is_critical(pod):
        return None
    if node.pressures == {"MemoryPressure"}:
        if qos_class(pod) != BEST_EFFORT:
            return None
        for toleration in (pod.get("spec") or {}).get("tolerations") or []:
            if toleration.get("key") in ("node.kubernetes.io/memory-pressure", None, ""):
                return None
    return "Evicted", f"The node had condition: [{' '.join(sorted(node.pressures))}]. "


def _resources(pod: Object, node: Node, others: list[Requests]) -> tuple[str, str] | None:
    allowed = parse_quantity(node.allocatable.get("pods", "110")).value()
    if len(others) + 1 > allowed:
        return (
            "OutOfpods",
            f"Node didn't have enough resource: pods, requested: 1, used: {len(others)}, capacity: {allowed}",
        )
    claimed = ((pod.get("status") or {}).get("extendedResourceClaimStatus") or {}).get("requestMappings") or []
    by_claim = {mapping.get("resourceName") for mapping in claimed}
    for name, wanted in pod_requests(pod).items():
        if wanted.sign() <= 0 or name in by_claim:
            continue
        capacity = parse_quantity(node.allocatable.get(name, "0"))
        if name not in node.allocatable and name not in ("cpu", "memory", "ephemeral-storage"):
            # An extended resource of nobody here.
            used = ZERO
        else:
            used = ZERO
            for other in others:
                used = used + other.get(name, ZERO)
        if capacity < used + wanted:
            in_milli = name == "cpu"

            def shown(amount: Any, milli: bool = in_milli) -> int:
                return int(amount.milli() if milli else amount.value())

            return (
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {shown(wanted)},"
                f" used: {shown(used)}, capacity: {shown(capacity)}",
            )
    return None
