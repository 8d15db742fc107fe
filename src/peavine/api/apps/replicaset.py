"""ReplicaSet: a number of pods of one template."""

from __future__ import annotations

from typing import Any

from peavine.api.apps.replicas import FIELD_LABELS, cells, columns, default, validate_status_update, warnings
from peavine.api.printing import selector
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = columns("apps.v1.ReplicaSet")
UNKNOWN_FIELD_LABEL = 'field label "{}" not supported for appsv1.ReplicaSet'


def row(obj: Object) -> list[Any]:
    return cells(obj, selector((obj.get("spec") or {}).get("selector")))


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.apps import workload
    from peavine.api.fields import non_negative

    spec = obj.get("spec") or {}
    errors = non_negative("spec.replicas", spec.get("replicas"))
    errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += workload.validate_selector(spec, "spec")
    return errors + workload.validate_template(spec.get("template"), spec, "spec.template")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.fields import immutable

    selectors = [(o.get("spec") or {}).get("selector") for o in (new, old)]
    return validate_create(new) + immutable("spec.selector", *selectors)


__all__ = ["COLUMNS", "FIELD_LABELS", "default", "row", "validate_status_update", "warnings"]
