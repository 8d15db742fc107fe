"""ValidatingAdmissionPolicy: rules in CEL that changes must satisfy."""

from __future__ import annotations

from typing import Any

from peavine.api.admissionregistration import policies
from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, invalid_value, not_supported, required

Object = dict[str, Any]

ANNOTATIONS_MAX = 20
COLUMNS = (
    NAME,
    Column(
        "Validations", "integer", "Validations indicates the number of validation rules defined in this configuration"
    ),
    Column("ParamKind", description="ParamKind specifies the kind of resources used to parameterize this policy"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    count = len(spec.get("validations") or [])
    return [name(obj), count, policies.param_text(spec.get("paramKind")), object_age(obj)]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("failurePolicy") is None:
        spec["failurePolicy"] = "Fail"
    policies.default_match(spec.get("matchConstraints"))


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors = policies.validate_policy(spec)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        message = "validations or auditAnnotations must be non-empty"
        errors.append(required("spec.validations", message + "; at least one must be specified"))
        errors.append(required("spec.auditAnnotations", message + "; at least one must be specified"))
    for i, validation in enumerate(validations):
        errors += _validation(validation, f"spec.validations[{i}]")
    if len(annotations) > ANNOTATIONS_MAX:
        message = f"must not have more than {ANNOTATIONS_MAX} auditAnnotations"
        errors.append(invalid_value("spec.auditAnnotations", annotations, message))
    seen: set[str] = set()
    for i, annotation in enumerate(annotations):
        errors += _annotation(annotation, f"spec.auditAnnotations[{i}]", name(obj), seen)
    return errors


def _validation(validation: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    text = (validation.get("expression") or "").strip()
    message, message_text = validation.get("message") or "", (validation.get("messageExpression") or "").strip()
    if not text:
        errors.append(required(f"{field}.expression", "expression is not specified"))
    else:
        errors += policies.validate_expression(text, f"{field}.expression")
    if validation.get("messageExpression") and not message_text:
        errors.append(invalid_value(f"{field}.messageExpression", "", "must be non-empty if specified"))
    elif message_text:
        errors += policies.validate_expression(message_text, f"{field}.messageExpression")
    if message and not message.strip():
        errors.append(invalid_value(f"{field}.message", message, "message must be non-empty if specified"))
    elif "\n" in message.strip():
        errors.append(invalid_value(f"{field}.message", message, "message must not contain line breaks"))
    elif "\n" in text and not message:
        errors.append(required(f"{field}.message", "message must be specified if expression contains line breaks"))
    reason = validation.get("reason")
    if reason is not None and reason not in policies.REASONS:
        errors.append(not_supported(f"{field}.reason", reason, policies.REASONS))
    return errors


def _annotation(annotation: Object, field: str, policy: str, seen: set[str]) -> list[FieldError]:
    errors: list[FieldError] = []
    key, text = annotation.get("key") or "", (annotation.get("valueExpression") or "").strip()
    if not key:
        errors.append(required(f"{field}.key"))
    else:
        errors += broken(f"{field}.key", key, rules.is_qualified_name(f"{policy}/{key}"))
        if key in seen:
            errors.append(duplicate(f"{field}.key", key))
        seen.add(key)
    if not text:
        errors.append(required(f"{field}.valueExpression", "valueExpression is not specified"))
    else:
        errors += policies.validate_expression(text, f"{field}.valueExpression")
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    return rules.validate_conditions((new.get("status") or {}).get("conditions"), "status.conditions")
