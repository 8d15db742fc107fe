"""What roles and bindings of either scope have in common."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, invalid_value, not_supported, required

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
BINDING_COLUMNS = (
    NAME,
    Column("Role", description="Role in the roleRef"),
    AGE,
    Column("Users", description="Users in the roleBinding", priority=1),
    Column("Groups", description="Groups in the roleBinding", priority=1),
    Column("ServiceAccounts", description="ServiceAccounts in the roleBinding", priority=1),
)


def binding_row(obj: Object) -> list[Any]:
    role = obj.get("roleRef") or {}
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or []:
        text = subject.get("name") or ""
        if subject.get("kind") == "ServiceAccount":
            text = f"{subject.get('namespace') or ''}/{text}"
        by_kind.setdefault(subject.get("kind") or "", []).append(text)
    lists = [", ".join(by_kind[kind]) for kind in ("User", "Group", "ServiceAccount")]
    return [name(obj), f"{role.get('kind') or ''}/{role.get('name') or ''}", object_age(obj), *lists]


def default_binding(obj: Object) -> None:
    role = obj.setdefault("roleRef", {})
    role["apiGroup"] = role.get("apiGroup") or GROUP
    for subject in obj.get("subjects") or []:
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


def validate_rules(obj: Object, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, rule in enumerate(obj.get("rules") or []):
        errors += validate_rule(rule, namespaced, f"rules[{i}]")
    return errors


def validate_rule(rule: Object, namespaced: bool, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(required(f"{field}.verbs", "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs") or []
    if urls:
        if namespaced:
            message = "namespaced rules cannot apply to non-resource URLs"
            errors.append(invalid_value(f"{field}.nonResourceURLs", urls, message))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            message = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid_value(f"{field}.nonResourceURLs", urls, message))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(f"{field}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(f"{field}.resources", "resource rules must supply at least one resource"))
    return errors


def validate_binding(obj: Object, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    role = obj.get("roleRef") or {}
    if role.get("apiGroup") != GROUP:
        errors.append(not_supported("roleRef.apiGroup", role.get("apiGroup") or "", [GROUP]))
    kinds = ["Role", "ClusterRole"] if namespaced else ["ClusterRole"]
    if role.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", role.get("kind") or "", kinds))
    if not role.get("name"):
        errors.append(required("roleRef.name"))
    else:
        errors += [invalid_value("roleRef.name", role["name"], m) for m in rules.is_path_segment(role["name"])]
    for i, subject in enumerate(obj.get("subjects") or []):
        errors += _subject(subject, namespaced, f"subjects[{i}]")
    return errors


def _subject(subject: Object, namespaced: bool, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    own, kind, group = (subject.get(part) or "" for part in ("name", "kind", "apiGroup"))
    if not own:
        errors.append(required(f"{field}.name"))
    if kind == "ServiceAccount":
        if own:
            errors += [invalid_value(f"{field}.name", own, m) for m in rules.is_dns1123_subdomain(own)]
        if group:
            errors.append(not_supported(f"{field}.apiGroup", group, [""]))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{field}.namespace"))
    elif kind in ("User", "Group"):
        if group != GROUP:
            errors.append(not_supported(f"{field}.apiGroup", group, [GROUP]))
    else:
        errors.append(not_supported(f"{field}.kind", kind, ["ServiceAccount", "User", "Group"]))
    return errors


def validate_binding_update(new: Object, old: Object, namespaced: bool) -> list[FieldError]:
    errors = validate_binding(new, namespaced)
    if (new.get("roleRef") or {}) != (old.get("roleRef") or {}):
        errors.append(invalid_value("roleRef", new.get("roleRef"), "cannot change roleRef"))
    return errors
