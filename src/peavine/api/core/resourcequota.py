"""ResourceQuota: how much of everything a namespace may hold."""

from __future__ import annotations

from typing import Any

from peavine.api.core.resourcenames import is_extended, validate_integer, validate_quota_name
from peavine.api.fields import non_negative_quantity, strip
from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, invalid_value, not_supported, required

Object = dict[str, Any]

REQUEST_TEXT = "Request represents a minimum amount of cpu/memory that a container may consume."
LIMIT_TEXT = (
    "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."
)
COLUMNS = (NAME, AGE, Column("Request", description=REQUEST_TEXT), Column("Limit", description=LIMIT_TEXT))

SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)

EXISTS_ONLY = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")


def row(obj: Object) -> list[Any]:
    status = obj.get("status") or {}
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for resource, hard in sorted((status.get("hard") or {}).items()):
        text = f"{resource}: {used.get(resource, '0')}/{hard}"
        (limits if resource.startswith("limits.") or resource == "limits" else requests).append(text)
    return [name(obj), object_age(obj), ", ".join(requests), ", ".join(limits)]


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    return _hard("spec.hard", spec.get("hard")) + _scopes(spec) + _scope_selector(spec)


def validate_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_create(new)
    before, after = (sorted((o.get("spec") or {}).get("scopes") or []) for o in (old, new))
    if before != after:
        errors.append(invalid_value("spec.scopes", after, "field is immutable"))
    selectors = [(o.get("spec") or {}).get("scopeSelector") for o in (new, old)]
    if strip(selectors[0]) != strip(selectors[1]):
        errors.append(invalid_value("spec.scopeSelector", selectors[0], "field is immutable"))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    if not (new.get("metadata") or {}).get("resourceVersion"):
        return [required("resourceVersion")]
    status = new.get("status") or {}
    return _hard("status.hard", status.get("hard")) + _hard("status.used", status.get("used"))


def _hard(field: str, hard: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for resource, quantity in (hard or {}).items():
        at = f"{field}[{resource}]"
        errors += validate_quota_name(at, resource)
        errors += non_negative_quantity(at, quantity) + validate_integer(at, resource, quantity)
    return errors


def _standard_for_scope(scope: str, resource: str) -> bool:
    if scope == "BestEffort":
        return resource == "pods"
    if scope == "VolumeAttributesClass":
        return resource in ("persistentvolumeclaims", "requests.storage") or ".storageclass." in resource
    pod = ("pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
    return resource in pod or is_extended(resource.removeprefix("requests."))


def _scopes(spec: Object) -> list[FieldError]:
    scopes = spec.get("scopes") or []
    if not scopes:
        return []
    errors: list[FieldError] = []
    for scope in scopes:
        if scope not in SCOPES and "/" not in scope:
            errors.append(invalid_value("spec.scopes", scopes, "unsupported scope"))
        for resource in spec.get("hard") or {}:
            if scope in SCOPES and "/" not in resource and not _standard_for_scope(scope, resource):
                errors.append(invalid_value("spec.scopes", scopes, "unsupported scope applied to resource"))
    for pair in (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")):
        if set(pair) <= set(scopes):
            errors.append(invalid_value("spec.scopes", scopes, "conflicting scopes"))
    return errors


def _scope_selector(spec: Object) -> list[FieldError]:
    selector = spec.get("scopeSelector")
    if not selector:
        return []
    field = "spec.scopeSelector.matchExpressions"
    errors: list[FieldError] = []
    names = set()
    for requirement in selector.get("matchExpressions") or []:
        scope, operator = requirement.get("scopeName") or "", requirement.get("operator") or ""
        values = requirement.get("values") or []
        if scope not in SCOPES:
            errors.append(invalid_value(f"{field}.scopeName", scope, "unsupported scope"))
        names.add(scope)
        if scope in EXISTS_ONLY and operator != "Exists":
            message = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, "
            message += "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "
            message += "ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            errors.append(invalid_value(f"{field}.operator", operator, message))
        if operator in ("In", "NotIn"):
            if not values:
                message = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{field}.values", message))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                message = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid_value(f"{field}.values", values, message))
        else:
            errors.append(not_supported(f"{field}.operator", operator, ["DoesNotExist", "Exists", "In", "NotIn"]))
    return errors
