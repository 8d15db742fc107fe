"""The built-in provisioner `peavine.io/local-path`: a volume is a directory on the node of the pod that needs it.

The volume is a hostPath that its node's kubelet makes when it is first mounted, tied to that node by its node
affinity. Its directory is removed by a pod that runs there for a moment.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

PROVISIONER = "peavine.io/local-path"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
DIRECTORY = "peavine.io/local-path-directory"
DEFAULT_ROOT = "/var/lib/peavine/local-path"
HOSTNAME = "kubernetes.io/hostname"
HELPER_NAMESPACE = "kube-system"
HELPER_IMAGE = "peavine.local/busybox:1.36"
HELPER_SECONDS_MAX = 120


def volume_for(claim: Object, storage_class: Object, node: Object, root: str) -> Object:
    """The PersistentVolume for a claim whose pod goes to `node`."""
    meta, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{meta['uid']}"
    path = (storage_class.get("parameters") or {}).get("path") or root
    directory = f"{path.rstrip('/')}/{name}_{meta['namespace']}_{meta['name']}"
    labels = node["metadata"].get("labels") or {}
    key, value = (HOSTNAME, labels[HOSTNAME]) if HOSTNAME in labels else ("metadata.name", node["metadata"]["name"])
    requirement = {"key": key, "operator": "In", "values": [value]}
    term = {"matchExpressions" if key == HOSTNAME else "matchFields": [requirement]}
    volume: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {
                PROVISIONED_BY: PROVISIONER,
                "pv.kubernetes.io/bound-by-controller": "yes",
                DIRECTORY: directory,
            },
        },
        "spec": {
            "capacity": {"storage": ((spec.get("resources") or {}).get("requests") or {}).get("storage", "0")},
            "accessModes": spec.get("accessModes") or ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy") or "Delete",
            "storageClassName": storage_class["metadata"]["name"],
            "volumeMode": "Filesystem",
            "hostPath": {"path": directory, "type": "DirectoryOrCreate"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "claimRef": claim_reference(claim),
        },
    }
    if storage_class.get("mountOptions"):
        volume["spec"]["mountOptions"] = storage_class["mountOptions"]
    return volume


def claim_reference(claim: Object) -> Object:
    meta = claim["metadata"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return reference | {key: meta[key] for key in ("namespace", "name", "uid", "resourceVersion")}


def node_of(volume: Object, nodes: list[Object]) -> Object | None:
    """The node that the volume's directory is on, if it is still there."""
    from peavine.api.core.nodeselector import matches

    affinity = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return next((node for node in nodes if matches(affinity, node)), None)


def removing_pod(volume: Object, node: Object, image: str) -> Object:
    """The pod that empties and removes the volume's directory on its node."""
    directory = volume["spec"]["hostPath"]["path"]
    parent, _, name = directory.rpartition("/")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"remove-{volume['metadata']['name']}"[:63], "namespace": HELPER_NAMESPACE},
        "spec": {
            "nodeName": node["metadata"]["name"],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": HELPER_SECONDS_MAX,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [
                {
                    "name": "remove",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["rm", "-rf", f"/volumes/{name}"],
                    "volumeMounts": [{"name": "volumes", "mountPath": "/volumes"}],
                }
            ],
            "volumes": [{"name": "volumes", "hostPath": {"path": parent, "type": "DirectoryOrCreate"}}],
        },
    }
