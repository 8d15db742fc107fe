"""The loop: look at the target's scale, ask every metric, take the largest wish, limit it, write the scale."""

from __future__ import annotations

from typing import Any

from peavine.api.catalogue import CATALOGUE
from peavine.api.conditions import is_true, set_condition
from peavine.api.core.resources import container_requests, is_sidecar, pod_requests
from peavine.client.discovery import served_resources
from peavine.controllers.controller import Context, Controller, Key, Object
from peavine.controllers.horizontal_pod_autoscaler.behavior import DOWNSCALE_SECONDS, History, decide, remember
from peavine.controllers.horizontal_pod_autoscaler.metrics import Metrics
from peavine.controllers.horizontal_pod_autoscaler.replicas import (
    TOLERANCE,
    NoMetrics,
    Tolerance,
    by_average,
    by_utilization,
    by_value,
    by_value_per_pod,
    group,
)
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now
from peavine.machinery.names import GVR
from peavine.machinery.quantity import Quantity, parse_quantity
from peavine.machinery.selectors import SelectorError, parse_label_selector

API = "autoscaling/v2"
SYNC_SECONDS = 15.0
CONFLICT_SECONDS = 0.5


class HorizontalPodAutoscalerController(Controller):
    name = "horizontal-pod-autoscaler-controller"
    account = "horizontal-pod-autoscaler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.autoscalers = self.watch(API, "horizontalpodautoscalers", keys=self._key)
        self.pods = self.read("v1", "pods")
        self.resource = self.client.resource(API, "horizontalpodautoscalers")
        self.metrics = Metrics(self.client)
        options = context.options
        self.period: float = options.get("horizontal_pod_autoscaler_sync_period", SYNC_SECONDS)
        self.tolerance: float = options.get("horizontal_pod_autoscaler_tolerance", TOLERANCE)
        self.downscale_seconds: float = options.get(
            "horizontal_pod_autoscaler_downscale_stabilization", DOWNSCALE_SECONDS
        )
        self._history: dict[Key, History] = {}
        self._seen: dict[Key, Any] = {}

    def _key(self, obj: Object) -> list[Key]:
        """Only what a person changed is looked at before its time: the status is our own writing."""
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        if self._seen.get(key) == obj["spec"]:
            return []
        self._seen[key] = obj["spec"]
        return [key]

    async def reconcile(self, key: Key) -> float | None:
        autoscaler = self.autoscalers.get(*key)
        if autoscaler is None:
            self._history.pop(key, None)
            self._seen.pop(key, None)
            return None
        conflict = await _Round(self, autoscaler, self._history.setdefault(key, History())).run()
        return CONFLICT_SECONDS if conflict else self.period

    async def served(self, reference: Object) -> tuple[GVR, bool] | None:
        """(resource, whether it is namespaced) of a kind; custom ones by discovery."""
        group_ = (reference.get("apiVersion") or "").rpartition("/")[0]
        for kind in CATALOGUE.kinds():
            if (kind.group, kind.kind) == (group_, reference["kind"]):
                return kind.gvr, kind.namespaced
        for served in await served_resources(self.client):
            if (served.gvr.group, served.kind) == (group_, reference["kind"]):
                return served.gvr, served.namespaced
        return None


