"""FlowSchema: which requests go to which priority level, and how they are told apart."""

from __future__ import annotations

from typing import Any

from peavine.api.conditions import condition
from peavine.api.fields import broken
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

PRECEDENCE_MAX, PRECEDENCE_DEFAULT = 10_000, 1000
VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
METHODS = ("delete", "get", "head", "options", "patch", "post", "put")

COLUMNS = (
    NAME,
    Column("PriorityLevel", description="@flowcontrol.v1.PriorityLevelConfigurationReference.name"),
    Column("MatchingPrecedence", description="@flowcontrol.v1.FlowSchemaSpec.matchingPrecedence"),
    Column("DistinguisherMethod", description="@flowcontrol.v1.FlowSchemaSpec.distinguisherMethod"),
    AGE,
    Column("MissingPL", description="references a broken or non-existent PriorityLevelConfiguration"),
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    dangling = condition(obj, "Dangling")
    return [
        name(obj),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or "<none>",
        object_age(obj),
        "?" if dangling is None else dangling.get("status") or "?",
    ]


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = PRECEDENCE_DEFAULT


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    errors += _exempt_stays(obj)
    precedence = spec.get("matchingPrecedence") or 0
    if precedence <= 0:
        errors.append(invalid_value("spec.matchingPrecedence", precedence, "must be a positive value"))
    elif precedence > PRECEDENCE_MAX:
        message = f"must not be greater than {PRECEDENCE_MAX}"
        errors.append(invalid_value("spec.matchingPrecedence", precedence, message))
    elif precedence == 1 and name(obj) != "exempt":
        message = "only the schema named 'exempt' may have matchingPrecedence 1"
        errors.append(invalid_value("spec.matchingPrecedence", precedence, message))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        choices = ["ByNamespace", "ByUser"]
        errors.append(not_supported("spec.distinguisherMethod", method.get("type") or "", choices))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
    field = "spec.priorityLevelConfiguration.name"
    if not level:
        errors.append(required(field, "must reference a priority level"))
    else:
        errors += broken(field, level, rules.is_dns1123_subdomain(level))
    for i, rule in enumerate(spec.get("rules") or []):
        errors += _rule(rule, f"spec.rules[{i}]")
    return errors


def _exempt_stays(obj: Object) -> list[FieldError]:
    """The two mandatory schemas have fixed specs."""
    fixed = {"exempt": ("exempt", 1), "catch-all": ("catch-all", PRECEDENCE_MAX)}.get(name(obj))
    if fixed is None:
        return []
    spec = obj.get("spec") or {}
    own = ((spec.get("priorityLevelConfiguration") or {}).get("name"), spec.get("matchingPrecedence"))
    if own != fixed:
        message = f"spec of '{name(obj)}' must equal the fixed value"
        return [invalid_value("spec", spec, message)]
    return []


def _rule(rule: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    subjects = rule.get("subjects") or []
    if not subjects:
        errors.append(required(f"{field}.subjects", "subjects must contain at least one value"))
    for i, subject in enumerate(subjects):
        errors += _subject(subject, f"{field}.subjects[{i}]")
    resources, urls = rule.get("resourceRules") or [], rule.get("nonResourceRules") or []
    if not resources and not urls:
        errors.append(required(field, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for i, own in enumerate(resources):
        errors += _resource_rule(own, f"{field}.resourceRules[{i}]")
    for i, own in enumerate(urls):
        errors += _url_rule(own, f"{field}.nonResourceRules[{i}]")
    return errors


def _subject(subject: Object, field: str) -> list[FieldError]:
    kind = subject.get("kind") or ""
    parts = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
    if kind not in parts:
        return [not_supported(f"{field}.kind", kind, sorted(parts))]
    own, at = subject.get(parts[kind]), f"{field}.{parts[kind]}"
    errors: list[FieldError] = []
    if own is None:
        return [required(at, f"{parts[kind]} is required when subject kind is '{kind}'")]
    if kind == "ServiceAccount":
        account = own.get("name") or ""
        if not account:
            errors.append(required(f"{at}.name"))
        elif account != "*":
            errors += broken(f"{at}.name", account, rules.is_dns1123_subdomain(account))
        if not own.get("namespace"):
            message = "must specify namespace for service account"
            errors.append(required(f"{at}.namespace", message))
        else:
            errors += broken(f"{at}.namespace", own["namespace"], rules.is_dns1123_label(own["namespace"]))
    elif not own.get("name"):
        errors.append(required(f"{at}.name"))
    for other_kind, part in parts.items():
        if other_kind != kind and subject.get(part) is not None:
            message = f"{part} is forbidden when subject kind is not '{other_kind}'"
            errors.append(forbidden_field(f"{field}.{part}", message))
    return errors


def _verbs(rule: Object, field: str, known: tuple[str, ...]) -> list[FieldError]:
    verbs = rule.get("verbs") or []
    if not verbs:
        return [required(f"{field}.verbs", "verbs must contain at least one value")]
    if "*" in verbs:
        if len(verbs) > 1:
            message = "if '*' is present, must not specify other verbs"
            return [invalid_value(f"{field}.verbs", verbs, message)]
        return []
    if not set(verbs) <= set(known):
        return [not_supported(f"{field}.verbs", verbs, [*known, "*"])]
    return []


def _listed(rule: Object, name_: str, field: str, what: str) -> list[FieldError]:
    values = rule.get(name_) or []
    at = f"{field}.{name_}"
    if not values:
        return [required(at, f"resource rules must supply at least one {what}")]
    if len(values) > 1 and "*" in values:
        plural = {"api group": "api groups", "resource": "resources"}[what]
        return [invalid_value(at, values, f"if '*' is present, must not specify other {plural}")]
    return []


def _resource_rule(rule: Object, field: str) -> list[FieldError]:
    errors = _verbs(rule, field, VERBS)
    errors += _listed(rule, "apiGroups", field, "api group")
    errors += _listed(rule, "resources", field, "resource")
    namespaces = rule.get("namespaces") or []
    if not namespaces and not rule.get("clusterScope"):
        message = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(f"{field}.namespaces", message))
    elif len(namespaces) > 1 and "*" in namespaces:
        message = "may not specify '*' together with other namespaces"
        errors.append(invalid_value(f"{field}.namespaces", namespaces, message))
    for i, own in enumerate(namespaces):
        if own != "*":
            errors += broken(f"{field}.namespaces[{i}]", own, rules.is_dns1123_label(own))
    return errors


def _url_rule(rule: Object, field: str) -> list[FieldError]:
    errors = _verbs(rule, field, METHODS)
    urls = rule.get("nonResourceURLs") or []
    at = f"{field}.nonResourceURLs"
    if not urls:
        return [*errors, required(at, "nonResourceURLs must contain at least one value")]
    if len(urls) > 1 and "*" in urls:
        message = "if '*' is present, must not specify other non-resource URLs"
        return [*errors, invalid_value(at, urls, message)]
    for i, url in enumerate(urls):
        if url == "*":
            continue
        if not url:
            errors.append(invalid_value(f"{at}[{i}]", url, "must not be empty"))
        elif not url.startswith("/"):
            errors.append(invalid_value(f"{at}[{i}]", url, "must start with slash"))
        elif " " in url:
            errors.append(invalid_value(f"{at}[{i}]", url, "must not contain white-space"))
        elif "//" in url:
            errors.append(invalid_value(f"{at}[{i}]", url, "must not contain double slash"))
        elif "*" in url and (not url.endswith("*") or not url.endswith("/*")):
            message = (
                "wildcard can only do suffix matching"
                if not url.endswith("*")
                else "wildcard suffix can only be after slash"
            )
            errors.append(invalid_value(f"{at}[{i}]", url, message))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    return condition_errors(new)


def condition_errors(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, entry in enumerate((obj.get("status") or {}).get("conditions") or []):
        type = entry.get("type") or ""
        if type in seen:
            errors.append(duplicate(f"status.conditions[{i}].type", type))
        seen.add(type)
        if not type:
            errors.append(required(f"status.conditions[{i}].type", "must not be empty"))
    return errors
