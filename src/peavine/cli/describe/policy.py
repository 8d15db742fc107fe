# ruff: noqa: E501
"""Limit ranges, quotas, disruption budgets and autoscalers."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, annotation_lines, labels, selector_text, when
from peavine.cli.session import Session

Object = dict[str, Any]
_SCOPES = {
    "Terminating": "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system.",
    "NotTerminating": "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate.",
    "BestEffort": "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service.",
    "NotBestEffort": "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service.",
}


def _start(obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    text.field(0, "Namespace", meta.get("namespace", ""))
    return text


async def limit_range(session: Session, obj: Object) -> Text:
    text = _start(obj)
    limits(text, [obj], 0)
    return text


def limits(text: Text, ranges: list[Object], spaces: int) -> None:
    indent = " " * spaces
    text.line(0, f"{indent}Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio")
    text.line(0, f"{indent}----\t--------\t---\t---\t---------------\t-------------\t-----------------------")
    parts = ("min", "max", "defaultRequest", "default", "maxLimitRequestRatio")
    for found in ranges:
        for item in (found.get("spec") or {}).get("limits") or ():
            names = sorted({name for part in parts for name in item.get(part) or {}})
            for name in names:
                cells = "\t".join((item.get(part) or {}).get(name, "-") for part in parts)
                text.line(0, f"{indent}{item.get('type', '')}\t{name}\t{cells}")


async def resource_quota(session: Session, obj: Object) -> Text:
    text, scopes = _start(obj), (obj.get("spec") or {}).get("scopes")
    if scopes:
        text.field(0, "Scopes", ", ".join(sorted(scopes)))
        for scope in sorted(scopes):
            if scope in _SCOPES:
                text.line(0, f" * {_SCOPES[scope]}")
    text.line(0, "Resource\tUsed\tHard")
    text.line(0, "--------\t----\t----")
    used_lines(text, obj, 0)
    return text


def used_lines(text: Text, quota: Object, level: int) -> None:
    hard, used = ((quota.get("status") or {}).get(part) or {} for part in ("hard", "used"))
    for name in sorted(hard):
        text.line(level, f"{name}\t{used.get(name, '0')}\t{hard[name]}")


async def disruption_budget(session: Session, obj: Object) -> Text:
    text, spec, status = _start(obj), obj.get("spec") or {}, obj.get("status") or {}
    if spec.get("minAvailable") is not None:
        text.field(0, "Min available", spec["minAvailable"])
    elif spec.get("maxUnavailable") is not None:
        text.field(0, "Max unavailable", spec["maxUnavailable"])
    text.field(0, "Selector", selector_text(spec.get("selector")) if spec.get("selector") else "<unset>")
    text.line(0, "Status:")
    for shown, key in (
        ("Allowed disruptions", "disruptionsAllowed"), ("Current", "currentHealthy"), ("Desired", "desiredHealthy"),
        ("Total", "expectedPods"),
    ):  # fmt: skip
        text.field(2, shown, status.get(key, 0))
    return text


# --- autoscalers


async def autoscaler(session: Session, obj: Object) -> Text:
    if obj.get("apiVersion") == "autoscaling/v1":
        meta = obj["metadata"]
        obj = await session.get(
            f"/apis/autoscaling/v2/namespaces/{meta['namespace']}/horizontalpodautoscalers/{meta['name']}"
        )
    text, meta, spec, status = _start(obj), obj["metadata"], obj["spec"], obj.get("status") or {}
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "CreationTimestamp", when(meta.get("creationTimestamp")))
    target = spec["scaleTargetRef"]
    text.field(0, "Reference", f"{target['kind']}/{target['name']}")
    text.field(0, "Metrics", "( current / target )")
    current = status.get("currentMetrics") or []
    for at, metric in enumerate(spec.get("metrics") or ()):
        text.line(1, _metric(metric, current[at] if at < len(current) else {}))
    text.field(0, "Min replicas", "<unset>" if spec.get("minReplicas") is None else spec["minReplicas"])
    text.field(0, "Max replicas", spec.get("maxReplicas", 0))
    behavior = spec.get("behavior")
    if behavior:
        text.line(0, "Behavior:")
        for shown, key in (("Scale Up", "scaleUp"), ("Scale Down", "scaleDown")):
            _direction(text, shown, behavior.get(key))
    text.field(
        0,
        f"{target['kind']} pods",
        f"{status.get('currentReplicas', 0)} current / {status.get('desiredReplicas', 0)} desired",
    )
    if status.get("conditions"):
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus\tReason\tMessage")
        text.line(1, "----\t------\t------\t-------")
        for c in status["conditions"]:
            text.line(1, f"{c['type']}\t{c['status']}\t{c.get('reason', '')}\t{c.get('message', '')}")
    return text


def _metric(metric: Object, now: Object) -> str:
    kind = metric.get("type", "")
    key = kind[:1].lower() + kind[1:]
    source, have = metric.get(key) or {}, (now.get(key) or {}).get("current") or {}
    target = source.get("target") or {}
    average = target.get("averageValue") is not None
    value = "averageValue" if average else "value"
    shown = f"{have.get(value, '<unknown>')} / {target.get(value, '')}"
    name = (source.get("metric") or {}).get("name", "")
    if kind == "External":
        return f'"{name}" (target {"average " if average else ""}value):\t{shown}'
    if kind == "Pods":
        return f'"{name}" on pods:\t{have.get("averageValue", "<unknown>")} / {target.get("averageValue", "")}'
    if kind == "Object":
        on = source.get("describedObject") or {}
        average = target.get("type") == "AverageValue"
        value = "averageValue" if average else "value"
        words = "target average value" if average else "target value"
        return f'"{name}" on {on.get("kind")}/{on.get("name")} ({words}):\t{have.get(value, "<unknown>")} / {target.get(value, "")}'
    if kind in ("Resource", "ContainerResource"):
        where = (
            f'resource {source.get("name")} of container "{source.get("container")}" on pods'
            if kind == "ContainerResource"
            else f"resource {source.get('name')} on pods"
        )
        if average:
            return f"{where}:\t{shown}"
        used = have.get("averageUtilization")
        current = "<unknown>" if used is None else f"{used}% ({have.get('averageValue', '0')})"
        wanted = target.get("averageUtilization")
        return f"{where}  (as a percentage of request):\t{current} / {'<auto>' if wanted is None else f'{wanted}%'}"
    return f'<unknown metric type "{kind}">'


def _direction(text: Text, shown: str, rules: Object | None) -> None:
    if not rules:
        return
    text.line(1, f"{shown}:")
    if rules.get("stabilizationWindowSeconds") is not None:
        text.line(2, f"Stabilization Window: {rules['stabilizationWindowSeconds']} seconds")
    policies = rules.get("policies") or []
    if policies or rules.get("selectPolicy"):
        text.line(2, f"Select Policy: {rules.get('selectPolicy') or 'Max'}")
    if policies:
        text.line(2, "Policies:")
        for policy in policies:
            text.line(
                3, f"- Type: {policy['type']}\tValue: {policy['value']}\tPeriod: {policy['periodSeconds']} seconds"
            )
