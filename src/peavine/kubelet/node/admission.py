"""Whether a pod may start on this node: the last word, after the scheduler's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from peavine.api.core.nodeselector import pod_fits_node
from peavine.api.core.podstate import BEST_EFFORT, BURSTABLE, GUARANTEED, qos_class
from peavine.api.core.resources import is_sidecar, pod_requests
from peavine.api.core.taint import tolerated
from peavine.kubelet.node import machine
from peavine.kubelet.node.node import Node
from peavine.kubelet.options import Options
from peavine.kubelet.pods.security import SAFE_SYSCTLS
from peavine.machinery.quantity import ZERO, Quantity, parse_quantity

Object = dict[str, Any]
Requests = dict[str, Quantity]
# (protocol, address or empty for all, port)
HostPort = tuple[str, str, int]


class Held(NamedTuple):
    """What a pod holds of its node while it lives."""

    requests: Requests
    ports: tuple[HostPort, ...] = ()
    # Its quality of service.
    quality: str = ""


def held(pod: Object) -> Held:
    return Held(pod_requests(pod), tuple(_host_ports(pod)), qos_class(pod))


def _host_ports(pod: Object) -> Iterator[HostPort]:
    spec = pod.get("spec") or {}
    sidecars = [c for c in spec.get("initContainers") or [] if is_sidecar(c)]
    for container in [*(spec.get("containers") or []), *sidecars]:
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                address = port.get("hostIP") or ""
                everywhere = address in ("", "0.0.0.0", "::")
                yield port.get("protocol") or "TCP", "" if everywhere else address, port["hostPort"]


def _conflict(one: HostPort, other: HostPort) -> bool:
    return one[0] == other[0] and one[2] == other[2] and (one[1] == other[1] or "" in (one[1], other[1]))


def refusal(
    pod: Object, node: Node, node_object: Object | None, others: list[Held], options: Options, *, static: bool = False
) -> tuple[str, str] | None:
    """None, or (reason, message). `others`: what the pods hold that are here already. `static`: it comes from a file,
    and no taint keeps it away."""
    if node.shutting_down:
        return "NodeShutdown", "Pod was rejected as the node is shutting down."
    refused = _sysctls(pod, options)
    if refused is not None:
        return "SysctlForbidden", f"forbidden sysctl: {refused}"
    pressure = _pressure(pod, node)
    if pressure is not None:
        return pressure
    if (unable := _host(pod)) is not None:
        return unable
    if (short := _resources(pod, node, others)) is not None:
        return short
    name = _failed_predicate(pod, node_object, others, static)
    return None if name is None else (name, f"Predicate {name} failed: {PREDICATES[name]}")


PREDICATES = {
    "NodeAffinity": "node(s) didn't match Pod's node affinity/selector",
    "NodePorts": "node(s) didn't have free ports for the requested pod ports",
    "TaintToleration": "node(s) had taints that the pod didn't tolerate",
}


def _failed_predicate(pod: Object, node_object: Object | None, others: list[Held], static: bool) -> str | None:
    if node_object is not None and not pod_fits_node(pod, node_object):
        return "NodeAffinity"
    taken = [port for other in others for port in other.ports]
    if any(_conflict(mine, theirs) for mine in _host_ports(pod) for theirs in taken):
        return "NodePorts"
    taints = ((node_object or {}).get("spec") or {}).get("taints") or []
    tolerations = (pod.get("spec") or {}).get("tolerations") or []
    if not static and any(t.get("effect") == "NoExecute" and not tolerated(t, tolerations) for t in taints):
        return "TaintToleration"
    return None


def _host(pod: Object) -> tuple[str, str] | None:
    """What the machine itself cannot do."""
    system = ((pod.get("spec") or {}).get("os") or {}).get("name")
    if system not in (None, "", "linux"):
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if not machine.has_apparmor() and _wants_apparmor(pod):
        return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return None


def _wants_apparmor(pod: Object) -> bool:
    spec = pod.get("spec") or {}
    every = [
        *(spec.get("initContainers") or []),
        *(spec.get("containers") or []),
        *(spec.get("ephemeralContainers") or []),
    ]
    kinds = {
        ((holder.get("securityContext") or {}).get("appArmorProfile") or {}).get("type") for holder in [spec, *every]
    }
    return bool(kinds & {"Localhost", "RuntimeDefault"})


def victims(pod: Object, node: Node, others: dict[str, tuple[Object, Held]]) -> list[str]:
    """Which of the pods (by uid) make room for a critical one: best-effort before burstable before guaranteed, the
    greediest first, none that need not go. Empty if even all of them would not do."""
    order = {BEST_EFFORT: 0, BURSTABLE: 1, GUARANTEED: 2}
    mine = (pod.get("spec") or {}).get("priority") or 0

    def goes(other: Object) -> bool:
        lower = ((other.get("spec") or {}).get("priority") or 0) < mine
        return lower or (is_critical(pod) and not is_critical(other))

    def rank(uid: str) -> tuple[int, int]:
        holds = others[uid][1]
        return order[holds.quality], -sum(q.value() for name, q in holds.requests.items() if name == "memory")

    chosen: list[str] = []
    left = dict(others)
    for uid in sorted((uid for uid, (other, _) in others.items() if goes(other)), key=rank):
        if _resources(pod, node, [holds for _, holds in left.values()]) is None:
            break
        chosen.append(uid)
        del left[uid]
    if _resources(pod, node, [holds for _, holds in left.values()]) is not None:
        return []
    for uid in list(chosen):
        with_it = [holds for _, holds in left.values()] + [others[uid][1]]
        if _resources(pod, node, with_it) is None:
            left[uid] = others[uid]
            chosen.remove(uid)
    return chosen


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
    if not node.pressures or is_critical(pod):
        return None
    if node.pressures == {"MemoryPressure"}:
        if qos_class(pod) != BEST_EFFORT:
            return None
        for toleration in (pod.get("spec") or {}).get("tolerations") or []:
            if toleration.get("key") in ("node.kubernetes.io/memory-pressure", None, ""):
                return None
    return "Evicted", f"The node had condition: [{' '.join(sorted(node.pressures))}]. "


def _resources(pod: Object, node: Node, others: list[Held]) -> tuple[str, str] | None:
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
        if "/" in name and name not in node.allocatable:
            # Nobody here manages it: whoever has advertised it answers for it, and the scheduler has counted it.
            continue
        capacity, used = parse_quantity(node.allocatable.get(name, "0")), ZERO
        for other in others:
            used = used + other.requests.get(name, ZERO)
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
