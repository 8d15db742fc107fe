"""ReplicationController: what ReplicaSet was before there were label selectors."""

from __future__ import annotations

from typing import Any

from peavine.api.apps import replicas
from peavine.api.apps.replicas import FIELD_LABELS, validate_status_update, warnings
from peavine.api.printing import labels
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

COLUMNS = replicas.columns("core.v1.ReplicationController")
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    return replicas.cells(obj, labels((obj.get("spec") or {}).get("selector")))


def default(obj: Object) -> None:
    """What it selects, and how it is labelled itself, comes from the template."""
    spec = obj.setdefault("spec", {})
    own = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if own:
        if not spec.get("selector"):
            spec["selector"] = dict(own)
        meta = obj.setdefault("metadata", {})
        if not meta.get("labels"):
            meta["labels"] = dict(own)
    replicas.default(obj)


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


__all__ = ["COLUMNS", "FIELD_LABELS", "validate_status_update", "warnings"]
