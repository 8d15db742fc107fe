"""What the controllers of pods have in common: selectors that must match their template, and how updates roll."""

from __future__ import annotations

from typing import Any

from peavine.api.core.podspec_validation import validate_pod_template
from peavine.api.fields import broken, selector_matches
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]


def validate_selector(spec: Object, field: str) -> list[FieldError]:
    """A required selector that selects something."""
    errors: list[FieldError] = []
    selector = spec.get("selector")
    if selector is None:
        errors.append(required(f"{field}.selector"))
    else:
        errors += rules.validate_label_selector(selector, f"{field}.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            message = "empty selector is invalid for deployment"
            errors.append(invalid_value(f"{field}.selector", selector, message))
    return errors


def validate_template(template: Object | None, spec: Object, field: str) -> list[FieldError]:
    """The template of something that keeps pods running."""
    errors: list[FieldError] = []
    selector = spec.get("selector")
    if template is None:
        return [required(field)]
    given = (template.get("metadata") or {}).get("labels")
    labels = given or {}
    if not selects_template(selector, labels):
        message = "`selector` does not match template `labels`"
        errors.append(invalid_value(f"{field}.metadata.labels", given, message))
    errors += validate_pod_template(template, field)
    pod = template.get("spec") or {}
    if (spec.get("replicas") or 0) > 1:
        errors += _exclusive_disks(pod, field)
    if pod.get("restartPolicy") != "Always":
        errors.append(not_supported(f"{field}.spec.restartPolicy", pod.get("restartPolicy") or "", ["Always"]))
    if pod.get("activeDeadlineSeconds") is not None:
        kind = "ReplicaSet"
        message = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden_field(f"{field}.spec.activeDeadlineSeconds", message))
    return errors


def selects_template(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a selector selects the template; an empty one does (it is an error of its own), none does not."""
    if selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions"):
        return True
    return selector_matches(selector, labels)


def _exclusive_disks(pod: Object, field: str) -> list[FieldError]:
    """A disk that only one node can write cannot serve several replicas."""
    errors = []
    for i, volume in enumerate(pod.get("volumes") or []):
        disk = volume.get("gcePersistentDisk")
        if disk and not disk.get("readOnly"):
            message = "must be readOnly when a replicated pod uses a GCE persistent disk"
            errors.append(invalid_value(f"{field}.spec.volumes[{i}].gcePersistentDisk.readOnly", False, message))
    return errors


def whole(value: int | str | None) -> int:
    """An int-or-percent as a number, a percentage by its own figure."""
    if isinstance(value, str):
        text = value.removesuffix("%")
        return int(text) if text.isdigit() else 0
    return value or 0


def int_or_percent(field: str, value: int | str | None) -> list[FieldError]:
    """A count of at least 0, or a percentage."""
    value = 0 if value is None else value
    if isinstance(value, int):
        return [] if value >= 0 else [invalid_value(field, value, "must be greater than or equal to 0")]
    return broken(field, value, rules.is_percent(value))


def at_most_100_percent(field: str, value: int | str | None) -> list[FieldError]:
    if isinstance(value, str) and value.endswith("%") and whole(value) > 100:
        return [invalid_value(field, value, "must not be greater than 100%")]
    return []


def replicas_status(status: Object, field: str, names: tuple[str, ...]) -> list[FieldError]:
    """Counts of a status that must not be negative."""
    errors: list[FieldError] = []
    for name in names:
        errors += rules.validate_nonnegative(status.get(name) or 0, f"{field}.{name}")
    return errors


def at_most(field: str, status: Object, name: str, limit: str, message: str) -> list[FieldError]:
    """A count that cannot exceed another of the same status."""
    value = status.get(name) or 0
    return [invalid_value(f"{field}.{name}", value, message)] if value > (status.get(limit) or 0) else []
