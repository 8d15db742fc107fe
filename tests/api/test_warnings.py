"""What upstream warns of when an object is made, in its words."""

from __future__ import annotations

from typing import Any

import pytest

from peavine.api.catalogue import CATALOGUE
from peavine.machinery.names import GVK

Object = dict[str, Any]


def warned(api_version: str, kind: str, old: Object | None = None, **body: Any) -> list[str]:
    group, _, version = api_version.rpartition("/")
    found = CATALOGUE.kind(GVK(group, version, kind))
    assert found is not None
    return found.warnings({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, **body}, old)


def pod(annotations: Object | None = None, **spec: Any) -> list[str]:
    whole = {"containers": [{"name": "c", "image": "i"}], **spec}
    return warned("v1", "Pod", metadata={"name": "x", "annotations": annotations or {}}, spec=whole)


def ports(*listed: Object) -> list[str]:
    own = [{"containerPort": 80, "protocol": "TCP", **port} for port in listed]
    return pod(containers=[{"name": "c", "image": "i", "ports": own}])


def environment(*variables: tuple[str, str]) -> list[str]:
    listed = [{"name": name, "value": value} for name, value in variables]
    return pod(containers=[{"name": "c", "image": "i", "env": listed}])


HIDES = 'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply'
SECOND, FIRST = "spec.containers[0].ports[1]", "spec.containers[0].ports[0]"


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (environment(("A", "1"), ("A", "2")), [HIDES]),
        (environment(("A", "1"), ("A", "$(A):2")), []),
        (environment(("A", "1"), ("A", "$(A)")), [HIDES]),
        (ports({}, {}), [f"{SECOND}: duplicate port definition with {FIRST}"]),
        (ports({"hostPort": 80}, {}), [f"{SECOND}: overlapping port definition with {FIRST}"]),
        (ports({"hostPort": 80}, {"hostPort": 81}), []),
        (
            ports({"hostPort": 80, "hostIP": "1.1.1.1"}, {"hostPort": 80}),
            [f"{SECOND}: dangerously ambiguous port definition with {FIRST}"],
        ),
        (
            ports({"hostIP": "1.1.1.1", "name": "web"}),
            [
                f"{FIRST}: hostIP set without hostPort: "
                "{Name:web HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.1.1.1}"
            ],
        ),
        (
            pod(nodeSelector={"beta.kubernetes.io/os": "linux"}),
            ['spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'],
        ),
        (
            pod({"scheduler.alpha.kubernetes.io/critical-pod": ""}),
            [
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; "
                'use the "priorityClassName" field instead'
            ],
        ),
        (
            pod(volumes=[{"name": "v", "configMap": {"name": "m", "items": [{"path": "a"}, {"path": "a/b"}]}}]),
            ['volume "v" (ConfigMap "m"): overlapping paths: "a/b" with "a"'],
        ),
        (
            pod(
                volumes=[
                    {
                        "name": "v",
                        "projected": {
                            "sources": [
                                {"serviceAccountToken": {"path": "token"}},
                                {"secret": {"name": "s", "items": [{"path": "token"}]}},
                                {},
                            ]
                        },
                    }
                ]
            ),
            [
                'volume "v" (Projected Secret "s"): overlapping paths: "token" with "token"',
                'volume "v" (Projected) has no sources provided',
            ],
        ),
        (
            pod(volumes=[{"name": "v", "glusterfs": {"path": "p"}}]),
            ["spec.volumes[0].glusterfs: deprecated in v1.25, non-functional in v1.26+"],
        ),
        (
            pod(overhead={"memory": "100m"}),
            ['spec.overhead[memory]: fractional byte value "100m" is invalid, must be an integer'],
        ),
    ],
)  # fmt: skip
def test_a_new_pod_is_warned_of(found, wanted):
    assert found == wanted


def test_updates_of_pods_are_not_warned_of():
    spec = {"containers": [], "nodeSelector": {"beta.kubernetes.io/os": "linux"}}
    assert warned("v1", "Pod", {"metadata": {}, "spec": {}}, spec=spec) == []


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (
            {"type": "ClusterIP", "externalIPs": ["1.2.3.4"]},
            ["spec.externalIPs is deprecated and may no longer be implemented in some clusters"],
        ),
        (
            {"type": "ClusterIP", "clusterIP": "None", "externalIPs": ["1.2.3.4"], "sessionAffinity": "ClientIP"},
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            {"type": "ExternalName", "externalIPs": ["1.2.3.4"], "externalName": "x"},
            ['spec.externalIPs is ignored when spec.type is "ExternalName"'],
        ),
        (
            {"type": "ClusterIP", "trafficDistribution": "PreferClose"},
            ['spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'],
        ),
    ],
)
def test_a_service_is_warned_of(spec, wanted):
    assert warned("v1", "Service", spec={"sessionAffinity": "None", **spec}) == wanted


def test_labels_of_nodes_that_go_by_another_name_are_found_wherever_they_select():
    key = "failure-domain.beta.kubernetes.io/zone"
    words = 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
    term = {"matchExpressions": [{"key": key, "operator": "Exists"}]}
    assert warned("v1", "PersistentVolume", spec={"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}) == [
        f"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: {key} is {words}"
    ]
    topologies = [{"matchLabelExpressions": [{"key": key, "values": ["a"]}]}]
    assert warned("storage.k8s.io/v1", "StorageClass", allowedTopologies=topologies) == [
        f"allowedTopologies[0].matchLabelExpressions[0].key: {key} is {words}"
    ]
    assert warned("storage.k8s.io/v1", "CSIStorageCapacity", nodeTopology={"matchLabels": {key: "a"}}) == [
        f"nodeTopology.matchLabels[{key}]: {words}"
    ]
    assert warned("node.k8s.io/v1", "RuntimeClass", scheduling={"nodeSelector": {key: "a"}}) == [
        f"scheduling.nodeSelector[{key}]: {words}"
    ]
