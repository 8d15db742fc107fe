"""PodDisruptionBudget: how many pods of a set may go at once of somebody's will."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError, invalid_value

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Min Available", description="The minimum number of pods that must be available."),
    Column("Max Unavailable", description="The maximum number of pods that may be unavailable."),
    Column("Allowed Disruptions", "integer", "Calculated number of pods that may be disrupted at this time."),
    AGE,
)


def row(obj: Object) -> list[Any]:
    spec = obj.get("spec") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name(obj),
        "N/A" if least is None else str(least),
        "N/A" if most is None else str(most),
        (obj.get("status") or {}).get("disruptionsAllowed") or 0,
        object_age(obj),
    ]


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.apps.workload import at_most_100_percent, int_or_percent
    from peavine.machinery import validation as rules

    spec = obj.get("spec") or {}
    errors: list[FieldError] = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        errors.append(invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            errors += int_or_percent(f"spec.{field}", value) + at_most_100_percent(f"spec.{field}", value)
    errors += rules.validate_label_selector(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        from peavine.machinery.errors import not_supported

        field = "spec.unhealthyPodEvictionPolicy"
        errors.append(not_supported(field, policy, ["AlwaysAllow", "IfHealthyBudget"]))
    return errors


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.apps.workload import replicas_status

    names = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    return replicas_status(new.get("status") or {}, "status", names)
