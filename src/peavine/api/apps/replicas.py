"""What ReplicaSet and ReplicationController, its forerunner, have in common: columns, defaults, status, warnings."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, CONTAINERS, IMAGES, NAME, Column, containers_and_images, name, object_age
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

FIELD_LABELS = {"status.replicas": lambda obj: str((obj.get("status") or {}).get("replicas") or 0)}


def columns(definition: str) -> tuple[Column, ...]:
    """`definition` is the schema's name of the kind, such as `apps.v1.ReplicaSet`."""
    return (
        NAME,
        Column("Desired", "integer", f"@{definition}Spec.replicas"),
        Column("Current", "integer", f"@{definition}Status.replicas"),
        Column("Ready", "integer", f"@{definition}Status.readyReplicas"),
        AGE,
        CONTAINERS,
        IMAGES,
        Column("Selector", description=f"@{definition}Spec.selector", priority=1),
    )


def cells(obj: Object, selector: str) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    counts = (spec.get("replicas"), status.get("replicas"), status.get("readyReplicas"))
    shown = [count or 0 for count in counts]
    return [name(obj), *shown, object_age(obj), *containers_and_images(spec.get("template")), selector]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_template

    spec = obj.setdefault("spec", {})
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    default_template(spec.get("template"))


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
