"""HorizontalPodAutoscaler, version 2: the stored form."""

from __future__ import annotations

from typing import Any

from peavine.api.printing import AGE, NAME, Column, name, object_age
from peavine.machinery.errors import FieldError

Object = dict[str, Any]

COLUMNS = (
    NAME,
    Column("Reference", description="@autoscaling.v2.HorizontalPodAutoscalerSpec.scaleTargetRef"),
    Column("Targets", description="@autoscaling.v2.HorizontalPodAutoscalerSpec.metrics"),
    Column("MinPods", description="@autoscaling.v2.HorizontalPodAutoscalerSpec.minReplicas"),
    Column("MaxPods", description="@autoscaling.v2.HorizontalPodAutoscalerSpec.maxReplicas"),
    Column("Replicas", description="@autoscaling.v2.HorizontalPodAutoscalerStatus.currentReplicas"),
    AGE,
)

MINUTE = 60


def row(obj: Object) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target = spec.get("scaleTargetRef") or {}
    least = spec.get("minReplicas")
    return [
        name(obj),
        f"{target.get('kind') or ''}/{target.get('name') or ''}",
        metrics(spec.get("metrics") or [], status.get("currentMetrics") or []),
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        object_age(obj),
    ]


def metrics(specs: list[Object], statuses: list[Object]) -> str:
    """Up to two metrics as `current/target`, and how many more there are."""
    if not specs:
        return "<none>"
    shown = [_metric(spec, statuses[i] if i < len(statuses) else {}) for i, spec in enumerate(specs[:2])]
    text = ", ".join(shown)
    return f"{text} + {len(specs) - 2} more..." if len(specs) > 2 else text


def _metric(spec: Object, status: Object) -> str:
    type = spec.get("type") or ""
    part = {"External": "external", "Pods": "pods", "Object": "object", "Resource": "resource"}.get(type, "")
    if type == "ContainerResource":
        part = "containerResource"
    if not part:
        return "<unknown type>"
    own, seen = spec.get(part) or {}, (status.get(part) or {}).get("current") or {}
    target = own.get("target") or {}
    if type in ("Resource", "ContainerResource"):
        if target.get("averageValue") is not None:
            return f"{own.get('name')}: {seen.get('averageValue') or '<unknown>'}/{target['averageValue']}"
        now = seen.get("averageUtilization")
        wanted = target.get("averageUtilization")
        shown = "<unknown>" if now is None else f"{now}%"
        return f"{own.get('name')}: {shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    average = " (avg)" if target.get("averageValue") is not None else ""
    key = "averageValue" if average else "value"
    return f"{seen.get(key) or '<unknown>'}/{target.get(key) or '<auto>'}{average}"


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if spec.get("behavior") is not None:
        default_behavior(spec["behavior"])


def default_behavior(behavior: Object) -> None:
    """What a given part of the behaviour leaves open. A missing behaviour stays missing."""
    up = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    }
    down = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
    for part, values in (("scaleUp", up), ("scaleDown", down)):
        given = behavior.get(part)
        merged = {**values, **{k: v for k, v in (given or {}).items() if v is not None}}
        behavior[part] = merged


def validate_create(obj: Object) -> list[FieldError]:
    from peavine.api.autoscaling.validation import validate_autoscaler

    return validate_autoscaler(obj)


def validate_status_update(new: Object, old: Object) -> list[FieldError]:
    from peavine.api.fields import non_negative

    status = new.get("status") or {}
    errors = non_negative("status.currentReplicas", status.get("currentReplicas"))
    return errors + non_negative("status.desiredReplicas", status.get("desiredReplicas"))
