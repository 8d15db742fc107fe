"""Scale: the one number that every scalable kind shows and takes through its scale subresource."""

from __future__ import annotations

from typing import Any

from peavine.api.kind import Kind
from peavine.machinery.errors import FieldError

Object = dict[str, Any]


def scale_of(obj: Object, kind: Kind) -> Object:
    """The Scale of an object, as its kind says where the numbers are."""
    assert kind.scale is not None
    meta = obj.get("metadata") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: Object = {"replicas": read(obj, kind.scale.status_replicas) or 0}
    selector = selector_text(read(obj, kind.scale.selector) if kind.scale.selector else None)
    if selector:
        status["selector"] = selector
    replicas = read(obj, kind.scale.spec_replicas) or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def selector_text(selector: Any) -> str:
    """A selector of any of the forms that kinds use, as the string of `status.selector`."""
    from peavine.machinery.selectors import selector_of, selector_of_labels

    if isinstance(selector, str):
        return selector
    if not isinstance(selector, dict):
        return ""
    if selector.keys() <= {"matchLabels", "matchExpressions"}:
        return str(selector_of(selector))
    return str(selector_of_labels(selector))


def read(obj: Object, path: str) -> Any:
    """The value under a dotted path such as `.spec.replicas`."""
    value: Any = obj
    for part in path.strip(".").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def write(obj: Object, path: str, value: Any) -> None:
    *parents, last = path.strip(".").split(".")
    for part in parents:
        obj = obj.setdefault(part, {})
    obj[last] = value


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.autoscaling.validation import validate_scale

    return validate_scale(obj)
