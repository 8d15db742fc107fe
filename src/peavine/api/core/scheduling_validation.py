"""The rules of what steers a pod to a node: affinities, tolerations, spreading; and of node selectors anywhere."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import broken
from peavine.machinery import validation as rules
from peavine.machinery.errors import (
    FieldError,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)

Object = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


# Node selectors


def validate_node_selector(selector: Object, field: str) -> list[FieldError]:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        return [required(f"{field}.nodeSelectorTerms", "must have at least one node selector term")]
    errors: list[FieldError] = []
    for i, term in enumerate(terms):
        errors += validate_node_selector_term(term, f"{field}.nodeSelectorTerms[{i}]")
    return errors


def validate_node_selector_term(term: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, requirement in enumerate(term.get("matchExpressions") or []):
        errors += _node_requirement(requirement, f"{field}.matchExpressions[{i}]")
    for i, requirement in enumerate(term.get("matchFields") or []):
        errors += _node_field(requirement, f"{field}.matchFields[{i}]")
    return errors


def _node_requirement(requirement: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = requirement.get("operator") or "", requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            message = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{field}.values", message))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden_field(f"{field}.values", message))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            message = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{field}.values", message))
    else:
        errors.append(invalid_value(f"{field}.operator", operator, "not a valid selector operator"))
    errors += rules.validate_label_name(requirement.get("key") or "", f"{field}.key")
    if operator in ("In", "NotIn"):
        for i, value in enumerate(values):
            errors += broken(f"{field}.values[{i}]", value, rules.is_label_value(value))
    return errors


def _node_field(requirement: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = requirement.get("operator") or "", requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            message = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            errors.append(required(f"{field}.values", message))
    else:
        errors.append(invalid_value(f"{field}.operator", operator, "not a valid selector operator"))
    key = requirement.get("key") or ""
    if key != "metadata.name":
        errors.append(invalid_value(f"{field}.key", key, "not a valid field selector key"))
    else:
        for i, value in enumerate(values):
            errors += broken(f"{field}.values[{i}]", value, rules.is_dns1123_subdomain(value))
    return errors


# Affinity


def validate_affinity(affinity: Object | None, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if affinity is None:
        return errors
    node = affinity.get("nodeAffinity")
    if node is not None:
        if node.get(REQUIRED) is not None:
            errors += validate_node_selector(node[REQUIRED], f"{field}.nodeAffinity.{REQUIRED}")
        for i, term in enumerate(node.get(PREFERRED) or []):
            at = f"{field}.nodeAffinity.{PREFERRED}[{i}]"
            errors += _weight(term, at)
            errors += validate_node_selector_term(term.get("preference") or {}, f"{at}.preference")
    for part in ("podAffinity", "podAntiAffinity"):
        pods = affinity.get(part)
        if pods is None:
            continue
        for i, term in enumerate(pods.get(REQUIRED) or []):
            errors += _pod_term(term, f"{field}.{part}.{REQUIRED}[{i}]")
        for i, weighted in enumerate(pods.get(PREFERRED) or []):
            at = f"{field}.{part}.{PREFERRED}[{i}]"
            errors += _weight(weighted, at)
            errors += _pod_term(weighted.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return errors


def _weight(term: Object, field: str) -> list[FieldError]:
    weight = term.get("weight") or 0
    return [] if 1 <= weight <= 100 else [invalid_value(f"{field}.weight", weight, "must be in the range 1-100")]


def _pod_term(term: Object, field: str) -> list[FieldError]:
    errors = rules.validate_label_selector(term.get("labelSelector"), f"{field}.labelSelector")
    errors += rules.validate_label_selector(term.get("namespaceSelector"), f"{field}.namespaceSelector")
    for name in term.get("namespaces") or []:
        errors += broken(f"{field}.namespace", name, rules.is_dns1123_label(name))
    errors += _label_keys(term, field)
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required(f"{field}.topologyKey", "can not be empty"))
    return errors + rules.validate_label_name(key, f"{field}.topologyKey")


def _label_keys(holder: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    both = set(holder.get("matchLabelKeys") or []) & set(holder.get("mismatchLabelKeys") or [])
    for part in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = holder.get(part) or []
        if keys and holder.get("labelSelector") is None:
            errors.append(forbidden_field(f"{field}.{part}", "must not be specified when labelSelector is not set"))
        for i, key in enumerate(keys):
            errors += rules.validate_label_name(key, f"{field}.{part}[{i}]")
            if part == "matchLabelKeys" and key in both:
                message = "exists in both matchLabelKeys and mismatchLabelKeys"
                errors.append(invalid_value(f"{field}.{part}[{i}]", key, message))
    return errors


# Tolerations and spreading


def validate_tolerations(tolerations: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, toleration in enumerate(tolerations):
        at = f"{field}[{i}]"
        key, operator = toleration.get("key") or "", toleration.get("operator") or ""
        value, effect = toleration.get("value") or "", toleration.get("effect") or ""
        if key:
            errors += rules.validate_label_name(key, f"{at}.key")
        elif operator != "Exists":
            message = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(invalid_value(f"{at}.operator", operator, message))
        seconds = toleration.get("tolerationSeconds")
        if seconds is not None and effect != "NoExecute":
            message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(invalid_value(f"{at}.effect", effect, message))
        if operator in ("Equal", ""):
            errors += broken(f"{at}.operator", value, rules.is_label_value(value))
        elif operator == "Exists":
            if value:
                message = "value must be empty when `operator` is 'Exists'"
                errors.append(invalid_value(f"{at}.operator", value, message))
        else:
            # Lt and Gt are known words of an alpha feature.
            known = ["Equal", "Exists", "Lt", "Gt"] if operator in ("Lt", "Gt") else ["Equal", "Exists"]
            errors.append(not_supported(f"{at}.operator", operator, known))
        if effect and effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            errors.append(not_supported(f"{at}.effect", effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"]))
    return errors


def validate_topology_spread(constraints: list[Object], field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for i, constraint in enumerate(constraints):
        at = f"{field}[{i}]"
        skew = constraint.get("maxSkew") or 0
        if skew <= 0:
            errors.append(invalid_value(f"{at}.maxSkew", skew, "must be greater than zero"))
        key = constraint.get("topologyKey") or ""
        if not key:
            errors.append(required(f"{at}.topologyKey", "can not be empty"))
        else:
            errors += rules.validate_label_name(key, f"{at}.topologyKey")
        action = constraint.get("whenUnsatisfiable") or ""
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(not_supported(f"{at}.whenUnsatisfiable", action, ["DoNotSchedule", "ScheduleAnyway"]))
        if (key, action) in seen:
            shown = f"{{{key}, {action}}}"
            errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", shown))
        seen.add((key, action))
        errors += _domains(constraint, action, at)
        for part in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = constraint.get(part)
            if policy is not None and policy not in ("Honor", "Ignore"):
                errors.append(not_supported(f"{at}.{part}", policy, ["Honor", "Ignore"]))
        errors += _spread_keys(constraint, at)
        errors += rules.validate_label_selector(constraint.get("labelSelector"), f"{at}.labelSelector")
    return errors


def _domains(constraint: Object, action: str, field: str) -> list[FieldError]:
    least = constraint.get("minDomains")
    if least is None:
        return []
    errors: list[FieldError] = []
    if least <= 0:
        errors.append(invalid_value(f"{field}.minDomains", least, "must be greater than zero"))
    if action != "DoNotSchedule":
        message = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        errors.append(invalid_value(f"{field}.minDomains", least, message))
    return errors


def _spread_keys(constraint: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    keys, selector = constraint.get("matchLabelKeys") or [], constraint.get("labelSelector")
    if keys and selector is None:
        errors.append(forbidden_field(f"{field}.matchLabelKeys", "must not be specified when labelSelector is not set"))
    for i, key in enumerate(keys):
        errors += rules.validate_label_name(key, f"{field}.matchLabelKeys[{i}]")
    return errors
