"""The three metrics APIs: resource (metrics.k8s.io), custom and external. Values in thousandths."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from peavine.api.core.podstate import unix_time
from peavine.client import Client
from peavine.controllers.horizontal_pod_autoscaler.replicas import NoMetrics, Sample
from peavine.machinery.duration import parse_duration
from peavine.machinery.errors import ApiError
from peavine.machinery.quantity import parse_quantity
from peavine.machinery.selectors import selector_of

Object = dict[str, Any]


class Metrics:
    def __init__(self, client: Client) -> None:
        self.client = client

    async def of_resource(self, namespace: str, selector: str, resource: str, container: str = "") -> dict[str, Sample]:
        """By pod. Raises NoMetrics where the API has none."""
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"
        found = await self._get(path, {"labelSelector": selector}, "unable to fetch metrics from resource metrics API")
        samples: dict[str, Sample] = {}
        for entry in found.get("items") or []:
            total, complete = 0, True
            for part in entry.get("containers") or []:
                if container and part["name"] != container:
                    continue
                usage = (part.get("usage") or {}).get(resource)
                if usage is None:
                    complete = False
                    break
                total += parse_quantity(usage).milli()
            if complete and (entry.get("containers") or not container):
                moment = unix_time(entry.get("timestamp")) or 0.0
                samples[entry["metadata"]["name"]] = Sample(total, moment, _window(entry.get("window")))
        if not samples:
            raise NoMetrics("no metrics returned from resource metrics API")
        return samples

    async def of_pods(self, namespace: str, selector: str, metric: Object) -> dict[str, Sample]:
        path = f"/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/*/{quote(metric['name'])}"
        query = {"labelSelector": selector, **_metric_selector(metric, "metricLabelSelector")}
        found = await self._get(path, query, "unable to fetch metrics from custom metrics API")
        return {
            entry["describedObject"]["name"]: Sample(
                parse_quantity(entry["value"]).milli(), unix_time(entry.get("timestamp")) or 0.0
            )
            for entry in found.get("items") or []
        }

    async def of_object(self, namespace: str, resource: str, name: str, metric: Object, namespaced: bool) -> int:
        where = f"namespaces/{namespace}/{resource}" if namespaced else resource
        path = f"/apis/custom.metrics.k8s.io/v1beta2/{where}/{name}/{quote(metric['name'])}"
        query = _metric_selector(metric, "metricLabelSelector")
        found = await self._get(path, query, "unable to fetch metrics from custom metrics API")
        items = found.get("items") or []
        if not items:
            raise NoMetrics("unable to fetch metrics from custom metrics API: no metrics returned")
        return parse_quantity(items[0]["value"]).milli()

    async def external(self, namespace: str, metric: Object) -> int:
        """The sum over all series that match."""
        path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{quote(metric['name'])}"
        query = _metric_selector(metric, "labelSelector")
        found = await self._get(path, query, "unable to fetch metrics from external metrics API")
        items = found.get("items") or []
        if not items:
            raise NoMetrics("unable to fetch metrics from external metrics API: no metrics returned")
        return sum(parse_quantity(entry["value"]).milli() for entry in items)

    async def _get(self, path: str, query: dict[str, str], failure: str) -> Object:
        try:
            return await self.client.json("GET", path, query={k: v for k, v in query.items() if v})
        except ApiError as error:
            absent = error.code == 404 and not error.reason
            message = f"the server could not find the requested resource (get {path})" if absent else error.message
            raise NoMetrics(f"{failure}: {message.strip()}") from error


def _metric_selector(metric: Object, name: str) -> dict[str, str]:
    selector = metric.get("selector")
    return {name: str(selector_of(selector))} if selector else {}


def _window(text: str | None) -> float:
    try:
        return parse_duration(text) if text else 60.0
    except ValueError:
        return 60.0
