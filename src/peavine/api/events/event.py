"""Event as events.k8s.io writes it: other names for what core v1 stores."""

from __future__ import annotations

from typing import Any

from peavine.api.core import event as core
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

# events.k8s.io name -> core name
NAMES = {
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
COLUMNS = core.COLUMNS
# What this version calls the fields that selectors ask about in the stored form.
FIELD_ALIASES = {
    "reportingController": "reportingComponent",
    **{
        f"regarding.{f}": f"involvedObject.{f}"
        for f in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    },
}
FIELD_LABELS = {label: core.FIELD_LABELS[label] for label in ("reason", "type")} | {
    label: core.FIELD_LABELS[stored] for label, stored in FIELD_ALIASES.items()
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    return core.row(to_storage(dict(obj)))


def to_storage(obj: Object) -> Object:
    """In place of the older names; `source` and `involvedObject` are always written."""
    made = {NAMES.get(name, name): value for name, value in obj.items()}
    made.setdefault("involvedObject", {})
    made.setdefault("source", {})
    return made


def from_storage(obj: Object) -> Object:
    back = {old: new for new, old in NAMES.items()}
    return {back.get(name, name): value for name, value in obj.items()}


def validate_request(obj: Object) -> list[FieldError]:
    """What a new event of events.k8s.io must have beyond a core one; called on its stored form."""
    from peavine.machinery.errors import invalid_value, required

    errors = core.legacy(obj)
    if not obj.get("eventTime"):
        errors.append(required("eventTime"))
    errors += core.modern(obj)
    if obj.get("type") not in ("Normal", "Warning"):
        errors.append(invalid_value("type", "", f"has invalid value: {obj.get('type') or ''}"))
    for name in ("firstTimestamp", "lastTimestamp", "count", "source"):
        if obj.get(name):
            errors.append(invalid_value(name, "", "needs to be unset"))
    return errors
