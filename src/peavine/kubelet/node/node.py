"""One node: identity, capacity, and the Node object and its status as functions of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peavine.kubelet.images.archive import architecture
from peavine.kubelet.node import machine
from peavine.kubelet.options import Options
from peavine.kubelet.pods.status import stamp
from peavine.machinery.quantity import Quantity, parse_quantity

Object = dict[str, Any]
VERSION = "v1.37.0"

HEALTHY = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
}
UNDER_PRESSURE = {
    "MemoryPressure": ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    "DiskPressure": ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
    "PIDPressure": ("True", "KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
}


@dataclass
class Node:
    """`resources` are what device plugins add: name -> (capacity, allocatable)."""

    name: str
    ips: list[str]
    hostname: str
    capacity: dict[str, str]
    allocatable: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    port: int = 10250
    pressures: set[str] = field(default_factory=set)
    not_ready: str = ""
    images: list[Object] = field(default_factory=list)
    runtime_version: str = ""
    info: Object = field(default_factory=dict)
    volumes_in_use: list[str] = field(default_factory=list)
    shutting_down: bool = False
    handlers: list[Object] = field(default_factory=list)
    features: Object = field(default_factory=dict)


def _pods_max(options: Options) -> int:
    return min(options.max_pods, options.pods_per_core * machine.cpus()) if options.pods_per_core else options.max_pods


def read_capacity(options: Options) -> dict[str, str]:
    disk = machine.disk(options.root_dir)
    capacity = {
        "cpu": str(machine.cpus()),
        "memory": f"{machine.memory().get('MemTotal', 0) // 1024}Ki",
        "ephemeral-storage": f"{disk.capacity // 1024}Ki",
        "pods": str(_pods_max(options)),
    }
    for size, amount in machine.hugepages().items():
        capacity[f"hugepages-{size}"] = str(parse_quantity(f"{amount // (1 << 20)}Mi")) if amount else "0"
    return capacity


def node_memory(capacity: Mapping[str, str], options: Options) -> int:
    """Bytes that all pods together may use: eviction acts before that, by its thresholds."""
    amount = parse_quantity(capacity["memory"])
    for reserved in (options.system_reserved, options.kube_reserved):
        amount = amount - parse_quantity(reserved.get("memory", "0"))
    return max(0, amount.value())


def allocatable_of(capacity: Mapping[str, str], options: Options) -> dict[str, str]:
    """Capacity less what is reserved, and less the hard eviction threshold for memory and disk."""
    found = {}
    for name, text in capacity.items():
        amount = parse_quantity(text)
        for reserved in (options.system_reserved, options.kube_reserved):
            if name in reserved:
                amount = amount - parse_quantity(reserved[name])
        if name == "cpu" and options.reserved_cpus:
            from peavine.kubelet.allocation.numa import parse_cpus

            # Named CPUs say how many are kept, whatever the amounts say.
            amount = Quantity.of(int(parse_quantity(text).value()) - len(parse_cpus(options.reserved_cpus)))
        signal = {"memory": "memory.available", "ephemeral-storage": "nodefs.available"}.get(name)
        threshold = options.eviction_hard.get(signal or "", "")
        if threshold.endswith("%"):
            share = int(parse_quantity(text).value() * float(threshold[:-1]) / 100)
            amount = amount - Quantity.of(share)
        elif threshold:
            amount = amount - parse_quantity(threshold)
        if amount.sign() < 0:
            amount = parse_quantity("0")
        found[name] = text if amount == parse_quantity(text) else str(amount)
    return found


def real_node(options: Options) -> Node:
    capacity = read_capacity(options)
    ips = options.node_ips or [machine.default_address()]
    return Node(
        name=options.node_name,
        ips=ips,
        hostname=options.hostname or options.node_name,
        capacity=capacity,
        allocatable=allocatable_of(capacity, options),
        labels=dict(options.node_labels),
        port=options.port,
        info={
            "machineID": machine.machine_id(),
            "systemUUID": machine.system_uuid(),
            "bootID": machine.boot_id(),
            "kernelVersion": machine.kernel(),
            "osImage": machine.os_image(),
            **({"swap": {"capacity": swap}} if (swap := machine.swap_bytes()) else {}),
        },
    )


def kubelet_version() -> str:
    from peavine import __version__

    return f"{VERSION}+peavine{__version__}"


def node_object(node: Node, options: Options) -> Object:
    """The Node as it is created."""
    arch = architecture()
    labels = {
        "beta.kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": arch,
        "kubernetes.io/hostname": node.hostname,
        "kubernetes.io/os": "linux",
        **node.labels,
    }
    spec: Object = {}
    if options.provider_id:
        spec["providerID"] = options.provider_id
    if options.register_taints:
        spec["taints"] = options.register_taints
    if options.pod_cidr:
        spec |= {"podCIDR": options.pod_cidr, "podCIDRs": [options.pod_cidr]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
    }


def conditions(node: Node, old: list[Object], now: float) -> list[Object]:
    """The four conditions; a transition time changes only with the status."""
    before = {c["type"]: c for c in old}
    found = []
    for type_, healthy in HEALTHY.items():
        status, reason, message = healthy
        if type_ in node.pressures:
            status, reason, message = UNDER_PRESSURE[type_]
        if type_ == "Ready":
            if node.shutting_down:
                status, reason, message = "False", "KubeletNotReady", "node is shutting down"
            elif node.not_ready:
                status, reason, message = "False", "KubeletNotReady", node.not_ready
        last = before.get(type_)
        since = last.get("lastTransitionTime") if last and last.get("status") == status else None
        found.append(
            {
                "type": type_,
                "status": status,
                "lastHeartbeatTime": stamp(now),
                "lastTransitionTime": since or stamp(now),
                "reason": reason,
                "message": message,
            }
        )
    return found


def extended(capacity: Mapping[str, str]) -> dict[str, str]:
    """Resources that are nobody's but a plugin's or an administrator's: those whose names have a domain."""
    return {name: amount for name, amount in capacity.items() if "/" in name}


