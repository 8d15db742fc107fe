"""HorizontalPodAutoscaler, version 1: one CPU target in the spec, everything else in annotations.

Converted to and from version 2, which is what is stored. The annotations hold version 2's lists as JSON, so that a
round trip loses nothing.
"""

from __future__ import annotations

import json
from typing import Any

from peavine.api.autoscaling import horizontalpodautoscaler as v2

Object = dict[str, Any]

METRICS = "autoscaling.alpha.kubernetes.io/metrics"
BEHAVIOR = "autoscaling.alpha.kubernetes.io/behavior"
CONDITIONS = "autoscaling.alpha.kubernetes.io/conditions"
CURRENT_METRICS = "autoscaling.alpha.kubernetes.io/current-metrics"

COLUMNS = v2.COLUMNS
row = v2.row


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1


def to_storage(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    meta = dict(obj.get("metadata") or {})
    annotations = dict(meta.get("annotations") or {})
    metrics = _read(annotations.pop(METRICS, None), [])
    found = [_metric_to_v2(metric) for metric in metrics if isinstance(metric, dict)]
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    if percent is not None:
        found.insert(0, _cpu(percent))
    if not found:
        found = [_cpu(80)]
    spec["metrics"] = found
    behavior = _read(annotations.pop(BEHAVIOR, None), None)
    if isinstance(behavior, dict):
        v2.default_behavior(behavior)
        spec["behavior"] = {k: behavior[k] for k in ("scaleUp", "scaleDown") if k in behavior}
    current = [_status_to_v2(m) for m in _read(annotations.pop(CURRENT_METRICS, None), []) if isinstance(m, dict)]
    seen = status.pop("currentCPUUtilizationPercentage", None)
    if seen is not None:
        resource = {"name": "cpu", "current": {"averageUtilization": seen}}
        current.insert(0, {"type": "Resource", "resource": resource})
    if current:
        status["currentMetrics"] = current
    conditions = _read(annotations.pop(CONDITIONS, None), [])
    if conditions:
        status["conditions"] = conditions
    if annotations:
        meta["annotations"] = annotations
    else:
        meta.pop("annotations", None)
    return {**obj, "metadata": meta, "spec": spec, "status": status}


def from_storage(obj: Object) -> Object:
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    meta = dict(obj.get("metadata") or {})
    annotations = dict(meta.get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or []:
        percent = _cpu_percent(metric)
        if percent is not None and "targetCPUUtilizationPercentage" not in spec:
            spec["targetCPUUtilizationPercentage"] = percent
        else:
            others.append(_metric_to_v1(metric))
    behavior = spec.pop("behavior", None)
    current = []
    for metric in status.pop("currentMetrics", None) or []:
        own = metric.get("resource") or {}
        seen = (own.get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and own.get("name") == "cpu" and seen is not None:
            status["currentCPUUtilizationPercentage"] = seen
        current.append(_status_to_v1(metric))
    for key, value in (
        (METRICS, others),
        (BEHAVIOR, _pascal(behavior) if behavior else None),
        (CURRENT_METRICS, current),
        (CONDITIONS, status.pop("conditions", None)),
    ):
        if value:
            annotations[key] = json.dumps(value, separators=(",", ":"))
    if annotations:
        meta["annotations"] = annotations
    return {**obj, "metadata": meta, "spec": spec, "status": status}


def _read(text: str | None, otherwise: Any) -> Any:
    if not text:
        return otherwise
    try:
        value = json.loads(text)
    except ValueError:
        return otherwise
    return _camel(value)


def _camel(value: Any) -> Any:
    """Upstream writes the behaviour with Go's own field names; read either form."""
    if isinstance(value, dict):
        return {k[:1].lower() + k[1:]: _camel(v) for k, v in value.items() if v is not None}
    return [_camel(v) for v in value] if isinstance(value, list) else value


def _pascal(value: Any) -> Any:
    if isinstance(value, dict):
        return {k[:1].upper() + k[1:]: _pascal(v) for k, v in value.items()}
    return [_pascal(v) for v in value] if isinstance(value, list) else value


def _cpu(percent: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def _cpu_percent(metric: Object) -> int | None:
    own = metric.get("resource") or {}
    if metric.get("type") == "Resource" and own.get("name") == "cpu":
        return (own.get("target") or {}).get("averageUtilization")
    return None


# The metrics in the annotation have version 2beta1's shape: flat targets.


def _metric_to_v2(metric: Object) -> Object:
    type = metric.get("type") or ""
    part = type[:1].lower() + type[1:]
    own = dict(metric.get(part) or {})
    if "target" in own and type != "Object":
        return {"type": type, part: own}
    made: Object = {}
    target: Object = {}
    if type in ("Resource", "ContainerResource"):
        made = {k: own[k] for k in ("name", "container") if k in own}
        if own.get("targetAverageUtilization") is not None:
            target = {"type": "Utilization", "averageUtilization": own["targetAverageUtilization"]}
        elif own.get("targetAverageValue") is not None:
            target = {"type": "AverageValue", "averageValue": own["targetAverageValue"]}
    else:
        identifier: Object = {"name": own.get("metricName") or ""}
        selector = own.get("metricSelector" if type == "External" else "selector")
        if selector is not None:
            identifier["selector"] = selector
        made["metric"] = identifier
        if type == "Object":
            made["describedObject"] = own.get("target") or {}
        average = own.get("targetAverageValue") or own.get("averageValue")
        if average is not None:
            target = {"type": "AverageValue", "averageValue": average}
        else:
            target = {"type": "Value", "value": own.get("targetValue") or "0"}
    made["target"] = target
    return {"type": type, part: made}


def _metric_to_v1(metric: Object) -> Object:
    type = metric.get("type") or ""
    part = type[:1].lower() + type[1:]
    own, target = metric.get(part) or {}, (metric.get(part) or {}).get("target") or {}
    made: Object = {}
    if type in ("Resource", "ContainerResource"):
        made = {k: own[k] for k in ("name", "container") if k in own}
        for key in ("averageUtilization", "averageValue"):
            if target.get(key) is not None:
                made["target" + key[0].upper() + key[1:]] = target[key]
        return {"type": type, part: made}
    identifier = own.get("metric") or {}
    made["metricName"] = identifier.get("name") or ""
    if identifier.get("selector") is not None:
        made["metricSelector" if type == "External" else "selector"] = identifier["selector"]
    if type == "Object":
        made["target"] = own.get("describedObject") or {}
    if target.get("value") is not None:
        made["targetValue"] = target["value"]
    if target.get("averageValue") is not None:
        made["averageValue" if type == "Object" else "targetAverageValue"] = target["averageValue"]
    return {"type": type, part: made}


def _status_to_v2(metric: Object) -> Object:
    type = metric.get("type") or ""
    part = type[:1].lower() + type[1:]
    own = dict(metric.get(part) or {})
    if "current" in own:
        return {"type": type, part: own}
    current = {
        new: own.pop(old)
        for old, new in (
            ("currentAverageUtilization", "averageUtilization"),
            ("currentAverageValue", "averageValue"),
            ("currentValue", "value"),
        )
        if old in own
    }
    made: Object = {k: own[k] for k in ("name", "container") if k in own}
    if "metricName" in own:
        made["metric"] = {"name": own["metricName"]}
        selector = own.get("metricSelector") or own.get("selector")
        if selector:
            made["metric"]["selector"] = selector
    if type == "Object":
        made["describedObject"] = own.get("target") or {}
    return {"type": type, part: {**made, "current": current}}


def _status_to_v1(metric: Object) -> Object:
    type = metric.get("type") or ""
    part = type[:1].lower() + type[1:]
    own = metric.get(part) or {}
    made: Object = {k: own[k] for k in ("name", "container") if k in own}
    identifier = own.get("metric") or {}
    if identifier:
        made["metricName"] = identifier.get("name") or ""
        if identifier.get("selector") is not None:
            made["metricSelector" if type == "External" else "selector"] = identifier["selector"]
    if type == "Object":
        made["target"] = own.get("describedObject") or {}
    for key, value in (own.get("current") or {}).items():
        made["current" + key[0].upper() + key[1:]] = value
    return {"type": type, part: made}
