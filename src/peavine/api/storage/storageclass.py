"""StorageClass: how volumes of a kind are made."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import same
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

DEFAULT = "storageclass.kubernetes.io/is-default-class"
OLD_DEFAULT = "storageclass.beta.kubernetes.io/is-default-class"
PARAMETERS_BYTES_MAX, PARAMETERS_MAX = 256 * 1024, 512

COLUMNS = (
    NAME,
    Column("Provisioner", description="@storage.v1.StorageClass.provisioner"),
    Column("ReclaimPolicy", description="@storage.v1.StorageClass.reclaimPolicy"),
    Column("VolumeBindingMode", description="@storage.v1.StorageClass.volumeBindingMode"),
    Column("AllowVolumeExpansion", description="@storage.v1.StorageClass.allowVolumeExpansion"),
    AGE,
)


def is_default(obj: Object) -> bool:
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return "true" in (annotations.get(DEFAULT), annotations.get(OLD_DEFAULT))


def row(obj: Object) -> list[Any]:
    return [
        name(obj) + (" (default)" if is_default(obj) else ""),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        object_age(obj),
    ]


def default(obj: Object) -> None:
    if obj.get("reclaimPolicy") is None:
        obj["reclaimPolicy"] = "Delete"
    if obj.get("volumeBindingMode") is None:
        obj["volumeBindingMode"] = "Immediate"


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    provisioner = obj.get("provisioner") or ""
    if not provisioner:
        errors.append(required("provisioner"))
    else:
        errors += [invalid_value("provisioner", provisioner, m) for m in rules.is_qualified_name(provisioner.lower())]
    errors += validate_parameters(obj.get("parameters") or {}, "parameters")
    policy = obj.get("reclaimPolicy")
    if policy and policy not in ("Delete", "Retain"):
        errors.append(not_supported("reclaimPolicy", policy, ["Delete", "Retain"]))
    mode = obj.get("volumeBindingMode")
    if mode is None:
        errors.append(required("volumeBindingMode"))
    elif mode not in ("Immediate", "WaitForFirstConsumer"):
        errors.append(not_supported("volumeBindingMode", mode, ["Immediate", "WaitForFirstConsumer"]))
    return errors + _topologies(obj.get("allowedTopologies") or [])


def validate_parameters(parameters: Object, field: str, *, least: int = 0) -> list[FieldError]:
    errors: list[FieldError] = []
    if len(parameters) > PARAMETERS_MAX:
        message = f"must have at most {PARAMETERS_MAX} items"
        return [FieldError("TooLong", field, "", message)]
    size = 0
    for key, value in parameters.items():
        if not key:
            message = "field can not be empty."
            errors.append(invalid_value(field, key, message))
        size += len(key) + len(value)
    if size > PARAMETERS_BYTES_MAX:
        errors.append(FieldError("TooLong", field, "", f"may not be more than {PARAMETERS_BYTES_MAX} bytes"))
    if len(parameters) < least:
        errors.append(required(field, "must contain at least one key/value pair"))
    return errors


def _topologies(terms: list[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, term in enumerate(terms):
        seen: set[str] = set()
        for j, requirement in enumerate(term.get("matchLabelExpressions") or []):
            field = f"allowedTopologies[{i}].matchLabelExpressions[{j}]"
            key, values = requirement.get("key") or "", requirement.get("values") or []
            errors += rules.validate_label_name(key, f"{field}.key")
            if key in seen:
                errors.append(FieldError("Duplicate", f"{field}.key", key))
            seen.add(key)
            if not values:
                errors.append(required(f"{field}.values"))
            for k, value in enumerate(values):
                if value in values[:k]:
                    errors.append(FieldError("Duplicate", f"{field}.values[{k}]", value))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    if (new.get("parameters") or {}) != (old.get("parameters") or {}):
        errors.append(forbidden_field("parameters", "updates to parameters are forbidden."))
    if new.get("provisioner") != old.get("provisioner"):
        errors.append(forbidden_field("provisioner", "updates to provisioner are forbidden."))
    if new.get("reclaimPolicy") != old.get("reclaimPolicy"):
        errors.append(forbidden_field("reclaimPolicy", "updates to reclaimPolicy are forbidden."))
    return errors + same("volumeBindingMode", new.get("volumeBindingMode"), old.get("volumeBindingMode"))


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import DEPRECATED_LABELS

    return [
        f"allowedTopologies[{i}].matchLabelExpressions[{j}].key: {key} is {DEPRECATED_LABELS[key]}"
        for i, term in enumerate(obj.get("allowedTopologies") or [])
        for j, expression in enumerate(term.get("matchLabelExpressions") or [])
        if (key := expression.get("key")) in DEPRECATED_LABELS
    ]
