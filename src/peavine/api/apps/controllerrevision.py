"""ControllerRevision: a sealed snapshot that StatefulSets and DaemonSets roll back to."""

from __future__ import annotations

from typing import Any

from peavine.api.core.podstate import controller_of
from peavine.api.printing import AGE, NAME, NONE, Column, name, object_age
from peavine.machinery.errors import FieldError, invalid_value, required

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Controller", description="Controller of the object"),
    Column("Revision", description="@apps.v1.ControllerRevision.revision"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    owner = controller_of(obj)
    shown = NONE
    if owner:
        group, _, _ = (owner.get("apiVersion") or "").rpartition("/")
        kind = (owner.get("kind") or "").lower()
        shown = f"{kind}.{group}/{owner.get('name')}" if group else f"{kind}/{owner.get('name')}"
    return [name(obj), shown, obj.get("revision") or 0, object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    data = obj.get("data")
    if data is None:
        errors.append(required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        errors.append(invalid_value("data", data, "data must be a valid JSON object"))
    if (obj.get("revision") or 0) < 0:
        errors.append(invalid_value("revision", obj["revision"], "must be greater than or equal to 0"))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.fields import immutable

    return validate_create(new) + immutable("data", new.get("data"), old.get("data"))
