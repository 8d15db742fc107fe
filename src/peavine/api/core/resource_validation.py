"""The rules of `resources`: known names, requests within limits, whole devices, claims that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peavine.api.core.resourcenames import HUGEPAGES, is_extended, validate_container_name, validate_integer
from peavine.api.fields import non_negative_quantity, quantity
from peavine.machinery.errors import FieldError, duplicate, field_not_found, forbidden_field, invalid_value, required

Object = dict[str, Any]


def validate_requirements(
    resources: Object, field: str, claims: Mapping[str, Object] | None = None
) -> list[FieldError]:
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    base = huge = False
    for name, limit in limits.items():
        errors += validate_container_name(f"{field}.limits[{name}]", name)
        errors += _amount(f"{field}.limits[{name}]", name, limit)
        huge |= name.startswith(HUGEPAGES)
        base |= name in ("cpu", "memory")
    for name, request in requests.items():
        errors += validate_container_name(f"{field}.requests[{name}]", name)
        errors += _amount(f"{field}.requests[{name}]", name, request)
        exact = name.startswith(HUGEPAGES) or is_extended(name)
        if name in limits:
            asked, most = quantity(request), quantity(limits[name])
            if asked > most:
                message = f"must be less than or equal to {name} limit of {limits[name]}"
                errors.append(invalid_value(f"{field}.requests", str(request), message))
            elif exact and asked != most:
                message = f"must be equal to {name} limit of {limits[name]}"
                errors.append(invalid_value(f"{field}.requests", str(request), message))
        elif exact:
            errors.append(required(f"{field}.limits", "Limit must be set for non overcommitable resources"))
        huge |= name.startswith(HUGEPAGES)
        base |= name in ("cpu", "memory")
    if huge and not base:
        errors.append(forbidden_field(field, "HugePages require cpu or memory"))
    return errors + _claims(resources.get("claims") or [], f"{field}.claims", claims or {})


def _amount(field: str, name: str, value: Any) -> list[FieldError]:
    return non_negative_quantity(field, value) + validate_integer(field, name, str(value))


def _claims(used: list[Object], field: str, claims: Mapping[str, Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for i, claim in enumerate(used):
        name, request = claim.get("name") or "", claim.get("request") or ""
        if not name:
            errors.append(required(f"{field}[{i}]"))
            continue
        if (name, request) in seen:
            errors.append(duplicate(f"{field}[{i}]", f"{name}/{request}" if request else name))
        seen.add((name, request))
        if name not in claims:
            errors.append(field_not_found(f"{field}[{i}].name", name))
    return errors


def validate_pod_level(spec: Object, field: str) -> list[FieldError]:
    """Resources of the pod as a whole: only some names, and never below what the containers ask for together."""
    from peavine.api.core.resources import is_pod_level, pod_requests
    from peavine.machinery.errors import not_supported

    resources = spec.get("resources")
    if resources is None:
        return []
    errors: list[FieldError] = []
    if resources.get("claims"):
        message = "claims may not be set for Resources at pod-level"
        errors.append(forbidden_field(f"{field}.claims", message))
    names = ["cpu", "memory"]
    for part in ("limits", "requests"):
        for name in resources.get(part) or {}:
            if not is_pod_level(name):
                errors.append(not_supported(f"{field}.{part}[{name}]", name, names))
    errors += validate_requirements({k: v for k, v in resources.items() if k != "claims"}, field)
    together = pod_requests({"spec": {**spec, "resources": {}}}, overhead=False)
    for name, request in (resources.get("requests") or {}).items():
        if is_pod_level(name) and name in together and quantity(request) < together[name]:
            message = f"must be greater than or equal to aggregate container requests of {together[name]}"
            errors.append(invalid_value(f"{field}.requests[{name}]", str(request), message))
    for name, limit in (resources.get("limits") or {}).items():
        for part in ("containers", "initContainers"):
            for i, container in enumerate(spec.get(part) or []):
                own = ((container.get("resources") or {}).get("limits") or {}).get(name)
                if own is not None and quantity(own) > quantity(limit):
                    at = f"{field.rpartition('.')[0]}.{part}[{i}].resources.limits[{name}]"
                    message = f"must be less than or equal to pod limits of {limit}"
                    errors.append(invalid_value(at, str(own), message))
    return errors
