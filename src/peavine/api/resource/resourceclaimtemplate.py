"""ResourceClaimTemplate: a claim for each pod that names it."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import strip
from peavine.api.printing import AGE, NAME, name, object_age
from peavine.api.resource import devices
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

COLUMNS = (NAME, AGE)


def row(obj: Object) -> list[Any]:
    return [name(obj), object_age(obj)]


def default(obj: Object) -> None:
    devices.default_claim_spec((obj.get("spec") or {}).get("spec") or {})


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    meta = spec.get("metadata") or {}
    errors = rules.validate_labels(meta.get("labels"), "spec.metadata.labels")
    errors += rules.validate_annotations(meta.get("annotations"), "spec.metadata.annotations")
    return errors + devices.validate_claim_spec(spec.get("spec") or {}, "spec.spec")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    if strip(new.get("spec")) != strip(old.get("spec")):
        return [invalid_value("spec", new.get("spec"), "field is immutable")]
    return []
