"""ResourceSlice: devices that a driver offers, of one pool, on one node or several."""

from __future__ import annotations

from typing import Any

from peavine.api import alpha
from peavine.api.core.scheduling_validation import validate_node_selector
from peavine.api.core.volume_validation import driver_name
from peavine.api.fields import broken, named
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.api.resource import devices
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, invalid_value, required

Object = dict[str, Any]

DEVICES_MAX, PARTS_MAX, TAINTS_MAX = 128, 32, 16
COLUMNS = (
    NAME,
    Column("Node", description="@resource.v1.ResourceSliceSpec.nodeName"),
    Column("Driver", description="@resource.v1.ResourceSliceSpec.driver"),
    Column("Pool", description="@resource.v1.ResourceSliceSpec.pool"),
    AGE,
)
FIELD_LABELS = {
    "spec.nodeName": lambda obj: (obj.get("spec") or {}).get("nodeName") or "",
    "spec.driver": lambda obj: (obj.get("spec") or {}).get("driver") or "",
}
UNKNOWN_FIELD_LABEL = "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {}"


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    pool = (spec.get("pool") or {}).get("name") or ""
    return [name(obj), spec.get("nodeName") or "<unset>", spec.get("driver") or "", pool, object_age(obj)]


def default(obj: Object) -> None:
    from peavine.machinery.meta import now

    for device in (obj.get("spec") or {}).get("devices") or []:
        for attribute in (device.get("attributes") or {}).values():
            alpha.drop(attribute, alpha.DEVICE_ATTRIBUTE)
        for taint in device.get("taints") or []:
            if not taint.get("timeAdded"):
                taint["timeAdded"] = now()


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = driver_name(spec.get("driver") or "", "spec.driver")
    pool = spec.get("pool") or {}
    errors += devices.pool_name(pool.get("name") or "", "spec.pool.name")
    if (pool.get("resourceSliceCount") or 0) <= 0:
        message = "must be greater than zero"
        errors.append(invalid_value("spec.pool.resourceSliceCount", pool.get("resourceSliceCount") or 0, message))
    if (pool.get("generation") or 0) < 0:
        message = "must be greater than or equal to zero"
        errors.append(invalid_value("spec.pool.generation", pool["generation"], message))
    errors += _where(spec)
    found = spec.get("devices") or []
    errors += devices.too_many("spec.devices", len(found), DEVICES_MAX)
    seen: set[str] = set()
    for i, device in enumerate(found):
        field = f"spec.devices[{i}]"
        own = device.get("name") or ""
        errors += named(f"{field}.name", own, rules.is_dns1123_label)
        if own in seen:
            errors.append(duplicate(f"{field}.name", own))
        seen.add(own)
        errors += _device(device, field)
    return errors


def _where(spec: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    set_fields = [
        part
        for part in ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
        if spec.get(part) not in (None, "", False)
    ]
    if spec.get("nodeName"):
        errors += broken("spec.nodeName", spec["nodeName"], rules.is_dns1123_subdomain(spec["nodeName"]))
    if spec.get("nodeSelector") is not None:
        errors += validate_node_selector(spec["nodeSelector"], "spec.nodeSelector")
        terms = spec["nodeSelector"].get("nodeSelectorTerms") or []
        if len(terms) != 1:
            message = "must have exactly one node selector term"
            errors.append(invalid_value("spec.nodeSelector.nodeSelectorTerms", terms, message))
    names = "`nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`"
    if not set_fields:
        message = f"exactly one of {names} is required"
        errors.append(required("spec", message))
    elif len(set_fields) > 1:
        shown = "{" + ", ".join(f"`{part}`" for part in set_fields) + "}"
        message = f"exactly one of {names} is required, but multiple fields are set"
        errors.append(invalid_value("spec", shown, message))
    return errors


def _device(device: Object, field: str) -> list[FieldError]:
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    errors: list[FieldError] = []
    total = len(attributes) + len(capacity)
    if total > PARTS_MAX:
        message = f"the total number of attributes and capacities must not exceed {PARTS_MAX}"
        errors.append(invalid_value(field, total, message))
    for key, value in attributes.items():
        errors += devices.qualified_name(key, f"{field}.attributes[{key}]")
        kinds = [kind for kind in ("int", "bool", "string", "version") if value.get(kind) is not None]
        if not kinds:
            errors.append(required(f"{field}.attributes[{key}]", "exactly one value must be specified"))
        elif len(kinds) > 1:
            message = "exactly one value must be specified"
            errors.append(invalid_value(f"{field}.attributes[{key}]", value, message))
    for key in capacity:
        errors += devices.qualified_name(key, f"{field}.capacity[{key}]")
    taints = device.get("taints") or []
    errors += devices.too_many(f"{field}.taints", len(taints), TAINTS_MAX)
    for i, taint in enumerate(taints):
        errors += devices.validate_taint(taint, f"{field}.taints[{i}]")
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    errors += rules.validate_immutable(
        (spec.get("pool") or {}).get("name"), (before.get("pool") or {}).get("name"), "spec.pool.name"
    )
    for part in ("driver", "nodeName"):
        errors += rules.validate_immutable(spec.get(part), before.get(part), f"spec.{part}")
    return errors
