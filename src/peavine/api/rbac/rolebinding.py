"""RoleBinding: who may do what a role says, in one namespace."""

from __future__ import annotations

from typing import Any

from peavine.api.rbac import rules
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = rules.BINDING_COLUMNS
row = rules.binding_row
default = rules.default_binding


def validate_create(obj: Object) -> list[FieldError]:
    return rules.validate_binding(obj, namespaced=True)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    return rules.validate_binding_update(new, old, namespaced=True)
