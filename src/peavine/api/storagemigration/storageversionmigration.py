"""StorageVersionMigration: rewrite all objects of a resource in its current stored form."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import strip
from peavine.api.printing import NAME, Column, name
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, required

Object = dict[str, Any]

COLUMNS = (NAME, Column("Resource", description="@storagemigration.v1.StorageVersionMigrationSpec.resource"))


def row(obj: Object) -> list[Any]:
    resource = (obj.get("spec") or {}).get("resource") or {}
    group = resource.get("group")
    text = resource.get("resource") or ""
    return [name(obj), f"{text}.{group}" if group else text]


def validate_create(obj: Object) -> list[FieldError]:
    resource = (obj.get("spec") or {}).get("resource") or {}
    errors: list[FieldError] = []
    if not resource.get("resource"):
        errors.append(required("spec.resource.resource", "resource is required"))
    if resource.get("group"):
        group = resource["group"]
        errors += [invalid_value("spec.resource.group", group, m) for m in rules.is_dns1123_subdomain(group)]
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    if strip(new.get("spec")) != strip(old.get("spec")):
        return [invalid_value("spec", new.get("spec"), "field is immutable")]
    return []


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    conditions = (new.get("status") or {}).get("conditions") or []
    errors = rules.validate_conditions(conditions, "status.conditions")
    true = {c.get("type") for c in conditions if c.get("status") == "True"}
    if {"Succeeded", "Failed"} <= true:
        message = "Both success and failed conditions cannot be true at the same time"
        errors.append(invalid_value("status.conditions", conditions, message))
    if true & {"Succeeded", "Failed"} and "Running" in true:
        message = "Running condition cannot be true when succeeded or failed condition is true"
        errors.append(invalid_value("status.conditions", conditions, message))
    return errors
