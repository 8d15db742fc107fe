"""ReplicaSet: a number of pods of one template."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import (
    AGE,
    CONTAINERS,
    IMAGES,
    NAME,
    Column,
    containers_and_images,
    name,
    object_age,
    selector,
)
from peavine.machinery.errors import FieldError, invalid_value, required

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Desired", "integer", "@apps.v1.ReplicaSetSpec.replicas"),
    Column("Current", "integer", "@apps.v1.ReplicaSetStatus.replicas"),
    Column("Ready", "integer", "@apps.v1.ReplicaSetStatus.readyReplicas"),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", description="@apps.v1.ReplicaSetSpec.selector", priority=1),
)
FIELD_LABELS = {"status.replicas": lambda obj: str((obj.get("status") or {}).get("replicas") or 0)}
UNKNOWN_FIELD_LABEL = 'field label "{}" not supported for appsv1.ReplicaSet'


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        object_age(obj),
        *containers_and_images(spec.get("template")),
        selector(spec.get("selector")),
    ]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_template

    spec = obj.setdefault("spec", {})
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    default_template(spec.get("template"))


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.apps import workload
    from peavine.api.fields import non_negative
    from peavine.machinery import validation as rules

    spec = obj.get("spec") or {}
    errors = non_negative("spec.replicas", spec.get("replicas"))
    errors += non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector = spec.get("selector")
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        errors += rules.validate_label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            errors.append(invalid_value("spec.selector", selector, "empty selector is invalid for deployment"))
    return errors + workload.validate_template(spec.get("template"), spec, "spec.template")


def validate_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.fields import immutable

    selectors = [(o.get("spec") or {}).get("selector") for o in (new, old)]
    return validate_create(new) + immutable("spec.selector", *selectors)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.apps import workload

    status, field = new.get("status") or {}, "status"
    names = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    errors = workload.replicas_status(status, field, (*names, "terminatingReplicas"))
    message = "cannot be greater than status.replicas"
    for part in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        errors += workload.at_most(field, status, part, "replicas", message)
    message = "cannot be greater than readyReplicas"
    return errors + workload.at_most(field, status, "availableReplicas", "readyReplicas", message)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    return template_warnings(obj, old)
