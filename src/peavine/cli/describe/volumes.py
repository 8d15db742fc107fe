# ruff: noqa: E501
"""Where the data of a volume comes from: in a pod, or in a persistent volume."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, access_modes, annotation_lines, go_list, labels

Object = dict[str, Any]
# Source -> what it is, and its fields: shown name, key, and what an absent one shows.
_TEXT: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "hostPath": ("HostPath (bare host directory volume)", (("Path", "path", ""), ("HostPathType", "type", "<none>"))),
    "emptyDir": ("EmptyDir (a temporary directory that shares a pod's lifetime)", (("Medium", "medium", ""), ("SizeLimit", "sizeLimit", "<unset>"))),
    "secret": ("Secret (a volume populated by a Secret)", (("SecretName", "secretName", ""), ("Optional", "optional", "false"))),
    "configMap": ("ConfigMap (a volume populated by a ConfigMap)", (("Name", "name", ""), ("Optional", "optional", "false"))),
    "persistentVolumeClaim": ("PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)", (("ClaimName", "claimName", ""), ("ReadOnly", "readOnly", "false"))),
    "nfs": ("NFS (an NFS mount that lasts the lifetime of a pod)", (("Server", "server", ""), ("Path", "path", ""), ("ReadOnly", "readOnly", "false"))),
    "gcePersistentDisk": ("GCEPersistentDisk (a Persistent Disk resource in Google Compute Engine)", (("PDName", "pdName", ""), ("FSType", "fsType", ""), ("Partition", "partition", "0"), ("ReadOnly", "readOnly", "false"))),
    "awsElasticBlockStore": ("AWSElasticBlockStore (a Persistent Disk resource in AWS)", (("VolumeID", "volumeID", ""), ("FSType", "fsType", ""), ("Partition", "partition", "0"), ("ReadOnly", "readOnly", "false"))),
    "gitRepo": ("GitRepo (a volume that is pulled from git when the pod is created)", (("Repository", "repository", ""), ("Revision", "revision", ""))),
    "quobyte": ("Quobyte (a Quobyte mount on the host that shares a pod's lifetime)", (("Registry", "registry", ""), ("Volume", "volume", ""), ("ReadOnly", "readOnly", "false"))),
    "portworxVolume": ("PortworxVolume (a Portworx Volume resource)", (("VolumeID", "volumeID", ""),)),
    "iscsi": ("ISCSI (an ISCSI Disk resource that is attached to a kubelet's host machine and then exposed to the pod)", (("TargetPortal", "targetPortal", ""), ("IQN", "iqn", ""), ("Lun", "lun", "0"), ("ISCSIInterface\t", "iscsiInterface", ""), ("FSType", "fsType", ""), ("ReadOnly", "readOnly", "false"), ("Portals", "portals", "[]"), ("DiscoveryCHAPAuth", "chapAuthDiscovery", "false"), ("SessionCHAPAuth", "chapAuthSession", "false"), ("SecretRef", "secretRef", "nil"), ("InitiatorName", "initiatorName", "<none>"))),
    "glusterfs": ("Glusterfs (a Glusterfs mount on the host that shares a pod's lifetime)", (("EndpointsName", "endpoints", ""), ("Path", "path", ""), ("ReadOnly", "readOnly", "false"))),
    "rbd": ("RBD (a Rados Block Device mount on the host that shares a pod's lifetime)", (("CephMonitors", "monitors", "[]"), ("RBDImage", "image", ""), ("FSType", "fsType", ""), ("RBDPool", "pool", ""), ("RadosUser", "user", ""), ("Keyring", "keyring", ""), ("SecretRef", "secretRef", "nil"), ("ReadOnly", "readOnly", "false"))),
    "azureDisk": ("AzureDisk (an Azure Data Disk mount on the host and bind mount to the pod)", (("DiskName", "diskName", ""), ("DiskURI", "diskURI", ""), ("Kind", "kind", ""), ("FSType", "fsType", ""), ("CachingMode", "cachingMode", ""), ("ReadOnly", "readOnly", "false"))),
    "azureFile": ("AzureFile (an Azure File Service mount on the host and bind mount to the pod)", (("SecretName", "secretName", ""), ("ShareName", "shareName", ""), ("ReadOnly", "readOnly", "false"))),
    "vsphereVolume": ("vSphereVolume (a Persistent Disk resource in vSphere)", (("VolumePath", "volumePath", ""), ("FSType", "fsType", ""), ("StoragePolicyName", "storagePolicyName", ""))),
    "photonPersistentDisk": ("PhotonPersistentDisk (a Persistent Disk resource in photon platform)", (("PdID", "pdID", ""), ("FSType", "fsType", ""))),
    "cinder": ("Cinder (a Persistent Disk resource in OpenStack)", (("VolumeID", "volumeID", ""), ("FSType", "fsType", ""), ("ReadOnly", "readOnly", "false"), ("SecretRef", "secretRef", "nil"))),
    "scaleIO": ("ScaleIO (a persistent volume backed by a block device in ScaleIO)", (("Gateway", "gateway", ""), ("System", "system", ""), ("Protection Domain", "protectionDomain", ""), ("Storage Pool", "storagePool", ""), ("Storage Mode", "storageMode", ""), ("VolumeName", "volumeName", ""), ("FSType", "fsType", ""), ("ReadOnly", "readOnly", "false"))),
    "local": ("LocalVolume (a persistent volume backed by local storage on a node)", (("Path", "path", ""),)),
    "cephfs": ("CephFS (a CephFS mount on the host that shares a pod's lifetime)", (("Monitors", "monitors", "[]"), ("Path", "path", ""), ("User", "user", ""), ("SecretFile", "secretFile", ""), ("SecretRef", "secretRef", "nil"), ("ReadOnly", "readOnly", "false"))),
    "storageos": ("StorageOS (a StorageOS Persistent Disk resource)", (("VolumeName", "volumeName", ""), ("VolumeNamespace", "volumeNamespace", ""), ("FSType", "fsType", ""), ("ReadOnly", "readOnly", "false"))),
    "fc": ("FC (a Fibre Channel disk)", (("TargetWWNs", "targetWWNs", ""), ("LUN", "lun", "<none>"), ("FSType", "fsType", ""), ("ReadOnly", "readOnly", "false"))),
    "flexVolume": ("FlexVolume (a generic volume resource that is provisioned/attached using an exec based plugin)", (("Driver", "driver", ""), ("FSType", "fsType", ""), ("SecretRef", "secretRef", "nil"), ("ReadOnly", "readOnly", "false"), ("Options", "options", "map[]"))),
    "flocker": ("Flocker (a Flocker volume mounted by the Flocker agent)", (("DatasetName", "datasetName", ""), ("DatasetUUID", "datasetUUID", ""))),
    "image": ("Image (a container image or OCI artifact)", (("Reference", "reference", ""), ("PullPolicy", "pullPolicy", ""))),
}  # fmt: skip


def volume_source(text: Text, volume: Object, *, persistent: bool = False) -> None:
    """The lines of one volume; `persistent` for the spec of a PersistentVolume."""
    kind = next((key for key in volume if key in _TEXT or key in _SPECIAL), "")
    source = volume.get(kind) or {}
    if kind in _SPECIAL:
        _SPECIAL[kind](text, source, persistent)
    elif kind in _TEXT:
        shown, parts = _TEXT[kind]
        text.field(2, "Type", shown)
        for name, key, default in parts:
            _line(text, name, source.get(key, default))
    else:
        text.line(2, "<unknown>")


def _line(text: Text, name: str, value: Any) -> None:
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, list):
        value = go_list(value)
    elif isinstance(value, dict):
        value = "&" + "{" + " ".join(str(v) for v in value.values()) + "}"
    text.line(2, f"{name}{value}" if name.endswith("\t") else f"{name}:\t{value}")


def _csi(text: Text, source: Object, persistent: bool) -> None:
    text.field(2, "Type", "CSI (a Container Storage Interface (CSI) volume source)")
    _line(text, "Driver", source.get("driver", ""))
    _line(text, "FSType", source.get("fsType", ""))
    if persistent:
        _line(text, "VolumeHandle", source.get("volumeHandle", ""))
    _line(text, "ReadOnly", source.get("readOnly", False))
    attributes = source.get("volumeAttributes") or {}
    for at, key in enumerate(sorted(attributes)):
        before = "VolumeAttributes:\t    " if at == 0 else "\t    "
        text.line(
            2 if at == 0 else 0, f"{before}{key}={attributes[key]}" if at == 0 else f"\t    {key}={attributes[key]}"
        )
    if not attributes:
        text.line(2, "VolumeAttributes:\t    <none>")


def _projected(text: Text, source: Object, persistent: bool) -> None:
    text.field(2, "Type", "Projected (a volume that contains injected data from multiple sources)")
    for part in source.get("sources") or ():
        if "secret" in part:
            _line(text, "SecretName", part["secret"].get("name", ""))
            _line(text, "Optional", part["secret"].get("optional", False))
        elif "downwardAPI" in part:
            _line(text, "DownwardAPI", True)
        elif "configMap" in part:
            _line(text, "ConfigMapName", part["configMap"].get("name", ""))
            _line(text, "Optional", part["configMap"].get("optional", False))
        elif "serviceAccountToken" in part:
            _line(text, "TokenExpirationSeconds", part["serviceAccountToken"].get("expirationSeconds", ""))


def _downward(text: Text, source: Object, persistent: bool) -> None:
    text.field(2, "Type", "DownwardAPI (a volume populated by information about the pod)")
    text.line(2, "Items:")
    for item in source.get("items") or ():
        if item.get("fieldRef"):
            text.line(3, f"{item['fieldRef']['fieldPath']} -> {item['path']}")
        if item.get("resourceFieldRef"):
            text.line(3, f"{item['resourceFieldRef']['resource']} -> {item['path']}")


def _ephemeral(text: Text, source: Object, persistent: bool) -> None:
    text.field(
        2, "Type", "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)"
    )
    template = source.get("volumeClaimTemplate")
    if template:
        claim(
            text, {"metadata": template.get("metadata") or {}, "spec": template.get("spec") or {}}, level=2, whole=False
        )


def claim(text: Text, obj: Object, *, level: int = 0, whole: bool = True) -> None:
    """A PersistentVolumeClaim, or (not `whole`) the template of one."""
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    if whole:
        text.field(level, "Name", meta["name"])
        text.field(level, "Namespace", meta.get("namespace", ""))
    beta = (meta.get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    text.field(level, "StorageClass", beta if beta is not None else spec.get("storageClassName", ""))
    if whole:
        if meta.get("deletionTimestamp"):
            from peavine.cli.describe.text import ago

            text.field(level, "Status", f"Terminating (lasts {ago(meta['deletionTimestamp'])})")
        else:
            text.field(level, "Status", status.get("phase", ""))
    text.field(level, "Volume", spec.get("volumeName", ""))
    inner = Text()
    labels(inner, 0, "Labels", meta.get("labels"))
    annotation_lines(inner, 0, "Annotations", meta.get("annotations"))
    for line in inner.lines:  # upstream indents these once more than their neighbours
        text.line(level if whole else level + 2, line)
    if whole:
        text.field(level, "Finalizers", go_list(meta.get("finalizers") or []))
    bound = bool(spec.get("volumeName"))
    text.field(level, "Capacity", (status.get("capacity") or {}).get("storage", "0") if bound else "")
    text.field(level, "Access Modes", access_modes(status.get("accessModes")) if bound else "")
    if spec.get("volumeMode") or not whole:
        text.field(level, "VolumeMode", spec.get("volumeMode", "Filesystem"))
    if spec.get("dataSource"):
        text.line(level, "DataSource:")
        if spec["dataSource"].get("apiGroup"):
            text.field(level + 1, "APIGroup", spec["dataSource"]["apiGroup"])
        text.field(level + 1, "Kind", f" {spec['dataSource'].get('kind', '')}".strip())
        text.field(level + 1, "Name", spec["dataSource"].get("name", ""))


_SPECIAL = {"csi": _csi, "projected": _projected, "downwardAPI": _downward, "ephemeral": _ephemeral}
