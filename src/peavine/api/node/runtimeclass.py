"""RuntimeClass: which handler of the container runtime runs a pod."""

from __future__ import annotations

from typing import Any

from peavine.api.core.resource_validation import validate_requirements
from peavine.api.core.scheduling_validation import validate_tolerations
from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate

Object = dict[str, Any]

COLUMNS = (NAME, Column("Handler", description="@node.v1.RuntimeClass.handler"), AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), obj.get("handler") or "", object_age(obj)]


def validate_create(obj: Object) -> list[FieldError]:
    handler = obj.get("handler") or ""
    errors = broken("handler", handler, rules.is_dns1123_label(handler))
    overhead = (obj.get("overhead") or {}).get("podFixed")
    if overhead:
        for error in validate_requirements({"limits": overhead}, "overhead.podFixed"):
            errors.append(error)
    scheduling = obj.get("scheduling")
    if scheduling is not None:
        selector, tolerations = scheduling.get("nodeSelector"), scheduling.get("tolerations") or []
        errors += rules.validate_labels(selector, "scheduling.nodeSelector")
        errors += validate_tolerations(tolerations, "scheduling.tolerations")
        for i, toleration in enumerate(tolerations):
            if toleration in tolerations[:i]:
                errors.append(duplicate(f"scheduling.tolerations[{i}]", toleration))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return rules.validate_immutable(new.get("handler"), old.get("handler"), "handler")


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import label_warnings

    return label_warnings((obj.get("scheduling") or {}).get("nodeSelector") or {}, "scheduling.nodeSelector")
