"""The built-in provisioner `peavine.io/local-path`: a volume is a directory on the node of the pod that needs it.

The volume is a hostPath that its node's kubelet makes when it is first mounted, tied to that node by its node
affinity. What is in the directory of a deleted volume is the node's to remove: the annotation names it.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

PROVISIONER = "peavine.io/local-path"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
DIRECTORY = "peavine.io/local-path-directory"
DEFAULT_ROOT = "/var/lib/peavine/local-path"
HOSTNAME = "kubernetes.io/hostname"


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
