"""Event: something that happened to an object. Stored as core v1; events.k8s.io is another face of it."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import NAME, UNKNOWN, Column, age, name
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, required

Object = dict[str, Any]

COLUMNS = (
    Column("Last Seen", description="@core.v1.Event.lastTimestamp"),
    Column("Type", description="@core.v1.Event.type"),
    Column("Reason", description="@core.v1.Event.reason"),
    Column("Object", description="@core.v1.Event.involvedObject"),
    Column("Subobject", description="@core.v1.ObjectReference.fieldPath", priority=1),
    Column("Source", description="@core.v1.Event.source", priority=1),
    Column("Message", description="@core.v1.Event.message"),
    Column("First Seen", description="@core.v1.Event.firstTimestamp", priority=1),
    Column("Count", description="@core.v1.Event.count", priority=1),
    Column(NAME.name, format="name", description=NAME.description, priority=1),
)


def _involved(field: str) -> Any:
    return lambda obj: (obj.get("involvedObject") or {}).get(field) or ""


FIELD_LABELS = {
    **{f"involvedObject.{f}": _involved(f) for f in ("kind", "namespace", "name", "uid", "apiVersion")},
    "involvedObject.resourceVersion": _involved("resourceVersion"),
    "involvedObject.fieldPath": _involved("fieldPath"),
    "reason": lambda obj: obj.get("reason") or "",
    "reportingComponent": lambda obj: obj.get("reportingComponent") or "",
    "source": lambda obj: (obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "",
    "type": lambda obj: obj.get("type") or "",
}
UNKNOWN_FIELD_LABEL = "field label not supported: {}"


def row(obj: Object) -> list[Any]:
    series, moment = obj.get("series") or {}, obj.get("eventTime")
    first = age(obj.get("firstTimestamp") or moment) if obj.get("firstTimestamp") or moment else UNKNOWN
    last = first if not obj.get("lastTimestamp") else age(obj["lastTimestamp"])
    count = obj.get("count") or 0
    if series:
        last = age(series.get("lastObservedTime"))
        count = series.get("count") or 0
    elif count == 0:
        count = 1
    involved = obj.get("involvedObject") or {}
    target = (involved.get("kind") or "").lower()
    if involved.get("name"):
        target += "/" + involved["name"]
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        involved.get("fieldPath") or "",
        _source(obj),
        (obj.get("message") or "").strip(),
        first,
        count,
        name(obj),
    ]


def _source(obj: Object) -> str:
    source = obj.get("source") or {}
    parts = [source.get("component") or obj.get("reportingComponent") or ""]
    host = source.get("host") or obj.get("reportingInstance") or ""
    if host:
        parts.append(host)
    return ", ".join(parts)


def validate_create(obj: Object) -> list[FieldError]:
    return legacy(obj) if not obj.get("eventTime") else legacy(obj) + modern(obj)


def legacy(obj: Object) -> list[FieldError]:
    """An event lives in its object's namespace, or in `default` or `kube-system` for objects without one."""
    involved = (obj.get("involvedObject") or {}).get("namespace") or ""
    own = (obj.get("metadata") or {}).get("namespace") or ""
    field = "involvedObject.namespace"
    if not involved:
        # Objects without a namespace are recorded in default; kube-system holds what components say of them.
        if own not in ("default", "kube-system", ""):
            return [invalid_value(field, involved, "does not match event.namespace")]
    elif involved != own:
        return [invalid_value(field, involved, "does not match event.namespace")]
    return []


def modern(obj: Object) -> list[FieldError]:
    """What events.k8s.io asks beyond that."""
    errors: list[FieldError] = []
    controller, instance = obj.get("reportingComponent") or "", obj.get("reportingInstance") or ""
    if not controller:
        errors.append(required("reportingController"))
    else:
        errors += [invalid_value("reportingController", controller, m) for m in rules.is_qualified_name(controller)]
    for field, value, most in (
        ("reportingInstance", instance, 128),
        ("action", obj.get("action") or "", 128),
        ("reason", obj.get("reason") or "", 128),
    ):
        if not value:
            errors.append(required(field))
        elif len(value) > most:
            errors.append(invalid_value(field, "", f"can have at most {most} characters"))
    if len(obj.get("message") or "") > 1024:
        errors.append(invalid_value("message", "", "can have at most 1024 characters"))
    return errors
