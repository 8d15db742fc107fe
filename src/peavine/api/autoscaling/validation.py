"""The rules of autoscalers and of Scale."""

from __future__ import annotations

from typing import Any

from peavine.api.fields import broken, named, non_negative, quantity
from peavine.machinery import validation as rules
from peavine.machinery.errors import FieldError, forbidden_field, invalid_value, not_supported, required

Object = dict[str, Any]

SOURCES = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}
WINDOW_SECONDS_MAX, PERIOD_SECONDS_MAX = 3600, 1800
POSITIVE = "must be greater than 0"


def validate_autoscaler(obj: Object) -> list[FieldError]:
    spec, field = obj.get("spec") or {}, "spec"
    errors: list[FieldError] = []
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    if least is not None and least < 0:
        errors.append(invalid_value(f"{field}.minReplicas", least, "must be greater than or equal to 0"))
    if most < 1:
        errors.append(invalid_value(f"{field}.maxReplicas", most, POSITIVE))
    if least is not None and most < least:
        errors.append(invalid_value(f"{field}.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    errors += _reference(spec.get("scaleTargetRef") or {}, f"{field}.scaleTargetRef")
    errors += _metrics(spec.get("metrics") or [], f"{field}.metrics", least)
    metrics = spec.get("metrics") or []
    if least == 0 and not any(metric.get("type") in ("External", "Object") for metric in metrics):
        message = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden_field(f"{field}.metrics", message))
    return errors + _behavior(spec.get("behavior"), f"{field}.behavior")


def _reference(reference: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("kind", "name"):
        value = reference.get(part) or ""
        if not value:
            errors.append(required(f"{field}.{part}"))
        else:
            errors += broken(f"{field}.{part}", value, rules.is_path_segment(value))
    version = reference.get("apiVersion") or ""
    if version.count("/") > 1:
        message = f"unexpected GroupVersion string: {version}"
        errors.append(invalid_value(f"{field}.apiVersion", version, message))
    return errors


def _metrics(metrics: list[Object], field: str, least: int | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for i, metric in enumerate(metrics):
        errors += _metric(metric, f"{field}[{i}]")
    return errors


def _metric(metric: Object, field: str) -> list[FieldError]:
    type = metric.get("type") or ""
    errors: list[FieldError] = []
    if not type:
        errors.append(required(f"{field}.type", "must specify a metric source type"))
    elif type not in SOURCES:
        errors.append(not_supported(f"{field}.type", type, sorted(SOURCES)))
    expected = SOURCES.get(type)
    for name in SOURCES.values():
        if metric.get(name) is not None and name != expected:
            message = "must populate the given metric source only"
            errors.append(forbidden_field(f"{field}.{name}", message))
    own = metric.get(expected) if expected else None
    if expected and own is None:
        message = "must populate information for the given metric source"
        errors.append(required(f"{field}.{expected}", message))
    if own is not None and expected:
        errors += _source(type, own, f"{field}.{expected}")
    return errors


def _source(type: str, own: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    target = own.get("target") or {}
    if type in ("Resource", "ContainerResource"):
        if not own.get("name"):
            errors.append(required(f"{field}.name", "must specify a resource name"))
        if type == "ContainerResource" and not own.get("container"):
            errors.append(required(f"{field}.container", "must specify a container name"))
    else:
        if type == "Object":
            errors += _reference(own.get("describedObject") or {}, f"{field}.describedObject")
        name = (own.get("metric") or {}).get("name")
        errors += named(f"{field}.metric.name", name, rules.is_path_segment, "must specify a metric name")
        selector = (own.get("metric") or {}).get("selector")
        errors += rules.validate_label_selector(selector, f"{field}.metric.selector")
    errors += _target(target, f"{field}.target")
    return errors + _combination(type, target, f"{field}.target")


def _combination(type: str, target: Object, field: str) -> list[FieldError]:
    value, average, percent = (target.get(k) for k in ("value", "averageValue", "averageUtilization"))
    if type in ("Resource", "ContainerResource"):
        if percent is None and average is None:
            message = "must set either a target raw value or a target utilization"
            return [required(f"{field}.averageUtilization", message)]
        if percent is not None and average is not None:
            message = "may not set both a target raw value and a target utilization"
            return [forbidden_field(f"{field}.averageValue", message)]
        return []
    if type == "Pods":
        if average is None or quantity(average).nanos <= 0:
            message = "must specify a positive target averageValue"
            return [required(f"{field}.averageValue", message)]
        return []
    if value is None and average is None:
        part = "value" if type == "Object" else "averageValue"
        message = "must set either a target value or averageValue"
        return [required(f"{field}.{part}", message)]
    if type == "External" and value is not None and average is not None:
        message = "may not set both a target value for metric and a per-pod target"
        return [forbidden_field(f"{field}.value", message)]
    return []


def _target(target: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    type = target.get("type") or ""
    if not type:
        errors.append(required(f"{field}.type", "must specify a metric target type"))
    elif type not in ("AverageValue", "Utilization", "Value"):
        message = "must be either Utilization, Value, or AverageValue"
        errors.append(invalid_value(f"{field}.type", type, message))
    percent = target.get("averageUtilization")
    if percent is not None and percent < 1:
        errors.append(invalid_value(f"{field}.averageUtilization", percent, POSITIVE))
    for part in ("value", "averageValue"):
        if target.get(part) is not None and quantity(target[part]).nanos <= 0:
            errors.append(invalid_value(f"{field}.{part}", str(target[part]), "must be positive"))
    return errors


def _behavior(behavior: Object | None, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for part in ("scaleUp", "scaleDown"):
        own, at = (behavior or {}).get(part), f"{field}.{part}"
        if own is None:
            continue
        window = own.get("stabilizationWindowSeconds")
        if window is not None and window < 0:
            message = "must be greater than or equal to zero"
            errors.append(invalid_value(f"{at}.stabilizationWindowSeconds", window, message))
        if window is not None and window > WINDOW_SECONDS_MAX:
            message = f"must be less than or equal to {WINDOW_SECONDS_MAX}"
            errors.append(invalid_value(f"{at}.stabilizationWindowSeconds", window, message))
        select = own.get("selectPolicy")
        if select is not None and select not in ("Disabled", "Max", "Min"):
            errors.append(not_supported(f"{at}.selectPolicy", select, ["Disabled", "Max", "Min"]))
        tolerance = own.get("tolerance")
        if tolerance is not None and quantity(tolerance).nanos < 0:
            message = "must be greater than or equal to 0"
            errors.append(invalid_value(f"{at}.tolerance", str(tolerance), message))
        policies = own.get("policies") or []
        if not policies:
            errors.append(required(f"{at}.policies", "must specify at least one Policy"))
        for i, policy in enumerate(policies):
            errors += _policy(policy, f"{at}.policies[{i}]")
    return errors


def _policy(policy: Object, field: str) -> list[FieldError]:
    errors: list[FieldError] = []
    type, value, period = policy.get("type") or "", policy.get("value") or 0, policy.get("periodSeconds") or 0
    if type not in ("Percent", "Pods"):
        errors.append(not_supported(f"{field}.type", type, ["Percent", "Pods"]))
    if value <= 0:
        errors.append(invalid_value(f"{field}.value", value, "must be greater than zero"))
    if period <= 0:
        errors.append(invalid_value(f"{field}.periodSeconds", period, "must be greater than zero"))
    if period > PERIOD_SECONDS_MAX:
        message = f"must be less than or equal to {PERIOD_SECONDS_MAX}"
        errors.append(invalid_value(f"{field}.periodSeconds", period, message))
    return errors


def validate_scale(obj: Object) -> list[FieldError]:
    return non_negative("spec.replicas", (obj.get("spec") or {}).get("replicas"))
