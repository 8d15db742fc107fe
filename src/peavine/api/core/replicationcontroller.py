"""ReplicationController: what ReplicaSet was before there were label selectors."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, CONTAINERS, IMAGES, NAME, Column, containers_and_images, labels, name, object_age
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Desired", "integer", "@core.v1.ReplicationControllerSpec.replicas"),
    Column("Current", "integer", "@core.v1.ReplicationControllerStatus.replicas"),
    Column("Ready", "integer", "@core.v1.ReplicationControllerStatus.readyReplicas"),
    AGE,
    CONTAINERS,
    IMAGES,
    Column("Selector", description="@core.v1.ReplicationControllerSpec.selector", priority=1),
)
FIELD_LABELS = {"status.replicas": lambda obj: str((obj.get("status") or {}).get("replicas") or 0)}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return [
        name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        object_age(obj),
        *containers_and_images(spec.get("template")),
        labels(spec.get("selector")),
    ]


def default(obj: Object) -> None:
    from peavine.api.core.podspec_defaults import default_template

    spec = obj.setdefault("spec", {})
    own = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if own:
        if not spec.get("selector"):
            spec["selector"] = dict(own)
        meta = obj.setdefault("metadata", {})
        if not meta.get("labels"):
            meta["labels"] = dict(own)
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    default_template(spec.get("template"))


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.core.podspec_validation import validate_pod_template
    from peavine.api.fields import non_negative

    spec = obj.get("spec") or {}
    errors = non_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector, template = spec.get("selector") or {}, spec.get("template")
    if not selector:
        errors.append(required("spec.selector"))
    errors += non_negative("spec.replicas", spec.get("replicas"))
    if template is None:
        return [*errors, required("spec.template")]
    own = (template.get("metadata") or {}).get("labels") or {}
    if any(own.get(key) != value for key, value in selector.items()):
        message = "`selector` does not match template `labels`"
        errors.append(invalid_value("spec.template.metadata.labels", own or None, message))
    errors += validate_pod_template(template, "spec.template")
    pod = template.get("spec") or {}
    if pod.get("restartPolicy") != "Always":
        errors.append(not_supported("spec.template.spec.restartPolicy", pod.get("restartPolicy") or "", ["Always"]))
    if pod.get("activeDeadlineSeconds") is not None:
        message = "activeDeadlineSeconds in ReplicationController is not Supported"
        errors.append(forbidden_field("spec.template.spec.activeDeadlineSeconds", message))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.apps import replicaset

    return replicaset.validate_status_update(new, old)


def warnings(obj: Object, old: Object | None) -> list[str]:
    from peavine.api.core.podspec_warnings import template_warnings

    return template_warnings(obj, old)
