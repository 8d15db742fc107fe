"""SelfSubjectAccessReview: may I do something?"""

from __future__ import annotations

from typing import Any

from peavine.api.authorization.reviews import validate_attributes
from peavine.machinery.errors import FieldError

Object = dict[str, Any]


def validate_metadata(obj: Object) -> list[FieldError]:
    return []


def validate_create(obj: Object) -> list[FieldError]:
    return validate_attributes(obj.get("spec") or {})
