"""NodeMetrics and PodMetrics from kubelet summaries, and the pages that serve them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from peavine.base.pages import Page, text
from peavine.machinery.errors import ApiError, bad_request, not_found
from peavine.machinery.selectors import Selector, SelectorError, parse_label_selector
from peavine.metrics.collector import RESOLUTION_SECONDS, Collector

Object = dict[str, Any]
GROUP, VERSION = "metrics.k8s.io", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
ROOT = f"/apis/{GROUP}/{VERSION}"
JSON = "application/json"
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": API_VERSION,
    "resources": [
        {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics", "verbs": ["get", "list"]},
        {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]},
    ],
}


def usage_of(part: Object) -> Object | None:
    """CPU and memory of a node, a pod's container or a pod; None while the rate is not known yet."""
    cores, memory = (part.get("cpu") or {}).get("usageNanoCores"), (part.get("memory") or {}).get("workingSetBytes")
    if cores is None or memory is None:
        return None
    return {"cpu": f"{cores}n", "memory": f"{memory // 1024}Ki"}


def _metrics(kind: str, meta: Object, stamp: str, **content: Any) -> Object:
    window = f"{RESOLUTION_SECONDS:g}s"
    body = {"kind": kind, "apiVersion": API_VERSION, "metadata": {**meta, "creationTimestamp": stamp}}
    return {**body, "timestamp": stamp, "window": window, **content}


def node_metrics(collector: Collector) -> list[Object]:
    found = []
    for node in collector.nodes.list():
        name = node["metadata"]["name"]
        summary = collector.summaries.get(name)
        usage = usage_of(summary["node"]) if summary else None
        if usage is not None:
            assert summary is not None
            meta = {"name": name, "labels": node["metadata"].get("labels") or {}}
            found.append(_metrics("NodeMetrics", meta, summary["node"]["cpu"]["time"], usage=usage))
    return found


def pod_metrics(collector: Collector, labels_of: Any) -> list[Object]:
    """`labels_of(namespace, name)` is the labels of a pod, None for one that is gone."""
    found = []
    for summary in collector.summaries.values():
        for pod in summary.get("pods") or ():
            reference = pod["podRef"]
            labels = labels_of(reference["namespace"], reference["name"])
            containers = [
                {"name": c["name"], "usage": usage} for c in pod.get("containers") or () if (usage := usage_of(c))
            ]
            if labels is None or not containers:
                continue
            meta = {"name": reference["name"], "namespace": reference["namespace"], "labels": labels}
            stamp = pod["containers"][0]["cpu"]["time"]
            found.append(_metrics("PodMetrics", meta, stamp, containers=containers))
    return found


class ResourceMetrics:
    """Answers GET requests below `/apis/metrics.k8s.io`."""

    def __init__(self, collector: Collector, labels_of: Any) -> None:
        self._collector, self._labels_of = collector, labels_of

    def answer(self, path: str, query: dict[str, list[str]]) -> Page:
        if path in ("/healthz", "/livez", "/readyz"):
            return text(200, "ok")
        try:
            return Page(200, JSON, orjson.dumps(self._object(path, query)))
        except ApiError as error:
            return Page(error.code, JSON, orjson.dumps(error.status()))

    def _object(self, path: str, query: dict[str, list[str]]) -> Object:
        if path.rstrip("/") == ROOT:
            return RESOURCES
        parts = path.removeprefix(ROOT + "/").split("/") if path.startswith(ROOT + "/") else []
        selector = _selector(query)
        match parts:
            case ["nodes"]:
                return _list("NodeMetrics", node_metrics(self._collector), selector)
            case ["nodes", name]:
                return _one(node_metrics(self._collector), "nodes", name)
            case ["pods"]:
                return _list("PodMetrics", self._pods(), selector)
            case ["namespaces", namespace, "pods"]:
                return _list("PodMetrics", self._pods(namespace), selector)
            case ["namespaces", namespace, "pods", name]:
                return _one(self._pods(namespace), "pods", name)
        raise ApiError(404, "NotFound", "the server could not find the requested resource", details={})

    def _pods(self, namespace: str = "") -> list[Object]:
        every = pod_metrics(self._collector, self._labels_of)
        return [p for p in every if not namespace or p["metadata"]["namespace"] == namespace]


def _selector(query: dict[str, list[str]]) -> Selector:
    try:
        return parse_label_selector(query.get("labelSelector", [""])[0])
    except SelectorError as error:
        raise bad_request(str(error)) from error


def _list(kind: str, items: Iterable[Object], selector: Selector) -> Object:
    chosen = [i for i in items if selector.matches(i["metadata"].get("labels"))]
    return {"kind": f"{kind}List", "apiVersion": API_VERSION, "metadata": {}, "items": chosen}


def _one(items: Iterable[Object], resource: str, name: str) -> Object:
    for item in items:
        if item["metadata"]["name"] == name:
            return item
    raise not_found(resource, name, GROUP)