class _Round:
    """One look at one autoscaler."""

    def __init__(self, controller: HorizontalPodAutoscalerController, autoscaler: Object, history: History) -> None:
        self.controller, self.history = controller, history
        self.autoscaler = {**autoscaler, "apiVersion": API, "kind": "HorizontalPodAutoscaler"}
        self.spec = autoscaler["spec"]
        self.namespace = autoscaler["metadata"]["namespace"]
        self.before = autoscaler.get("status") or {}
        self.status: Object = {
            **self.before,
            "conditions": [dict(c) for c in self.before.get("conditions") or []],
            "observedGeneration": autoscaler["metadata"].get("generation", 0),
        }
        self.time = controller.clock.time()

    async def run(self) -> bool:
        """Returns whether the target changed under our hands, and is to be looked at again soon."""
        reference = self.spec["scaleTargetRef"]
        try:
            served = await self.controller.served(reference)
            if served is None:
                raise ApiError(404, "NotFound", f'no matches for kind "{reference["kind"]}"')
            target = self.controller.client.resource(served[0].api_version, served[0].resource)
            scale = await target.get(reference["name"], self.namespace, subresource="scale")
        except ApiError as error:
            self._event("Warning", "FailedGetScale", error.message)
            message = f"the HPA controller was unable to get the target's current scale: {error.message}"
            self._condition("AbleToScale", False, "FailedGetScale", message)
            await self._write()
            return False
        message = "the HPA controller was able to get the target's current scale"
        self._condition("AbleToScale", True, "SucceededGetScale", message)
        current = (scale.get("spec") or {}).get("replicas", 0)
        self.status["currentReplicas"] = (scale.get("status") or {}).get("replicas", 0)
        wish = await self._wish(scale, current)
        if wish is None:
            await self._write()
            return False
        if wish != current:
            scale["spec"] = {**(scale.get("spec") or {}), "replicas": wish}
            try:
                await target.update(scale, subresource="scale")
            except ApiError as error:
                self._event("Warning", "FailedRescale", f"New size: {wish}; error: {error.message}")
                message = f"the HPA controller was unable to update the target scale: {error.message}"
                self._condition("AbleToScale", False, "FailedUpdateScale", message)
                await self._write()
                return error.code == 409
            why = "All metrics below target" if wish < current else "above target"
            self._event("Normal", "SuccessfulRescale", f"New size: {wish}; reason: {why}")
            message = f"the HPA controller was able to update the target scale to {wish}"
            self._condition("AbleToScale", True, "SucceededRescale", message)
            if wish == 0:
                message = "the HPA controller scaled the workload to zero"
                self._condition("ScaledToZero", True, "ScaledToZero", message)
            elif current == 0:
                message = "the HPA controller scaled the workload from zero"
                self._condition("ScaledToZero", False, "ScaledFromZero", message)
            remember(self.history, self.spec, current, wish, self.time)
            self.status["lastScaleTime"] = now(self.time)
        self.status["desiredReplicas"] = wish
        await self._write()
        return False

    async def _wish(self, scale: Object, current: int) -> int | None:
        """The replicas to set, or None where nothing can be said."""
        least, most = self.spec.get("minReplicas", 1), self.spec["maxReplicas"]
        if current == 0 and not (least == 0 and is_true(self.autoscaler, "ScaledToZero")):
            # A person set it to zero; what this controller itself scaled down is remembered in a condition.
            message = "scaling is disabled since the replica count of the target is zero"
            self._condition("ScalingActive", False, "ScalingDisabled", message)
            self.status["desiredReplicas"] = 0
            return None
        if current > most:
            self._condition(
                "ScalingLimited", True, "TooManyReplicas", "Current number of replicas above Spec.MaxReplicas"
            )
            return most  # type: ignore[no-any-return]
        if current < least:
            self._condition(
                "ScalingLimited", True, "TooFewReplicas", "Current number of replicas below Spec.MinReplicas"
            )
            return least  # type: ignore[no-any-return]
        text = (scale.get("status") or {}).get("selector") or ""
        if not text:
            message = "the HPA target's scale is missing a selector"
            self._event("Warning", "SelectorRequired", "selector is required")
            self._condition("ScalingActive", False, "InvalidSelector", message)
            return None
        wish, seen, failures = await self._ask_all(text, current, (scale.get("status") or {}).get("replicas", 0))
        self.status["currentMetrics"] = [entry or {"type": ""} for entry in seen]
        if wish is None or (failures and wish < current):
            reason, message = failures[0]
            self._event("Warning", reason, message)
            self._condition(
                "ScalingActive", False, reason, f"the HPA was unable to compute the replica count: {message}"
            )
            count = f"invalid metrics ({len(failures)} invalid out of {len(seen)}), first error is: {message}"
            self._event("Warning", "FailedComputeMetricsReplicas", count)
            self.status["desiredReplicas"] = current
            return None
        message = "the HPA was able to successfully calculate a replica count from the metrics"
        self._condition("ScalingActive", True, "ValidMetricFound", message)
        verdict = decide(
            self.spec, current, wish, self.history, self.time, downscale_seconds=self.controller.downscale_seconds
        )
        self._condition("AbleToScale", True, *verdict.able)
        self._condition("ScalingLimited", *verdict.limited)
        return verdict.replicas

    async def _ask_all(
        self, selector: str, current: int, status_replicas: int
    ) -> tuple[int | None, list[Object | None], list[tuple[str, str]]]:
        try:
            matcher = parse_label_selector(selector)
        except SelectorError as error:
            return None, [], [("InvalidSelector", str(error))]
        pods = [
            pod
            for pod in self.controller.pods.list(self.namespace)
            if matcher.matches(pod["metadata"].get("labels") or {})
        ]
        wish: int | None = None
        seen: list[Object | None] = []
        failures: list[tuple[str, str]] = []
        for metric in self.spec.get("metrics") or []:
            try:
                replicas, status = await self._ask(metric, selector, pods, current, status_replicas)
            except NoMetrics as error:
                failures.append((f"FailedGet{metric['type']}Metric", str(error)))
                seen.append(None)
                continue
            seen.append(status)
            wish = replicas if wish is None else max(wish, replicas)
        return wish, seen, failures

    def _tolerance(self) -> Tolerance:
        def own(part: str) -> float:
            value = ((self.spec.get("behavior") or {}).get(part) or {}).get("tolerance")
            return self.controller.tolerance if value is None else parse_quantity(value).milli() / 1000

        return Tolerance(own("scaleUp"), own("scaleDown"))

    async def _ask(
        self, metric: Object, selector: str, pods: list[Object], current: int, status_replicas: int
    ) -> tuple[int, Object]:
        """(replicas, entry of status.currentMetrics) for one metric. Raises NoMetrics."""
        type, tolerance, ask = metric["type"], self._tolerance(), self.controller.metrics
        part = type[0].lower() + type[1:]
        source = metric[part]
        target = source["target"]
        if type in ("Resource", "ContainerResource"):
            resource, container = source["name"], source.get("container", "")
            samples = await ask.of_resource(self.namespace, selector, resource, container)
            groups = group(pods, samples, resource, self.time)
            about = {k: source[k] for k in ("name", "container") if k in source}
            if target.get("averageUtilization") is not None:
                wanted = _requests(pods, resource, container)
                replicas, percent, average = by_utilization(
                    current, target["averageUtilization"], samples, wanted, groups, tolerance
                )
                now_ = {"averageUtilization": percent, "averageValue": _shown(average, resource)}
                return replicas, {"type": type, part: {**about, "current": now_}}
            replicas, average = by_average(current, _milli(target["averageValue"]), samples, groups, tolerance)
            return replicas, {"type": type, part: {**about, "current": {"averageValue": _shown(average, resource)}}}
        if type == "Pods":
            samples = await ask.of_pods(self.namespace, selector, source["metric"])
            groups = group(pods, samples, "", self.time)
            replicas, average = by_average(current, _milli(target["averageValue"]), samples, groups, tolerance)
            current_ = {"averageValue": _shown(average)}
            return replicas, {"type": type, part: {"metric": source["metric"], "current": current_}}
        ready = sum(_is_ready(pod) for pod in pods)
        if type == "Object":
            about_object = source["describedObject"]
            served = await self.controller.served(about_object)
            if served is None:
                raise NoMetrics(f"no matches for kind {about_object['kind']}")
            gvr, namespaced = served
            value = await ask.of_object(
                self.namespace, gvr.group_resource, about_object["name"], source["metric"], namespaced
            )
            about = {"metric": source["metric"], "describedObject": about_object}
        else:
            value = await ask.external(self.namespace, source["metric"])
            about = {"metric": source["metric"]}
        if target.get("averageValue") is not None:
            per_pod = _milli(target["averageValue"])
            replicas = by_value_per_pod(status_replicas, per_pod, value, tolerance)
            shown = {"averageValue": _shown(value // max(1, status_replicas))}
        else:
            replicas = by_value(current, _milli(target["value"]), value, ready, tolerance)
            shown = {"value": _shown(value)}
        return replicas, {"type": type, part: {**about, "current": shown}}

    # Writing

    def _condition(self, type: str, value: bool, reason: str, message: str) -> None:
        set_condition(self.status, type, "True" if value else "False", reason, message, now(self.time))
        entry = next(c for c in self.status["conditions"] if c["type"] == type)
        entry["observedGeneration"] = self.status["observedGeneration"]

    def _event(self, type: str, reason: str, message: str) -> None:
        self.controller.recorder.event(self.autoscaler, type, reason, message)

    async def _write(self) -> None:
        self.status.setdefault("desiredReplicas", 0)
        if self.status != self.before:
            await self.controller.resource.update({**self.autoscaler, "status": self.status}, subresource="status")


def _milli(value: Any) -> int:
    return parse_quantity(value).milli()


def _shown(milli: int, resource: str = "") -> str:
    if resource and resource != "cpu":
        return str(Quantity.of(milli // 1000))
    return str(Quantity.of_milli(milli))


def _is_ready(pod: Object) -> bool:
    from peavine.api.core.podstate import is_active, is_ready

    return is_active(pod) and is_ready(pod)


def _requests(pods: list[Object], resource: str, container: str) -> dict[str, int]:
    """What each pod asks for of a resource, in thousandths. Raises NoMetrics where one does not say."""
    wanted: dict[str, int] = {}
    for pod in pods:
        name, spec = pod["metadata"]["name"], pod["spec"]
        if not container and (spec.get("resources") or {}).get("requests", {}).get(resource) is not None:
            wanted[name] = pod_requests(pod)[resource].milli()
            continue
        total, running = 0, [*spec["containers"], *(c for c in spec.get("initContainers") or [] if is_sidecar(c))]
        for own in running:
            if container and own["name"] != container:
                continue
            asked = container_requests(own).get(resource)
            if asked is None:
                raise NoMetrics(f"missing request for {resource} in container {own['name']} of Pod {name}")
            total += asked.milli()
        wanted[name] = total
    return wanted
