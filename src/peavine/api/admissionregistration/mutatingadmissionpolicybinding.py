"""MutatingAdmissionPolicyBinding: where a mutating policy acts, and with which parameters."""

from __future__ import annotations

from typing import Any

from peavine.api.admissionregistration import policies, validatingadmissionpolicybinding
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = validatingadmissionpolicybinding.COLUMNS
row = validatingadmissionpolicybinding.row
default = validatingadmissionpolicybinding.default


def validate_create(obj: Object) -> list[FieldError]:
    return policies.validate_binding(obj.get("spec") or {})
