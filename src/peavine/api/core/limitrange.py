"""LimitRange: bounds and defaults for what pods, containers and claims of a namespace may ask for."""

from __future__ import annotations

import uuid
from typing import Any

from peavine.api.core.resourcenames import validate_limit_range_name
from peavine.api.fields import broken, quantity
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, duplicate, forbidden_field, invalid_value

Object = dict[str, Any]


def default(obj: Object) -> None:
    for limit in (obj.get("spec") or {}).get("limits") or []:
        if limit.get("type") != "Container":
            continue
        upper = dict(limit.get("default") or {})
        upper = {**(limit.get("max") or {}), **upper}
        request = {**upper, **(limit.get("defaultRequest") or {})}
        request = {**request, **{k: v for k, v in (limit.get("min") or {}).items() if k not in request}}
        for field, value in (("default", upper), ("defaultRequest", request)):
            if value:
                limit[field] = value


def prepare_create(obj: Object) -> None:
    """A LimitRange without a name gets one, as upstream does for this kind alone."""
    meta = obj.setdefault("metadata", {})
    if not meta.get("name") and not meta.get("generateName"):
        meta["name"] = str(uuid.uuid4())


def validate_create(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, limit in enumerate((obj.get("spec") or {}).get("limits") or []):
        field = f"spec.limits[{i}]"
        type = limit.get("type") or ""
        errors += broken(f"{field}.type", type, rules.is_qualified_name(type))
        if "/" not in type and type not in ("Container", "PersistentVolumeClaim", "Pod") and not errors:
            errors.append(invalid_value(f"{field}.type", type, "must be a standard limit type or fully qualified"))
        if type in seen:
            errors.append(duplicate(f"{field}.type", type))
        seen.add(type)
        errors += _limit(field, limit, type)
    return errors


def _limit(field: str, limit: Object, type: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: list[str] = []
    parts = {part: limit.get(part) or {} for part in ("max", "min")}
    more = ("default", "defaultRequest")
    for part in ("max", "min", *more):
        values = limit.get(part) or {}
        if part in more and type == "Pod":
            if values:
                errors.append(forbidden_field(f"{field}.{part}", "may not be specified when `type` is 'Pod'"))
            continue
        parts[part] = values
        for name in values:
            errors += validate_limit_range_name(f"{field}.{part}[{name}]", name, type)
            if name not in names:
                names.append(name)
    if type == "PersistentVolumeClaim" and not any("storage" in parts[p] for p in ("min", "max")):
        from peavine.machinery.errors import required

        errors.append(
            required(f"{field}.limits", "either minimum or maximum storage value is required, but neither was provided")
        )
    for name in [*names, *(n for n in limit.get("maxLimitRequestRatio") or {} if n not in names)]:
        errors += _ordered(field, limit, parts, name)
    return errors


def _ordered(field: str, limit: Object, parts: dict[str, Object], name: str) -> list[FieldError]:
    errors: list[FieldError] = []
    low, high = parts["min"].get(name), parts["max"].get(name)
    request, upper = parts.get("defaultRequest", {}).get(name), parts.get("default", {}).get(name)

    def above(part: str, a: Any, a_name: str, b: Any, b_name: str) -> None:
        if a is not None and b is not None and quantity(a) > quantity(b):
            message = f"{a_name} value {a} is greater than {b_name} value {b}"
            errors.append(invalid_value(f"{field}.{part}[{name}]", str(a), message))

    above("min", low, "min", high, "max")
    if request is not None and low is not None and quantity(low) > quantity(request):
        message = f"min value {low} is greater than default request value {request}"
        errors.append(invalid_value(f"{field}.defaultRequest[{name}]", str(request), message))
    above("defaultRequest", request, "default request", high, "max")
    above("defaultRequest", request, "default request", upper, "default limit")
    if upper is not None and low is not None and quantity(low) > quantity(upper):
        message = f"min value {low} is greater than default value {upper}"
        errors.append(invalid_value(f"{field}.default[{name}]", str(low), message))
    if upper is not None and high is not None and quantity(upper) > quantity(high):
        message = f"default value {upper} is greater than max value {high}"
        errors.append(invalid_value(f"{field}.default[{name}]", str(high), message))
    ratio = (limit.get("maxLimitRequestRatio") or {}).get(name)
    if ratio is not None and quantity(ratio).nanos < 10**9:
        errors.append(
            invalid_value(f"{field}.maxLimitRequestRatio[{name}]", str(ratio), f"ratio {ratio} is less than 1")
        )
    if ratio is not None and low is not None and high is not None and quantity(low).nanos:
        biggest = quantity(high).nanos / quantity(low).nanos
        if quantity(ratio).nanos / 10**9 > biggest:
            message = f"ratio {ratio} is greater than max/min = {biggest:f}"
            errors.append(invalid_value(f"{field}.maxLimitRequestRatio[{name}]", str(ratio), message))
    both = upper is not None and request is not None
    if name.startswith("hugepages-") and both and quantity(upper) != quantity(request):
        message = f"default value {upper} must equal to defaultRequest value {request} in {name}"
        errors.append(invalid_value(f"{field}.default[{name}]", str(upper), message))
    return errors
