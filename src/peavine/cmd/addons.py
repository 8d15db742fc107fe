"""What `up` gives a cluster of its own beyond upstream's bootstrap: storage that works, and resource metrics."""

from __future__ import annotations

import base64
from typing import Any

from peavine.client import Client
from peavine.cmd.cluster import METRICS_PORT, Cluster

Object = dict[str, Any]
MANAGER = "peavine-up"


def storage() -> list[tuple[str, Object]]:
    """(plural, object): claims work without more ado, a directory per volume on the pod's node."""
    meta = {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    return [
        (
            "storageclasses",
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": meta,
                "provisioner": "peavine.io/local-path",
                "volumeBindingMode": "WaitForFirstConsumer",
                "reclaimPolicy": "Delete",
            },
        )
    ]


def metrics(cluster: Cluster) -> list[tuple[str, Object]]:
    """The resource metrics API behind the aggregation layer, and the rights to read kubelets' figures."""
    name, namespace, rbac = "metrics-server", "kube-system", "rbac.authorization.k8s.io"
    meta = {"name": name, "namespace": namespace}
    authority = (cluster.directory / "pki" / "ca.crt").read_bytes()
    slice_meta = {**meta, "labels": {"kubernetes.io/service-name": name}}
    port = {"name": "https", "port": METRICS_PORT, "protocol": "TCP"}
    return [
        ("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        (
            "clusterroles",
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRole",
                "metadata": {"name": f"system:{name}"},
                "rules": [{"apiGroups": [""], "resources": ["nodes/proxy", "nodes/metrics"], "verbs": ["get"]}],
            },
        ),
        (
            "clusterrolebindings",
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"system:{name}"},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": f"system:{name}"},
                "subjects": [{"kind": "ServiceAccount", **meta}],
            },
        ),
        (
            "services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": {"ports": [{"name": "https", "port": 443, "targetPort": METRICS_PORT, "protocol": "TCP"}]},
            },
        ),
        (
            "endpointslices",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": slice_meta,
                "addressType": "IPv4",
                "ports": [port],
                "endpoints": [{"addresses": [cluster.node_ip], "conditions": {"ready": True}}],
            },
        ),
        (
            "apiservices",
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": "v1beta1.metrics.k8s.io"},
                "spec": {
                    "group": "metrics.k8s.io",
                    "version": "v1beta1",
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "service": {"name": name, "namespace": namespace, "port": 443},
                    "caBundle": base64.b64encode(authority).decode(),
                },
            },
        ),
    ]


async def apply(client: Client, cluster: Cluster) -> None:
    """Bring the add-ons to this state; what is so already is not written. Raises ApiError, Unreachable."""
    wanted = storage() + (metrics(cluster) if cluster.runtime == "containerd" else [])
    for plural, obj in wanted:
        meta = obj["metadata"]
        await client.resource(obj["apiVersion"], plural).patch(
            meta["name"], obj, meta.get("namespace"), type="apply", field_manager=MANAGER, force=True
        )
