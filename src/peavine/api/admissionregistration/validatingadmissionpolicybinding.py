"""ValidatingAdmissionPolicyBinding: where a policy holds, with which parameters, and what a breach does."""

from __future__ import annotations

from typing import Any

from peavine.api.admissionregistration import policies
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, duplicate, invalid_value, not_supported, required

Object = dict[str, Any]

ACTIONS = ("Audit", "Deny", "Warn")
COLUMNS = (
    NAME,
    Column("PolicyName", description="PolicyName indicates the policy definition which the policy binding binded to"),
    Column("ParamRef", description="ParamRef indicates the param resource which sets the configration param"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    shown = policies.reference_text(spec.get("paramRef"))
    return [name(obj), spec.get("policyName") or "", shown, object_age(obj)]


def default(obj: Object) -> None:
    policies.default_match((obj.get("spec") or {}).get("matchResources"))


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = policies.validate_binding(spec)
    actions, field = spec.get("validationActions") or [], "spec.validationActions"
    if not actions:
        errors.append(required(field))
    for i, action in enumerate(actions):
        if action not in ACTIONS:
            errors.append(not_supported(f"{field}[{i}]", action, ACTIONS))
        if action in actions[:i]:
            errors.append(duplicate(f"{field}[{i}]", action))
    if {"Deny", "Warn"} <= set(actions):
        message = (
            "must not contain both Deny and Warn (repeating the same validation failure "
            "information in the API response and headers serves no purpose)"
        )
        errors.append(invalid_value(field, actions, message))
    return errors
