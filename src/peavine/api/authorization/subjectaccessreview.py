"""SubjectAccessReview: may somebody do something?"""

from __future__ import annotations

from typing import Any

from peavine.api.authorization.reviews import validate_subject
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]


def validate_metadata(obj: Object) -> list[FieldError]:
    """A review has no metadata but managed fields."""
    meta = {k: v for k, v in (obj.get("metadata") or {}).items() if k != "managedFields" and v}
    return [invalid_value("metadata", meta, "must be empty")] if meta else []


def validate_create(obj: Object) -> list[FieldError]:
    return validate_subject(obj.get("spec") or {})
