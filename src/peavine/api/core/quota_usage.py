"""How much of a quota an object uses, and which quotas see it. Pure; the resource-quota controller counts by it too.

Follows upstream's quota evaluators: compute resources of pods, services and their ports, claims by storage class,
devices of resource claims, and `count/RESOURCE.GROUP` of everything.
"""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import is_terminal, qos_class
from peavine.api.core.resources import pod_limits, pod_requests
from peavine.machinery.quantity import Quantity, parse_quantity

Usage = dict[str, Quantity]
Object = dict[str, Any]

ONE = Quantity.of(1)
# Core resources that a quota knows by their plain name as well as by count/NAME.
_PLAIN = frozenset(
    ("pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims")
)
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_DEMANDED = frozenset(("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"))
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
_NATIVE = frozenset(("cpu", "memory", "ephemeral-storage", "storage"))


def usage_of(group: str, resource: str, obj: Object) -> Usage:
    """Everything a quota could count of this object."""
    count = f"count/{resource}.{group}" if group else f"count/{resource}"
    usage: Usage = {count: ONE}
    if group == "resource.k8s.io" and resource == "resourceclaims":
        _claim_devices(obj, usage)
    if group:
        return usage
    if resource == "pods":
        if not is_terminal(obj):
            usage["pods"] = ONE
            _compute(obj, usage)
        return usage
    if resource in _PLAIN:
        usage[resource] = ONE
    if resource == "services":
        _service(obj, usage)
    elif resource == "persistentvolumeclaims":
        _claim(obj, usage)
    return usage


def counted(hard: dict[str, Any], usage: Usage) -> Usage:
    """The part of `usage` that a quota with these limits counts."""
    return {name: quantity for name, quantity in usage.items() if name in hard}


def matches(quota: Object, group: str, resource: str, obj: Object) -> bool:
    """Whether the quota's scopes take in this object (whatever it limits)."""
    spec = quota["spec"]
    requirements = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    requirements += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    if not requirements:
        return True
    if (group, resource) == ("", "persistentvolumeclaims"):
        return all(_claim_in_scope(obj, requirement) for requirement in requirements)
    if (group, resource) != ("", "pods"):
        return False
    return all(_pod_in_scope(obj, requirement) for requirement in requirements)


def unspecified(hard: dict[str, Any], pod: Object) -> str:
    """What a quota limits and containers leave unsaid: `limits.cpu for: a,b; ...`; "" where all is said."""
    missing: dict[str, list[str]] = {}
    own = pod["spec"].get("resources") or {}
    for kind in ("containers", "initContainers"):
        for container in pod["spec"].get(kind) or ():
            resources = container.get("resources") or {}
            for name in _DEMANDED & hard.keys():
                part, _, plain = name.rpartition(".")
                part = part or "requests"
                if plain not in (resources.get(part) or {}) and plain not in (own.get(part) or {}):
                    missing.setdefault(name, []).append(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(set(names)))}" for name, names in sorted(missing.items()))


def _compute(pod: Object, usage: Usage) -> None:
    requests, limits = pod_requests(pod), pod_limits(pod)
    for name in _COMPUTE:
        if name in requests:
            usage[name] = usage[f"requests.{name}"] = requests[name]
        if name in limits:
            usage[f"limits.{name}"] = limits[name]
    for name, quantity in requests.items():
        if name.startswith("hugepages-"):
            usage[name] = usage[f"requests.{name}"] = quantity
        elif "/" in name and name not in _NATIVE:
            usage[f"requests.{name}"] = quantity


def _service(service: Object, usage: Usage) -> None:
    spec = service.get("spec") or {}
    ports = spec.get("ports") or []
    kind = spec.get("type", "ClusterIP")
    if kind == "NodePort":
        usage["services.nodeports"] = Quantity.of(len(ports))
    elif kind == "LoadBalancer":
        usage["services.loadbalancers"] = ONE
        if spec.get("allocateLoadBalancerNodePorts") is False:
            ports = [port for port in ports if port.get("nodePort")]
        usage["services.nodeports"] = Quantity.of(len(ports))


def _claim(claim: Object, usage: Usage) -> None:
    spec = claim.get("spec") or {}
    annotations = claim["metadata"].get("annotations") or {}
    storage_class = annotations.get("volume.beta.kubernetes.io/storage-class") or spec.get("storageClassName")
    if storage_class:
        usage[storage_class + _CLASS_SUFFIX + "persistentvolumeclaims"] = ONE
    requested = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
    if requested is not None:
        storage = parse_quantity(requested)
        if allocated is not None and parse_quantity(allocated) > storage:
            storage = parse_quantity(allocated)
        usage["requests.storage"] = storage
        if storage_class:
            usage[storage_class + _CLASS_SUFFIX + "requests.storage"] = storage


def _claim_devices(claim: Object, usage: Usage) -> None:
    for request in (((claim.get("spec") or {}).get("devices")) or {}).get("requests") or ():
        options = (
            [request.get("exactly") or request] if not request.get("firstAvailable") else request["firstAvailable"]
        )
        for option in options:
            name = option.get("deviceClassName")
            if name:
                number = option.get("count", 1) if option.get("allocationMode", "ExactCount") == "ExactCount" else 1
                key = f"{name}.deviceclass.resource.k8s.io/devices"
                usage[key] = usage.get(key, Quantity.of(0)) + Quantity.of(number)


def _pod_in_scope(pod: Object, requirement: Object) -> bool:
    spec, scope = pod["spec"], requirement["scopeName"]
    terminating = spec.get("activeDeadlineSeconds") is not None
    if scope in ("Terminating", "NotTerminating"):
        return terminating == (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return (qos_class(pod) == "BestEffort") == (scope == "BestEffort")
    if scope == "PriorityClass":
        return _selects(requirement, spec.get("priorityClassName") or "")
    if scope == "CrossNamespacePodAffinity":
        return _crosses_namespaces(spec)
    return False


def _claim_in_scope(claim: Object, requirement: Object) -> bool:
    if requirement["scopeName"] != "VolumeAttributesClass":
        return False
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    names = {
        spec.get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    }
    present = [name for name in names if name]
    if requirement.get("operator") == "DoesNotExist":
        return not present
    if requirement.get("operator") == "NotIn":
        return all(name not in (requirement.get("values") or ()) for name in present)
    return any(_selects(requirement, name) for name in present)


def _selects(requirement: Object, value: str) -> bool:
    operator, values = requirement.get("operator"), requirement.get("values") or ()
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    return bool(value) == (operator == "Exists")


def _crosses_namespaces(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind) or {}
        terms = list(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        terms += [
            preferred.get("podAffinityTerm") or {}
            for preferred in rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
