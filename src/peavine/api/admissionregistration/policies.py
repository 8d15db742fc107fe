"""What validating and mutating admission policies, and their bindings, have in common."""

from __future__ import annotations

import re
from typing import Any

from peavine.api.admissionregistration.webhooks import (
    default_rule,
    validate_expression,
    validate_match_conditions,
    validate_rule,
)
from peavine.api.fields import broken
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

_IDENTIFIER = re.compile("[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    [
        "false",
        "in",
        "null",
        "true",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "namespace",
        "package",
        "return",
        "var",
        "void",
        "while",
    ]
)
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")


def default_match(match: Object | None) -> None:
    if match is None:
        return
    if match.get("matchPolicy") is None:
        match["matchPolicy"] = "Equivalent"
    for field in ("namespaceSelector", "objectSelector"):
        if match.get(field) is None:
            match[field] = {}
    for field in ("resourceRules", "excludeResourceRules"):
        for rule in match.get(field) or []:
            default_rule(rule)


def validate_param_kind(kind: Object | None, field: str) -> list[FieldError]:
    if kind is None:
        return []
    errors: list[FieldError] = []
    version, own = kind.get("apiVersion") or "", kind.get("kind") or ""
    if not version:
        errors.append(required(f"{field}.apiVersion"))
    elif version.count("/") > 1:
        message = f"unexpected GroupVersion string: {version}"
        errors.append(invalid_value(f"{field}.apiVersion", version, message))
    else:
        group, _, number = version.rpartition("/")
        if group:
            errors += broken(f"{field}.apiVersion", group, rules.is_dns1123_subdomain(group))
        errors += broken(f"{field}.apiVersion", version, rules.is_dns1035_label(number))
    if not own:
        errors.append(required(f"{field}.kind"))
    else:
        errors += [
            invalid_value(f"{field}.kind", own, "may have mixed case, but should otherwise match: " + message)
            for message in rules.is_dns1035_label(own.lower())
        ]
    return errors


def validate_match(match: Object | None, field: str, *, needs_rules: bool) -> list[FieldError]:
    if match is None:
        return []
    errors: list[FieldError] = []
    policy = match.get("matchPolicy")
    if policy is None:
        errors.append(required(f"{field}.matchPolicy"))
    elif policy not in ("Equivalent", "Exact"):
        errors.append(not_supported(f"{field}.matchPolicy", policy, ["Equivalent", "Exact"]))
    for part in ("namespaceSelector", "objectSelector"):
        if match.get(part) is None:
            errors.append(required(f"{field}.{part}"))
        else:
            errors += rules.validate_label_selector(match[part], f"{field}.{part}")
    for part in ("resourceRules", "excludeResourceRules"):
        for i, rule in enumerate(match.get(part) or []):
            errors += validate_rule(rule, f"{field}.{part}[{i}]")
            names = rule.get("resourceNames") or []
            for j, own in enumerate(names):
                errors += broken(f"{field}.{part}[{i}].resourceNames[{j}]", own, rules.is_path_segment(own))
                if own in names[:j]:
                    errors.append(duplicate(f"{field}.{part}[{i}].resourceNames[{j}]", own))
    if needs_rules and not match.get("resourceRules"):
        errors.append(required(f"{field}.resourceRules"))
    return errors


def validate_variables(variables: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, variable in enumerate(variables):
        at = f"{field}[{i}]"
        own, text = variable.get("name") or "", (variable.get("expression") or "").strip()
        if not own:
            errors.append(required(f"{at}.name", "name is not specified"))
        elif not _IDENTIFIER.fullmatch(own) or own in _RESERVED:
            errors.append(invalid_value(f"{at}.name", own, "name is not a valid CEL identifier"))
        if not text:
            errors.append(required(f"{at}.expression", "expression is not specified"))
        else:
            errors += validate_expression(text, f"{at}.expression")
        if own in seen:
            errors.append(duplicate(f"{at}.name", own))
        seen.add(own)
    return errors


def validate_failure_policy(spec: Object) -> list[FieldError]:
    policy = spec.get("failurePolicy")
    if policy is None:
        return [required("spec.failurePolicy")]
    if policy not in ("Fail", "Ignore"):
        return [not_supported("spec.failurePolicy", policy, ["Fail", "Ignore"])]
    return []


def validate_policy(spec: Object) -> list[FieldError]:
    """The parts that come first in both policies."""
    errors = validate_failure_policy(spec)
    errors += validate_param_kind(spec.get("paramKind"), "spec.paramKind")
    match = spec.get("matchConstraints")
    if match is None:
        errors.append(required("spec.matchConstraints"))
    else:
        errors += validate_match(match, "spec.matchConstraints", needs_rules=True)
    errors += validate_variables(spec.get("variables") or [], "spec.variables")
    return errors + validate_match_conditions(spec.get("matchConditions") or [], "spec.matchConditions")


def validate_binding(spec: Object) -> list[FieldError]:
    """The parts that both bindings share."""
    errors: list[FieldError] = []
    policy = spec.get("policyName") or ""
    if not policy:
        errors.append(required("spec.policyName"))
    else:
        errors += broken("spec.policyName", policy, rules.is_dns1123_subdomain(policy))
    errors += _param_reference(spec.get("paramRef"), "spec.paramRef")
    return errors + validate_match(spec.get("matchResources"), "spec.matchResources", needs_rules=False)


def _param_reference(reference: Object | None, field: str) -> list[FieldError]:
    if reference is None:
        return []
    errors: list[FieldError] = []
    own, selector = reference.get("name") or "", reference.get("selector")
    if own:
        errors += broken(f"{field}.name", own, rules.is_path_segment(own))
        if selector is not None:
            errors.append(forbidden_field(f"{field}.name", "name and selector are mutually exclusive"))
    if selector is not None:
        errors += rules.validate_label_selector(selector, f"{field}.selector")
        if own:
            errors.append(forbidden_field(f"{field}.selector", "name and selector are mutually exclusive"))
    if not own and selector is None:
        errors.append(required(field, "one of name or selector must be specified"))
    action = reference.get("parameterNotFoundAction")
    if action is None:
        errors.append(required(f"{field}.parameterNotFoundAction"))
    elif action not in ("Allow", "Deny"):
        errors.append(not_supported(f"{field}.parameterNotFoundAction", action, ["Allow", "Deny"]))
    return errors


def param_text(kind: Object | None) -> str:
    if kind is None:
        return "<unset>"
    return f"{kind.get('apiVersion') or ''}/{kind.get('kind') or ''}"


def reference_text(reference: Object | None) -> str:
    if reference is None:
        return "<unset>"
    if reference.get("namespace"):
        return f"{reference['namespace']}/{reference.get('name') or '*'}"
    return reference.get("name") or "*"
