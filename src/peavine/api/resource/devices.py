"""What claims, classes and slices of devices share: requests, selectors, constraints, configuration, taints."""

from __future__ import annotations

import json
import re
from typing import Any

from peavine.api import alpha
from peavine.api.core.volume_validation import driver_name
from peavine.api.fields import broken, named
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

SELECTORS_MAX, REQUESTS_MAX, SUBREQUESTS_MAX, CONSTRAINTS_MAX, CONFIGS_MAX = 32, 32, 8, 32, 32
EXPRESSION_LENGTH_MAX, PARAMETERS_BYTES_MAX, RESULTS_MAX, TOLERATIONS_MAX = 10 * 1024, 10 * 1024, 32, 16
_C_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")


def too_many(field: str, count: int, most: int) -> list[FieldError]:
    if count > most:
        return [FieldError("TooMany", field, count, f"must have at most {most} items")]
    return []


# Defaults


def default_claim_spec(spec: Object) -> None:
    for request in (spec.get("devices") or {}).get("requests") or []:
        exact = request.get("exactly")
        for own in [*([exact] if exact is not None else []), *(request.get("firstAvailable") or [])]:
            _default_request(own)


def _default_request(request: Object) -> None:
    alpha.drop(request, alpha.DEVICE_REQUEST)
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1
    for toleration in request.get("tolerations") or []:
        if not toleration.get("operator"):
            toleration["operator"] = "Equal"


# Claims


def validate_claim_spec(spec: Object, field: str) -> list[FieldError]:
    return _device_claim(spec.get("devices") or {}, f"{field}.devices")


def _device_claim(claim: Object, field: str) -> list[FieldError]:
    requests = claim.get("requests") or []
    errors = too_many(f"{field}.requests", len(requests), REQUESTS_MAX)
    known: set[str] = set()
    for i, request in enumerate(requests):
        at = f"{field}.requests[{i}]"
        own = request.get("name") or ""
        errors += named(f"{at}.name", own, rules.is_dns1123_label)
        if own in known:
            errors.append(duplicate(f"{at}.name", own))
        known.add(own)
        known |= {f"{own}/{s.get('name') or ''}" for s in request.get("firstAvailable") or []}
        errors += _request(request, at)
    constraints = claim.get("constraints") or []
    errors += too_many(f"{field}.constraints", len(constraints), CONSTRAINTS_MAX)
    for i, constraint in enumerate(constraints):
        errors += _constraint(constraint, f"{field}.constraints[{i}]", known)
    configs = claim.get("config") or []
    errors += too_many(f"{field}.config", len(configs), CONFIGS_MAX)
    for i, config in enumerate(configs):
        at = f"{field}.config[{i}]"
        errors += _request_names(config.get("requests") or [], f"{at}.requests", known)
        errors += validate_configuration(config, at)
    return errors


def _request(request: Object, field: str) -> list[FieldError]:
    exact, several = request.get("exactly"), request.get("firstAvailable") or []
    if exact is not None and several:
        message = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        return [invalid_value(field, "", message)]
    if exact is None and not several:
        return [required(field, "exactly one of `exactly` or `firstAvailable` is required")]
    if exact is not None:
        return _exact(exact, f"{field}.exactly")
    errors = too_many(f"{field}.firstAvailable", len(several), SUBREQUESTS_MAX)
    seen: set[str] = set()
    for i, own in enumerate(several):
        at = f"{field}.firstAvailable[{i}]"
        errors += named(f"{at}.name", own.get("name"), rules.is_dns1123_label)
        if own.get("name") in seen:
            errors.append(duplicate(f"{at}.name", own.get("name")))
        seen.add(own.get("name") or "")
        errors += _exact(own, at)
    return errors


