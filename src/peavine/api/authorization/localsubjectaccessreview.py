"""LocalSubjectAccessReview: the same, in one namespace."""

from __future__ import annotations

from typing import Any

from peavine.api.authorization.reviews import validate_subject
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value

Object = dict[str, Any]


def validate_metadata(obj: Object) -> list[FieldError]:
    return []


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = validate_subject(spec)
    namespace = (obj.get("metadata") or {}).get("namespace") or ""
    own = (spec.get("resourceAttributes") or {}).get("namespace") or ""
    if spec.get("resourceAttributes") is not None and own != namespace:
        message = "must match metadata.namespace"
        errors.append(invalid_value("spec.resourceAttributes.namespace", own, message))
    if spec.get("nonResourceAttributes") is not None:
        message = "disallowed on this kind of request"
        errors.append(forbidden_field("spec.nonResourceAttributes", message))
    return errors
