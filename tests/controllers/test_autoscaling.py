"""Autoscalers on simulated nodes, with all the metrics APIs behind the aggregation layer."""

import contextlib
import json
import re

import pytest

from peavine.apiserver.http import HttpServer, Response
from peavine.apiserver.http.tls import server_context
from peavine.base.lifetimes import scope
from peavine.machinery.meta import now as stamp
from tests.controllers.conftest import World, on_cluster, workload

pytestmark = pytest.mark.slow

APIS = {"metrics.k8s.io": "v1beta1", "custom.metrics.k8s.io": "v1beta2", "external.metrics.k8s.io": "v1beta1"}


@pytest.fixture(scope="module")
def world():
    """Autoscalers look five times a second, and three seconds back."""
    quick = {"sync_period": 0.2, "downscale_stabilization": 3.0}
    options = {f"horizontal_pod_autoscaler_{name}": seconds for name, seconds in quick.items()}
    shared = World(controller_options=options)
    yield shared
    shared.stop()


class Load:
    """What the metrics server of a test says: per pod, of objects, and outside of the cluster."""

    def __init__(self, case):
        self.case, self.cpu, self.sidecar_cpu, self.of_pods, self.of_service, self.outside = case, {}, "0", {}, "0", []
        self.asked = []

    async def answer(self, exchange):
        path = exchange.info.path
        self.asked.append((path, dict(exchange.info.query)))
        if re.fullmatch(r"/apis/[^/]+/[^/]+", path):
            group_version = path.removeprefix("/apis/")
            return _json(
                {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": []}
            )
        # A moment ahead: what a pod uses while it starts does not count.
        when = stamp(self.case.cluster._clock.time() + 60)
        if path.startswith("/apis/metrics.k8s.io/"):
            items = [
                {
                    "metadata": {"name": pod["metadata"]["name"]},
                    "timestamp": when,
                    "window": "1s",
                    "containers": [
                        {"name": "main", "usage": {"cpu": self.cpu}},
                        {"name": "side", "usage": {"cpu": self.sidecar_cpu}},
                    ],
                }
                for pod in await self.case.pods("app=web")
            ]
            return _json({"kind": "PodMetricsList", "items": items})
        if "/pods/*/" in path:
            pods = await self.case.pods("app=web")
            items = [{"describedObject": {"name": p["metadata"]["name"]}, "value": self.of_pods} for p in pods]
        elif "/services/" in path:
            items = [{"describedObject": {"name": "web"}, "value": self.of_service}]
        else:
            items = [{"metricName": "queue", "value": value} for value in self.outside]
        return _json({"kind": "MetricValueList", "items": [{**item, "timestamp": when} for item in items]})


def _json(document):
    return Response(200, json.dumps(document).encode())


@contextlib.asynccontextmanager
async def metrics(c):
    load = Load(c)
    pki = c.cluster.pki
    server = HttpServer(load.answer, tls=server_context(str(pki.cert("apiserver")), str(pki.key("apiserver"))))
    registry = c.client.resource("apiregistration.k8s.io/v1", "apiservices")
    spec = {"type": "ExternalName", "externalName": "localhost"}
    await c.create({"kind": "Service", "metadata": {"name": "metrics"}, "spec": spec})
    async with scope() as tasks:
        port = await server.listen("127.0.0.1", 0, tasks)
        for group, version in APIS.items():
            service = {"namespace": c.namespace, "name": "metrics", "port": port}
            body = {"group": group, "version": version, "service": service, "insecureSkipTLSVerify": True}
            body |= {"groupPriorityMinimum": 100, "versionPriority": 100}
            await registry.create({"metadata": {"name": f"{version}.{group}"}, "spec": body})

        async def available(name):
            conditions = ((await registry.get(name)).get("status") or {}).get("conditions") or ()
            return any(x["type"] == "Available" and x["status"] == "True" for x in conditions)

        try:
            for group, version in APIS.items():
                await c.until(lambda name=f"{version}.{group}": available(name))
            yield load
        finally:
            for group, version in APIS.items():
                await registry.delete(f"{version}.{group}")
            server.stop_listening()
            await server.drain(0.1)
            tasks.cancel()


async def deploy(c, replicas=2):
    body = workload(replicas=replicas)
    requests = {"resources": {"requests": {"cpu": "100m"}}}
    body["spec"]["template"]["spec"]["containers"] = [
        {"name": "main", "image": "web:1", **requests},
        {"name": "side", "image": "side:1", **requests},
    ]
    await c.create(body)
    await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == replicas)


def autoscaler(*found, most=10, least=1, **behavior):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most, "metrics": list(found)}
    if behavior:
        spec["behavior"] = behavior
    return {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"}, "spec": spec}


def cpu(percent):
    return {"type": "Resource", "resource": {"name": "cpu", "target": _utilization(percent)}}


def _utilization(percent):
    return {"type": "Utilization", "averageUtilization": percent}


async def replicas_are(c, wanted):
    async def met():
        return (await c.get("Deployment", "web"))["spec"]["replicas"] == wanted

    await c.until(met, f"not {wanted} replicas")


async def settled_at(c, wanted):
    await replicas_are(c, wanted)
    await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == wanted)


