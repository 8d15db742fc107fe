"""IngressClass: which controller serves an Ingress."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, NAME, NONE, Column, name, object_age
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

CONTROLLER_LENGTH_MAX = 250
COLUMNS = (
    NAME,
    Column("Controller", description="Controller that is responsible for handling this class"),
    Column("Parameters", description="A reference to a resource with additional parameters"),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    parameters = spec.get("parameters")
    shown = NONE
    if parameters is not None:
        shown = parameters.get("kind") or ""
        if parameters.get("apiGroup"):
            shown += "." + parameters["apiGroup"]
        shown += "/" + (parameters.get("name") or "")
    return [name(obj), spec.get("controller") or "", shown, object_age(obj)]


def default(obj: Object) -> None:
    parameters = (obj.get("spec") or {}).get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


def validate_create(obj: Object) -> list[FieldError]:
    spec = obj.get("spec") or {}
    controller = spec.get("controller") or ""
    errors: list[FieldError] = []
    if len(controller) > CONTROLLER_LENGTH_MAX:
        message = f"may not be more than {CONTROLLER_LENGTH_MAX} bytes"
        errors.append(FieldError("TooLong", "spec.controller", "", message))
    errors += rules.validate_domain_prefixed_path("spec.controller", controller)
    parameters = spec.get("parameters")
    return errors + (_parameters(parameters, "spec.parameters") if parameters is not None else [])


def _parameters(parameters: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if parameters.get("apiGroup") is not None:
        group = parameters["apiGroup"]
        errors += [invalid_value(f"{field}.apiGroup", group, m) for m in rules.is_dns1123_subdomain(group)]
    for part in ("kind", "name"):
        value = parameters.get(part) or ""
        if not value:
            errors.append(required(f"{field}.{part}", f"{part} is required"))
        else:
            errors += [invalid_value(f"{field}.{part}", value, m) for m in rules.is_path_segment(value)]
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope is None:
        return [*errors, required(f"{field}.scope")]
    if scope == "Namespace":
        if namespace is None:
            errors.append(required(f"{field}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            errors += [invalid_value(f"{field}.namespace", namespace, m) for m in rules.is_dns1123_label(namespace)]
    elif scope == "Cluster":
        if namespace is not None:
            errors.append(forbidden_field(f"{field}.namespace", "`parameters.scope` is set to 'Cluster'"))
    else:
        errors.append(not_supported(f"{field}.scope", scope, ["Cluster", "Namespace"]))
    return errors


def validate_update(new: Object, old: Object) -> list[FieldError]:
    now, then = ((o.get("spec") or {}).get("controller") for o in (new, old))
    return rules.validate_immutable(now, then, "spec.controller") + validate_create(new)
