"""PersistentVolumeClaim: a wish for storage that a volume comes to fulfil."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import broken, positive_quantity, quantity, strip
from peavine.api.kind import keep
from peavine.api.printing import AGE, NAME, Column, access_modes, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
COLUMNS = (
    NAME,
    Column("Status", description="@core.v1.PersistentVolumeClaimStatus.phase"),
    Column("Volume", description="@core.v1.PersistentVolumeClaimSpec.volumeName"),
    Column("Capacity", description="@core.v1.PersistentVolumeClaimStatus.capacity"),
    Column("Access Modes", description="@core.v1.PersistentVolumeClaimStatus.accessModes"),
    Column("StorageClass", description="StorageClass of the pvc"),
    Column("VolumeAttributesClass", description="VolumeAttributesClass of the pvc"),
    AGE,
    Column("VolumeMode", description="@core.v1.PersistentVolumeClaimSpec.volumeMode", priority=1),
)


FIELD_LABELS = {"name": name}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    phase = status.get("phase") or ""
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        phase = "Terminating"
    capacity = modes = ""
    if spec.get("volumeName"):
        modes = access_modes(status.get("accessModes"))
        capacity = (status.get("capacity") or {}).get("storage") or "0"
    return [
        name(obj),
        phase,
        spec.get("volumeName") or "",
        capacity,
        modes,
        storage_class(obj),
        spec.get("volumeAttributesClassName") or "<unset>",
        object_age(obj),
        spec.get("volumeMode") or "<unset>",
    ]


def storage_class(obj: Object) -> str:
    """The class of a claim or volume: the annotation of old before the field."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return annotations.get(BETA_CLASS) or (obj.get("spec") or {}).get("storageClassName") or ""


def default(obj: Object) -> None:
    status = obj.setdefault("status", {})
    status["phase"] = status.get("phase") or "Pending"
    spec = obj.setdefault("spec", {})
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    normalize_data_source(spec)


def normalize_data_source(spec: Object) -> None:
    """dataSource and dataSourceRef mirror each other where only one is set."""
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if reference is not None and reference.get("namespace"):
        spec.pop("dataSourceRef")  # sources in other namespaces are an alpha feature
        reference = None
    if source is not None and reference is None:
        spec["dataSourceRef"] = dict(source)
    elif reference is not None and source is None and not reference.get("namespace"):
        spec["dataSource"] = {k: v for k, v in reference.items() if k != "namespace"}


KEEPS_STATUS_ON_CREATE = True


def prepare_create(obj: Object) -> None:
    obj["status"] = {"phase": "Pending"}


def prepare_status_update(new: Object, old: Object) -> None:
    keep(new, old, "spec")


def validate_create(obj: Object) -> list[FieldError]:
    return validate_spec(obj.get("spec") or {}, "spec")


def validate_spec(spec: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    modes = spec.get("accessModes") or []
    if not modes:
        errors.append(required(f"{field}.accessModes", "at least 1 access mode is required"))
    errors += rules.validate_label_selector(spec.get("selector"), f"{field}.selector")
    errors += validate_access_modes(modes, f"{field}.accessModes")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        errors.append(required(f"{field}.resources[storage]"))
    else:
        errors += positive_quantity(f"{field}.resources[storage]", storage)
    class_name = spec.get("storageClassName")
    if class_name:
        errors += broken(f"{field}.storageClassName", class_name, rules.is_dns1123_subdomain(class_name))
    mode = spec.get("volumeMode")
    if mode is not None and mode not in ("Block", "Filesystem"):
        errors.append(not_supported(f"{field}.volumeMode", mode, ["Block", "Filesystem"]))
    for part in ("dataSource", "dataSourceRef"):
        if spec.get(part) is not None:
            errors += _data_source(spec[part], f"{field}.{part}")
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    mirrored = source is not None and reference is not None and not reference.get("namespace")
    if mirrored and strip(source) != strip(reference):
        errors.append(invalid_value(field, field + ".dataSource", "must match dataSourceRef"))
    attributes = spec.get("volumeAttributesClassName")
    if attributes:
        errors += broken(f"{field}.volumeAttributesClassName", attributes, rules.is_dns1123_subdomain(attributes))
    return errors


def validate_access_modes(modes: list[str], field: str) -> list[FieldError]:
    errors = [not_supported(field, mode, MODES) for mode in modes if mode not in MODES]
    if "ReadWriteOncePod" in modes and len(set(modes)) > 1:
        message = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden_field(field, message))
    return errors


def _data_source(source: Object, field: str) -> list[FieldError]:
    errors = [required(f"{field}.{part}") for part in ("name", "kind") if not source.get(part)]
    if not source.get("apiGroup") and source.get("kind") != "PersistentVolumeClaim":
        message = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid_value(field, source.get("kind") or "", message))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    spec, before = dict(new.get("spec") or {}), dict(old.get("spec") or {})
    bound = (old.get("status") or {}).get("phase") == "Bound"
    if not before.get("volumeName"):
        spec["volumeName"] = before.get("volumeName")
    if before.get("storageClassName") is None:
        spec["storageClassName"] = before.get("storageClassName")  # a default class comes later
    for part in ("volumeAttributesClassName", "resources"):
        spec[part] = before.get(part) if part != "resources" else _same_but_size(spec, before)
    now, then = _size(new), _size(old)
    if strip(spec) != strip(before) or (now != then and not bound):
        errors.append(forbidden_field("spec", IMMUTABLE + "\n" + _difference(before, new.get("spec") or {})))
    if now < then:
        capacity = quantity((((old.get("status") or {}).get("capacity")) or {}).get("storage") or "0")
        if now <= capacity:
            message = "field can not be less than status.capacity"
            errors.append(forbidden_field("spec.resources.requests.storage", message))
    return errors


def _same_but_size(spec: Object, before: Object) -> Any:
    resources = {**(spec.get("resources") or {})}
    requests = {**(resources.get("requests") or {})}
    requests["storage"] = ((before.get("resources") or {}).get("requests") or {}).get("storage")
    return {**resources, "requests": requests}


def _difference(before: Object, after: Object) -> str:
    from peavine.api.core.pod_validation import _difference as difference

    return difference(before, after)


def _size(obj: Object) -> Any:
    return quantity((((obj.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage") or "0")


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("capacity", "allocatedResources"):
        for resource, value in ((new.get("status") or {}).get(part) or {}).items():
            if quantity(value).nanos < 0:
                at = f"status.{part}[{resource}]"
                errors.append(invalid_value(at, str(value), "must be greater than or equal to 0"))
    return errors


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.volume_warnings import claim_warnings

    found: list[str] = []
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if BETA_CLASS in annotations:
        found.append(
            f'metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead'
        )
    return found + claim_warnings(obj.get("spec") or {}, "spec")