def foreign(node: Node, status: Object) -> dict[str, str]:
    """Extended resources of a reported status that no device plugin of this node has brought."""
    return {k: v for k, v in extended(status.get("capacity") or {}).items() if k not in node.capacity}


def node_status(node: Node, old: Object, now: float) -> Object:
    """The whole status; what others put into it (volumes attached, config) is not named here."""
    arch = architecture()
    addresses = [{"type": "InternalIP", "address": ip} for ip in node.ips]
    addresses.append({"type": "Hostname", "address": node.hostname})
    return {
        "addresses": addresses,
        # What somebody else has advertised in the node's name stays, and can be had.
        "capacity": {**(others := foreign(node, old)), **node.capacity},
        "allocatable": {**others, **node.allocatable},
        "conditions": conditions(node, old.get("conditions") or [], now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port}},
        "nodeInfo": {
            "machineID": "",
            "systemUUID": "",
            "bootID": "",
            "kernelVersion": "",
            "osImage": "",
            "containerRuntimeVersion": node.runtime_version,
            "kubeletVersion": kubelet_version(),
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": arch,
            **node.info,
        },
        "images": node.images,
        "runtimeHandlers": node.handlers or [{"name": ""}],
        **({"features": node.features} if node.features else {}),
        **({"volumesInUse": node.volumes_in_use} if node.volumes_in_use else {}),
    }


def changed(old: Object, new: Object) -> bool:
    """Whether the status says something new, heartbeats aside."""
    for key, value in new.items():
        if key != "conditions" and (old.get(key) or None) != (value or None):
            return True
    before = {c["type"]: c for c in old.get("conditions") or []}
    return any(
        (before.get(c["type"]) or {}).get(key) != c[key]
        for c in new["conditions"]
        for key in ("status", "reason", "message")
    )
