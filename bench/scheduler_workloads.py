"""The workloads of upstream's scheduler_perf, by their names, and the objects that they are made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
DRIVER = "ebs.csi.aws.com"
ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def node(n: int, zones: tuple[str, ...] = ()) -> Object:
    name = f"scheduler-perf-{n}"
    labels = {HOSTNAME: name} | ({ZONE: zones[n % len(zones)]} if zones else {})
    room = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": room, "capacity": room},
    }


_numbers = itertools.count()


def pod(cpu: str = "100m", memory: str = "500Mi", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    name = f"pod-{next(_numbers)}"
    container = {"name": "pause", "image": "registry.k8s.io/pause:3.10.1", "ports": [{"containerPort": 80}]}
    amounts = {"cpu": cpu, "memory": memory}
    container["resources"] = {"requests": amounts, "limits": amounts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def _term(color: str, key: str) -> Object:
    return {"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key}


def anti_affinity() -> Object:
    return pod(labels={"color": "green"}, affinity={"podAntiAffinity": {REQUIRED: [_term("green", HOSTNAME)]}})


def affinity() -> Object:
    return pod(labels={"color": "blue"}, affinity={"podAffinity": {REQUIRED: [_term("blue", ZONE)]}})


def preferred_affinity() -> Object:
    term = [{"weight": 1, "podAffinityTerm": _term("red", HOSTNAME)}]
    return pod(labels={"color": "red"}, affinity={"podAffinity": {PREFERRED: term}})


def preferred_anti_affinity() -> Object:
    term = [{"weight": 1, "podAffinityTerm": _term("yellow", HOSTNAME)}]
    return pod(labels={"color": "yellow"}, affinity={"podAntiAffinity": {PREFERRED: term}})


def node_affinity() -> Object:
    expression = {"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}
    return pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}})


def spreading() -> Object:
    constraint = {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"color": "blue"}}
    return pod(labels={"color": "blue"}, topologySpreadConstraints=[constraint])


def daemon(n: int) -> Object:
    field_ = {"key": "metadata.name", "operator": "In", "values": [f"scheduler-perf-{n}"]}
    term = {"nodeSelectorTerms": [{"matchFields": [field_]}]}
    return pod(cpu="10m", memory="20Mi", affinity={"nodeAffinity": {REQUIRED: term}})


def many(make: Callable[[], Object], number: int) -> Iterator[Object]:
    return (make() for _ in range(number))


@dataclass
class Workload:
    goal: int
    upstream: int
    pods: Callable[[float], Iterator[Object]]
    before: Callable[[float], Iterator[Object]] = lambda scale: iter(())
    zones: tuple[str, ...] = ()
    nodes: int = 5000
    churn: bool = False
    volumes: bool = False
    hopeless: int = 0  # pods that fit nowhere, there from the start


def _all_kinds(scale: float) -> Iterator[Object]:
    n = int(1000 * scale)
    for make in (pod, affinity, preferred_affinity, preferred_anti_affinity):
        yield from many(make, n)


WORKLOADS = {
    "SchedulingBasic": Workload(3000, 680, lambda s: many(pod, int(10000 * s)), lambda s: many(pod, int(1000 * s))),
    "SchedulingPodAntiAffinity": Workload(
        1000, 60, lambda s: many(anti_affinity, int(2000 * s)), lambda s: many(anti_affinity, int(1000 * s))
    ),
    "SchedulingPodAffinity": Workload(
        1000, 35, lambda s: many(affinity, int(5000 * s)), lambda s: many(affinity, int(5000 * s)), ("zone1",)
    ),
    "PreferredPodAffinity": Workload(
        1000, 90, lambda s: many(preferred_affinity, int(5000 * s)), lambda s: many(preferred_affinity, int(5000 * s))
    ),
    "SchedulingNodeAffinity": Workload(
        2000,
        220,
        lambda s: many(node_affinity, int(10000 * s)),
        lambda s: many(node_affinity, int(5000 * s)),
        ("zone1",),
    ),
    "TopologySpreading": Workload(
        1500,
        460,
        lambda s: many(spreading, int(5000 * s)),
        lambda s: many(pod, int(5000 * s)),
        ("moon-1", "moon-2", "moon-3"),
    ),
    "MixedSchedulingBasePod": Workload(1000, 140, lambda s: many(pod, int(5000 * s)), _all_kinds, ("zone1",)),
    "PreemptionAsync": Workload(
        800,
        570,
        lambda s: many(lambda: pod(cpu="3000m", priority=10), int(5000 * s)),
        lambda s: many(lambda: pod(cpu="900m"), int(20000 * s)),
    ),
    "Unschedulable": Workload(2000, 590, lambda s: many(pod, int(10000 * s)), hopeless=200),
    "SchedulingWithMixedChurn": Workload(2000, 710, lambda s: many(pod, int(10000 * s)), churn=True),
    "SchedulingCSIPVs": Workload(
        500, 100, lambda s: many(pod, int(5000 * s)), lambda s: many(pod, int(5000 * s)), volumes=True
    ),
    "SchedulingDaemonset/15000Nodes": Workload(
        3000, 1100, lambda s: (daemon(n) for n in range(int(15000 * s))), nodes=15000
    ),
}


def volume_of(obj: Object) -> tuple[Object, Object]:
    """As upstream's CSI workload: each pod has a claim of its own, bound to a volume of its own: (volume, claim)."""
    name = obj["metadata"]["name"]
    obj["spec"]["volumes"] = [{"name": "vol", "persistentVolumeClaim": {"claimName": name}}]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": DRIVER, "volumeHandle": name},
            "claimRef": {"namespace": "default", "name": name},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": {"pv.kubernetes.io/bind-completed": "true"},
        },
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": name,
            "storageClassName": "",
        },
        "status": {"phase": "Bound"},
    }
    return volume, claim


def csi_node(name: str) -> Object:
    drivers = [{"name": DRIVER, "nodeID": name, "allocatable": {"count": 39}}]
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {"name": name},
        "spec": {"drivers": drivers},
    }