async def until_reason(c, reason):
    def told(status):
        return reason in {x["reason"] for x in status.get("conditions") or ()}

    return await c.until_status("HorizontalPodAutoscaler", "web", told)


async def until_seen(c, percent):
    """Until the autoscaler has seen this utilization in two rounds."""
    for _ in range(2):
        c.recorded.forget()

        def seen(status):
            current = ((status.get("currentMetrics") or [{}])[0].get("resource") or {}).get("current") or {}
            return current.get("averageUtilization") == percent

        await c.until_status("HorizontalPodAutoscaler", "web", seen)
        await c.until(lambda: c.recorded.count(verb="get", resource="deployments", subresource="scale") > 1)


@on_cluster
async def test_load_grows_the_target_small_changes_do_not_and_it_shrinks_after_a_while(c):
    async with metrics(c) as load:
        load.cpu, load.sidecar_cpu = "160m", "0"
        await deploy(c)
        await c.create(autoscaler(cpu(50)))
        await replicas_are(c, 4)
        load.cpu = "105m"  # of 200m: within a tenth of the target
        await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == 4)
        assert "New size: 4" in (await c.until(lambda: c.messages("SuccessfulRescale")))[0]
        await until_seen(c, 52)
        await replicas_are(c, 4)
        load.cpu = "20m"
        await until_reason(c, "ScaleDownStabilized")
        await replicas_are(c, 1)


@on_cluster
async def test_one_containers_load_is_what_counts_where_it_is_named_and_behaviour_sets_the_pace(c):
    async with metrics(c) as load:
        load.cpu, load.sidecar_cpu = "10m", "100m"
        await deploy(c, replicas=2)
        one = {"type": "ContainerResource"}
        one["containerResource"] = {"name": "cpu", "container": "side", "target": _utilization(10)}
        slow = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}], "tolerance": "0.5"}
        await c.create(autoscaler(one, scaleUp=slow, scaleDown={"selectPolicy": "Disabled"}))
        await settled_at(c, 3)
        await until_reason(c, "ScaleUpLimit")
        load.sidecar_cpu = "1m"
        await until_reason(c, "ScaleDownLimit")
        await replicas_are(c, 3)


@on_cluster
async def test_the_largest_wish_of_custom_object_and_external_metrics_counts(c):
    async with metrics(c) as load:
        await deploy(c, replicas=2)
        load.of_pods, load.of_service, load.outside = "10", "30", ["7", "5"]
        selector = {"selector": {"matchLabels": {"verb": "GET"}}}
        per_pod = {"type": "Pods", "pods": {"metric": {"name": "requests", **selector}}}
        per_pod["pods"]["target"] = {"type": "AverageValue", "averageValue": "10"}
        of_object = {
            "type": "Object",
            "object": {"metric": {"name": "hits"}, "target": {"type": "Value", "value": "20"}},
        }
        of_object["object"]["describedObject"] = {"apiVersion": "v1", "kind": "Service", "name": "web"}
        outside = {"type": "External", "external": {"metric": {"name": "queue"}}}
        outside["external"]["target"] = {"type": "AverageValue", "averageValue": "3"}
        await c.create(autoscaler(per_pod, of_object, outside))
        await settled_at(c, 4)  # 2 for the pods, 3 for the object, 12 / 3 outside
        base = f"namespaces/{c.namespace}"
        asked = dict(load.asked)
        query = asked[f"/apis/custom.metrics.k8s.io/v1beta2/{base}/pods/*/requests"]
        assert query == {"labelSelector": ["app=web"], "metricLabelSelector": ["verb=GET"]}
        assert f"/apis/custom.metrics.k8s.io/v1beta2/{base}/services/web/hits" in asked
        assert f"/apis/external.metrics.k8s.io/v1beta1/{base}/queue" in asked
        kinds = [m["type"] for m in (await c.status("HorizontalPodAutoscaler", "web"))["currentMetrics"]]
        assert kinds == ["Pods", "Object", "External"]


@on_cluster
async def test_a_metric_that_cannot_be_had_is_told_and_nothing_is_scaled(c):
    await c.create(workload(replicas=2))
    await c.until_status("Deployment", "web", lambda s: s.get("readyReplicas") == 2)
    await c.create(autoscaler(cpu(50)))
    status = await c.until_status("HorizontalPodAutoscaler", "web", lambda s: s.get("conditions"))
    active = next(x for x in status["conditions"] if x["type"] == "ScalingActive")
    assert (active["status"], active["reason"]) == ("False", "FailedGetResourceMetric")
    assert await c.until(lambda: c.messages("FailedGetResourceMetric"))
    await replicas_are(c, 2)