def _exact(request: Object, field: str) -> list[FieldError]:
    class_name = request.get("deviceClassName") or ""
    errors: list[FieldError] = []
    if not class_name:
        errors.append(required(f"{field}.deviceClassName"))
    else:
        errors += broken(f"{field}.deviceClassName", class_name, rules.is_dns1123_subdomain(class_name))
    errors += validate_selectors(request.get("selectors") or [], f"{field}.selectors")
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All":
        if count:
            message = "must not be specified when allocationMode is 'All'"
            errors.append(invalid_value(f"{field}.count", count, message))
    elif mode == "ExactCount":
        if count <= 0:
            errors.append(invalid_value(f"{field}.count", count, "must be greater than zero"))
    else:
        errors.append(not_supported(f"{field}.allocationMode", mode, ["All", "ExactCount"]))
    tolerations = request.get("tolerations") or []
    errors += too_many(f"{field}.tolerations", len(tolerations), TOLERATIONS_MAX)
    for i, toleration in enumerate(tolerations):
        errors += _toleration(toleration, f"{field}.tolerations[{i}]")
    return errors


def _toleration(toleration: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    key, operator, value = (toleration.get(part) or "" for part in ("key", "operator", "value"))
    if key:
        errors += broken(f"{field}.key", key, rules.is_qualified_name(key))
    if operator == "Exists":
        if value:
            message = "must be empty for operator `Exists`"
            errors.append(invalid_value(f"{field}.value", value, message))
    elif operator == "Equal":
        errors += broken(f"{field}.value", value, rules.is_label_value(value))
        if not key:
            errors.append(required(f"{field}.key", "must not be empty when operator is `Equal`"))
    elif not operator:
        errors.append(required(f"{field}.operator"))
    else:
        errors.append(not_supported(f"{field}.operator", operator, ["Equal", "Exists"]))
    effect = toleration.get("effect") or ""
    if effect and effect not in ("NoExecute", "NoSchedule", "None"):
        errors.append(not_supported(f"{field}.effect", effect, ["NoExecute", "NoSchedule", "None"]))
    return errors


def validate_selectors(selectors: list[Object], field: str) -> list[FieldError]:
    errors = too_many(field, len(selectors), SELECTORS_MAX)
    for i, selector in enumerate(selectors):
        cel = selector.get("cel")
        if cel is None:
            errors.append(required(f"{field}[{i}].cel"))
            continue
        text = cel.get("expression") or ""
        if len(text) > EXPRESSION_LENGTH_MAX:
            message = f"may not be more than {EXPRESSION_LENGTH_MAX} bytes"
            errors.append(FieldError("TooLong", f"{field}[{i}].cel.expression", "", message))
        elif not text:
            errors.append(required(f"{field}[{i}].cel.expression"))
        else:
            from peavine.machinery.cel.devices import problem_of

            problem = problem_of(text)
            if problem is not None:
                errors.append(invalid_value(f"{field}[{i}].cel.expression", text, problem))
    return errors


def _request_names(names: list[str], field: str, known: set[str]) -> list[FieldError]:
    errors = too_many(field, len(names), REQUESTS_MAX)
    for i, own in enumerate(names):
        if own not in known:
            message = "must be the name of a request in the claim"
            errors.append(invalid_value(f"{field}[{i}]", own, message))
        if own in names[:i]:
            errors.append(duplicate(f"{field}[{i}]", own))
    return errors


def _constraint(constraint: Object, field: str, known: set[str]) -> list[FieldError]:
    errors = _request_names(constraint.get("requests") or [], f"{field}.requests", known)
    attribute, distinct = constraint.get("matchAttribute"), constraint.get("distinctAttribute")
    if attribute is None and distinct is None:
        errors.append(required(f"{field}.matchAttribute"))
    if attribute is not None:
        errors += _full_name(attribute, f"{field}.matchAttribute")
    if distinct is not None:
        errors += _full_name(distinct, f"{field}.distinctAttribute")
    return errors


def _full_name(text: str, field: str) -> list[FieldError]:
    """A fully qualified attribute: a driver's domain and an identifier."""
    if not text:
        return [required(field, "name required")]
    domain, slash, own = text.partition("/")
    if not slash:
        return [invalid_value(field, text, "must include a domain")]
    errors = broken(field, domain, rules.is_dns1123_subdomain(domain))
    return errors + _identifier(own, field)


def _identifier(text: str, field: str) -> list[FieldError]:
    if not text:
        return [required(field, "name required")]
    if len(text) > 32:
        return [FieldError("TooLong", field, text, "may not be more than 32 bytes")]
    return broken(field, text, [] if _C_IDENTIFIER.fullmatch(text) else rules.is_c_identifier(text))


def qualified_name(text: str, field: str) -> list[FieldError]:
    """An identifier, perhaps with a domain before it."""
    domain, slash, own = text.partition("/")
    if not slash:
        return _identifier(text, field)
    if not domain:
        return [required(field, "the domain must not be empty")]
    return broken(field, domain, rules.is_dns1123_subdomain(domain)) + _identifier(own, field)


def validate_configuration(config: Object, field: str) -> list[FieldError]:
    opaque = config.get("opaque")
    if opaque is None:
        return [required(f"{field}.opaque")]
    errors = driver_name(opaque.get("driver") or "", f"{field}.opaque.driver")
    parameters = opaque.get("parameters")
    if parameters in (None, {}):
        errors.append(required(f"{field}.opaque.parameters"))
    elif len(json.dumps(parameters)) > PARAMETERS_BYTES_MAX:
        message = f"may not be more than {PARAMETERS_BYTES_MAX} bytes"
        errors.append(FieldError("TooLong", f"{field}.opaque.parameters", "", message))
    elif not isinstance(parameters, dict):
        errors.append(invalid_value(f"{field}.opaque.parameters", "<value omitted>", "must be a valid JSON object"))
    return errors


# Taints


def validate_taint(taint: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    key, value, effect = (taint.get(part) or "" for part in ("key", "value", "effect"))
    errors += rules.validate_label_name(key, f"{field}.key")
    if value:
        errors += broken(f"{field}.value", value, rules.is_label_value(value))
    if not effect:
        errors.append(required(f"{field}.effect"))
    elif effect not in ("NoExecute", "NoSchedule", "None"):
        errors.append(not_supported(f"{field}.effect", effect, ["NoExecute", "NoSchedule", "None"]))
    return errors


# Status of claims


def validate_allocation(allocation: Object | None, field: str, spec: Object) -> list[FieldError]:
    if allocation is None:
        return []
    results = (allocation.get("devices") or {}).get("results") or []
    errors = too_many(f"{field}.devices.results", len(results), RESULTS_MAX)
    known: set[str] = set()
    for request in ((spec.get("devices") or {}).get("requests")) or []:
        own = request.get("name") or ""
        known.add(own)
        known |= {f"{own}/{s.get('name') or ''}" for s in request.get("firstAvailable") or []}
    for i, result in enumerate(results):
        at = f"{field}.devices.results[{i}]"
        if result.get("request") not in known:
            message = "must be the name of a request in the claim"
            errors.append(invalid_value(f"{at}.request", result.get("request") or "", message))
        errors += driver_name(result.get("driver") or "", f"{at}.driver")
        errors += pool_name(result.get("pool") or "", f"{at}.pool")
        errors += named(f"{at}.device", result.get("device"), rules.is_dns1123_label)
    selector = allocation.get("nodeSelector")
    if selector is not None:
        from peavine.api.core.scheduling_validation import validate_node_selector

        errors += validate_node_selector(selector, f"{field}.nodeSelector")
    return errors


def pool_name(text: str, field: str) -> list[FieldError]:
    if not text:
        return [required(field)]
    errors: list[FieldError] = []
    if len(text) > 253:
        errors.append(FieldError("TooLong", field, text, "may not be more than 253 bytes"))
    for part in text.split("/"):
        errors += broken(field, part, rules.is_dns1123_subdomain(part))
    return errors


def validate_consumers(status: Object, field: str) -> list[FieldError]:
    consumers = status.get("reservedFor") or []
    errors = too_many(f"{field}.reservedFor", len(consumers), 256)
    seen: set[str] = set()
    for i, consumer in enumerate(consumers):
        at = f"{field}.reservedFor[{i}]"
        for part in ("resource", "name", "uid"):
            if not consumer.get(part):
                errors.append(required(f"{at}.{part}"))
        if consumer.get("uid") in seen:
            errors.append(duplicate(f"{at}.uid", consumer.get("uid")))
        seen.add(consumer.get("uid") or "")
    if consumers and status.get("allocation") is None:
        message = "may not be specified when `allocated` is not set"
        errors.append(forbidden_field(f"{field}.reservedFor", message))
    return errors
