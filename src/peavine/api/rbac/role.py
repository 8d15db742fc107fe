"""Role: what may be done in one namespace."""

from __future__ import annotations

from typing import Any

from peavine.api.rbac import rules
from peavine.machinery.errors import FieldError

Object = dict[str, Any]


def validate_create(obj: Object) -> list[FieldError]:
    return rules.validate_rules(obj, namespaced=True)
