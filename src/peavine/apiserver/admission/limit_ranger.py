"""LimitRanger: defaults for what a namespace's containers ask, and bounds for containers, pods and claims."""

from __future__ import annotations

from typing import Any

from peavine.api.core.resources import (
    Resources,
    container_limits,
    container_requests,
    parse_resources,
    pod_limits,
    pod_requests,
)
from peavine.apiserver.admission.chain import PluginContext
from peavine.apiserver.admission.refusals import forbidden
from peavine.apiserver.admission.request import CREATE, UPDATE, AdmissionRequest, Plugin
from peavine.machinery.quantity import Quantity, parse_quantity

ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(Plugin):
    name = "LimitRanger"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset((("", "pods"), ("", "persistentvolumeclaims")))

    def __init__(self, context: PluginContext) -> None:
        self.lister = context.lister

    async def admit(self, req: AdmissionRequest) -> None:
        if req.operation != CREATE or req.subresource or req.gvr.resource != "pods" or req.obj is None:
            return
        for limit_range in self.lister.list("", "limitranges", req.namespace):
            _set_defaults(req.obj, limit_range)

    async def validate(self, req: AdmissionRequest) -> None:
        assert req.obj is not None
        if req.subresource not in ("", "resize") or req.obj["metadata"].get("deletionTimestamp"):
            return
        is_pod = req.gvr.resource == "pods"
        if is_pod and req.operation == UPDATE and req.subresource != "resize":
            return  # resources of a pod's containers change through resize only
        for limit_range in self.lister.list("", "limitranges", req.namespace):
            problems = _pod_problems(limit_range, req.obj) if is_pod else _claim_problems(limit_range, req.obj)
            if problems:
                raise forbidden(req, problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]")


def _set_defaults(pod: dict[str, Any], limit_range: dict[str, Any]) -> None:
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for limit in limit_range["spec"].get("limits") or ():
        if limit.get("type") == "Container":
            requests.update(limit.get("defaultRequest") or {})
            limits.update(limit.get("default") or {})
    notes = []
    for kind, word in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(kind) or ():
            for part, defaults, what in (("requests", requests, "request"), ("limits", limits, "limit")):
                has = (container.get("resources") or {}).get(part) or {}
                added = {name: value for name, value in defaults.items() if name not in has}
                if added:
                    container["resources"] = {**(container.get("resources") or {}), part: {**has, **added}}
                    notes.append(f"{', '.join(sorted(added))} {what} for {word} {container['name']}")
    if notes:
        pod["metadata"].setdefault("annotations", {})[ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)


def _pod_problems(limit_range: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    for limit in limit_range["spec"].get("limits") or ():
        if limit.get("type") == "Container":
            for kind in ("containers", "initContainers"):
                for container in pod["spec"].get(kind) or ():
                    problems += _problems(limit, container_requests(container), container_limits(container))
        elif limit.get("type") == "Pod":
            problems += _problems(limit, pod_requests(pod, overhead=False), pod_limits(pod, overhead=False))
    return problems


def _claim_problems(limit_range: dict[str, Any], claim: dict[str, Any]) -> list[str]:
    requests = parse_resources((claim["spec"].get("resources") or {}).get("requests"))
    problems = []
    for limit in limit_range["spec"].get("limits") or ():
        if limit.get("type") != "PersistentVolumeClaim":
            continue
        for name, value in (limit.get("min") or {}).items():
            problems += _minimum("PersistentVolumeClaim", name, value, requests, {})
        for name, value in (limit.get("max") or {}).items():
            words = f"maximum {name} usage per PersistentVolumeClaim is {value}"
            if name not in requests:
                problems.append(f"{words}.  No request is specified")
            elif requests[name] > parse_quantity(value):
                problems.append(f"{words}, but request is {requests[name]}")
    return problems


def _problems(limit: dict[str, Any], requests: Resources, limits: Resources) -> list[str]:
    kind = limit["type"]
    problems: list[str] = []
    for name, value in (limit.get("min") or {}).items():
        problems += _minimum(kind, name, value, requests, limits)
    for name, value in (limit.get("max") or {}).items():
        problems += _maximum(kind, name, value, requests, limits)
    for name, value in (limit.get("maxLimitRequestRatio") or {}).items():
        problems += _ratio(kind, name, value, requests, limits)
    return problems


def _minimum(kind: str, name: str, value: str, requests: Resources, limits: Resources) -> list[str]:
    words, least = f"minimum {name} usage per {kind} is {value}", parse_quantity(value)
    if name not in requests:
        return [f"{words}.  No request is specified"]
    if name in limits and limits[name] < least:
        return [f"{words}, but limit is {limits[name]}"]
    return [f"{words}, but request is {requests[name]}"] if requests[name] < least else []


def _maximum(kind: str, name: str, value: str, requests: Resources, limits: Resources) -> list[str]:
    words, most = f"maximum {name} usage per {kind} is {value}", parse_quantity(value)
    if name not in limits:
        return [f"{words}.  No limit is specified"]
    if limits[name] > most:
        return [f"{words}, but limit is {limits[name]}"]
    return [f"{words}, but request is {requests[name]}"] if name in requests and requests[name] > most else []


def _ratio(kind: str, name: str, value: str, requests: Resources, limits: Resources) -> list[str]:
    words = f"{name} max limit to request ratio per {kind} is {value}"
    request, upper = requests.get(name), limits.get(name)
    if not request:
        return [f"{words}, but no request is specified or request is 0"]
    if not upper:
        return [f"{words}, but no limit is specified or limit is 0"]
    observed = _milli_ratio(upper, request)
    return (
        [f"{words}, but provided ratio is {observed:f}"] if observed > _milli_ratio(parse_quantity(value), None) else []
    )


def _milli_ratio(upper: Quantity, lower: Quantity | None) -> float:
    return upper.milli() / (lower.milli() if lower is not None else 1000)
