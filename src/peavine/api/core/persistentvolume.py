"""PersistentVolume: a piece of storage."""

from __future__ import annotations

from typing import Any

from peavine.api.core.persistentvolumeclaim import BETA_CLASS, validate_access_modes
from peavine.api.fields import broken, positive_quantity, strip
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, access_modes, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

KEEPS_STATUS_ON_CREATE = True
COLUMNS = (
    NAME,
    Column("Capacity", description="@core.v1.PersistentVolumeSpec.capacity"),
    Column("Access Modes", description="@core.v1.PersistentVolumeSpec.accessModes"),
    Column("Reclaim Policy", description="@core.v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy"),
    Column("Status", description="@core.v1.PersistentVolumeStatus.phase"),
    Column("Claim", description="@core.v1.PersistentVolumeSpec.claimRef"),
    Column("StorageClass", description="StorageClass of the pv"),
    Column("VolumeAttributesClass", description="VolumeAttributesClass of the pv"),
    Column("Reason", description="@core.v1.PersistentVolumeStatus.reason"),
    AGE,
    Column("VolumeMode", description="@core.v1.PersistentVolumeSpec.volumeMode", priority=1),
)
FIELD_LABELS = {"name": name}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    phase = status.get("phase") or ""
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        phase = "Terminating"
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return [
        name(obj),
        str((spec.get("capacity") or {}).get("storage") or "0"),
        access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        phase,
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        annotations.get(BETA_CLASS) or spec.get("storageClassName") or "",
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason") or "",
        object_age(obj),
        spec.get("volumeMode") or "<unset>",
    ]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_volume_source

    status = obj.setdefault("status", {})
    status["phase"] = status.get("phase") or "Pending"
    spec = obj.setdefault("spec", {})
    spec["persistentVolumeReclaimPolicy"] = spec.get("persistentVolumeReclaimPolicy") or "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    for kind, source in list(spec.items()):
        if isinstance(source, dict):
            default_volume_source(kind, source)


def prepare_create(obj: Object) -> None:
    from peavine.machinery.meta import now

    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": now()}


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")
    status, before = new.setdefault("status", {}), old.get("status") or {}
    if status.get("phase") != before.get("phase") and status.get("lastPhaseTransitionTime") == before.get(
        "lastPhaseTransitionTime"
    ):
        from peavine.machinery.meta import now

        status["lastPhaseTransitionTime"] = now()


SHARED = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
]


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    modes, capacity = spec.get("accessModes") or [], spec.get("capacity") or {}
    if not modes:
        errors.append(required("spec.accessModes"))
    errors += validate_access_modes(modes, "spec.accessModes")
    if not capacity:
        errors.append(required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(not_supported("spec.capacity", spec.get("capacity"), ["storage"]))
    for resource, value in capacity.items():
        errors += positive_quantity(f"spec.capacity[{resource}]", value)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in ("Delete", "Recycle", "Retain"):
        choices = ["Delete", "Recycle", "Retain"]
        errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, choices))
    errors += _sources(spec)
    if (spec.get("hostPath") or {}).get("path") == "/" and policy == "Recycle":
        message = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", message))
    for part in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(part):
            errors += broken(f"spec.{part}", spec[part], rules.is_dns1123_subdomain(spec[part]))
    mode = spec.get("volumeMode")
    if mode is not None and mode not in ("Block", "Filesystem"):
        errors.append(not_supported("spec.volumeMode", mode, ["Block", "Filesystem"]))
    if spec.get("volumeAttributesClassName") is not None and spec.get("csi") is None:
        errors.append(required("spec.csi", "has to be specified when using volumeAttributesClassName"))
    return errors


def _sources(spec: Object) -> list[FieldError]:
    from peavine.api.core.scheduling_validation import validate_node_selector
    from peavine.api.core.volume_validation import SOURCES, driver_name

    errors: list[FieldError] = []
    affinity = (spec.get("nodeAffinity") or {}).get("required")
    if spec.get("nodeAffinity") is not None:
        if affinity is None:
            errors.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
        else:
            errors += validate_node_selector(affinity, "spec.nodeAffinity.required")
    count = 0
    for kind in SHARED:
        source = spec.get(kind)
        if source is None:
            continue
        field = f"spec.{kind}"
        if count:
            errors.append(forbidden_field(field, "may not specify more than 1 volume type"))
            continue
        count += 1
        if kind == "local":
            path = source.get("path") or ""
            if not path:
                errors.append(required(f"{field}.path"))
            if affinity is None:
                errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
        elif kind == "csi":
            errors += driver_name(source.get("driver") or "", f"{field}.driver")
            if not source.get("volumeHandle"):
                errors.append(required(f"{field}.volumeHandle"))
        else:
            errors += SOURCES[kind](source, field)
    if not count:
        errors.append(required("spec", "must specify a volume type"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    now, then = ({k: v for k, v in s.items() if k in SHARED} for s in (spec, before))
    if strip(now) != strip(then):
        message = "spec.persistentvolumesource is immutable after creation"
        errors.append(forbidden_field("spec.persistentvolumesource", message))
    if spec.get("volumeMode") != before.get("volumeMode"):
        errors.append(invalid_value("spec.volumeMode", spec.get("volumeMode"), "field is immutable"))
    if before.get("nodeAffinity") is not None and strip(spec.get("nodeAffinity")) != strip(before["nodeAffinity"]):
        errors.append(invalid_value("spec.nodeAffinity", spec.get("nodeAffinity"), "field is immutable"))
    return errors


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import term_warnings
    from peavine.api.core.volume_warnings import DEPRECATED_VOLUMES

    spec = obj.get("spec") or {}
    found = [f"spec.{kind}: {words}" for kind, words in DEPRECATED_VOLUMES.items() if spec.get(kind) is not None]
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )
    for i, term in enumerate(((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or []):
        found += term_warnings(term, f"spec.nodeAffinity.required.nodeSelectorTerms[{i}]")
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if BETA_CLASS in annotations:
        found.append(
            f'metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
        )
    return found
