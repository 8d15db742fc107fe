import asyncio

from peavine.controllers.horizontal_pod_autoscaler.behavior import History, decide
from peavine.controllers.horizontal_pod_autoscaler.replicas import Sample, by_average, by_utilization, group
from tests.controllers.conftest import cluster, eventually, workload

NOW = 1_000_000.0


def pod(name, phase="Running", ready="True"):
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:10Z"}]
    status = {"phase": phase, "startTime": "1970-01-01T00:00:00Z", "conditions": conditions}
    return {"metadata": {"name": name}, "spec": {"containers": []}, "status": status}


def asked(pods, used, percent=50):
    metrics = {name: Sample(value, NOW) for name, value in used.items()}
    groups = group(pods, metrics, "cpu", NOW)
    requests = {p["metadata"]["name"]: 1000 for p in pods}
    return by_utilization(len(pods), percent, metrics, requests, groups)[0]


def test_load_above_the_target_asks_for_more_and_within_tolerance_for_the_same():
    pods = [pod("a"), pod("b")]
    assert asked(pods, {"a": 1000, "b": 1000}) == 4
    assert asked(pods, {"a": 540, "b": 520}) == 2
    assert asked(pods, {"a": 200, "b": 200}) == 1


def test_pods_without_metrics_neither_speed_up_growth_nor_turn_it_round():
    pods = [pod("a"), pod("b"), pod("c")]
    assert asked(pods, {"a": 1000, "b": 1000}) == 4
    assert asked(pods, {"a": 100, "b": 100}) == 3


def test_pods_that_start_are_not_counted_when_scaling_up():
    pods = [pod("a"), pod("b", phase="Pending")]
    metrics = {"a": Sample(900, NOW)}
    assert by_average(2, 300, metrics, group(pods, metrics, "", NOW))[0] == 3


def test_a_lower_wish_waits_for_the_stabilisation_window():
    spec, history = {"minReplicas": 1, "maxReplicas": 10}, History()
    assert decide(spec, 5, 8, history, NOW).replicas == 8
    later = decide(spec, 8, 2, history, NOW + 60)
    assert later.replicas == 8 and later.able[0] == "ScaleDownStabilized"
    assert decide(spec, 8, 2, history, NOW + 400).replicas == 2


def test_without_behaviour_replicas_at_most_double_and_never_pass_the_limits():
    spec = {"minReplicas": 2, "maxReplicas": 100}
    assert decide(spec, 10, 50, History(), NOW).limited[1] == "ScaleUpLimit"
    assert decide(spec, 10, 50, History(), NOW).replicas == 20
    assert decide({**spec, "maxReplicas": 15}, 10, 50, History(), NOW).replicas == 15
    assert decide(spec, 3, 1, History(), NOW).limited[1] == "TooFewReplicas"


def test_policies_limit_the_rate():
    policies = [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    down = {"policies": policies, "stabilizationWindowSeconds": 0, "selectPolicy": "Max"}
    spec = {"minReplicas": 1, "maxReplicas": 10, "behavior": {"scaleDown": down}}
    history = History(downs=[(NOW - 10, 1)])
    assert decide(spec, 5, 1, History(), NOW).replicas == 4
    assert decide(spec, 5, 1, history, NOW).replicas == 5


def test_an_autoscaler_without_metrics_says_so_and_keeps_within_its_limits():
    async def main():
        names = ("horizontal-pod-autoscaler-controller", "deployment-controller", "replicaset-controller")
        async with cluster(*names) as (client, _):
            await client.resource("apps/v1", "deployments").create(workload(replicas=1))
            spec = {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2,
                "maxReplicas": 3,
            }
            autoscalers = client.resource("autoscaling/v2", "horizontalpodautoscalers")
            meta = {"name": "web", "namespace": "default"}
            body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": spec}
            await autoscalers.create(body)

            async def grown():
                return (await client.resource("apps/v1", "deployments").get("web", "default"))["spec"]["replicas"] == 2

            await eventually(grown)
            status = (await autoscalers.get("web", "default"))["status"]
            assert status["desiredReplicas"] == 2
            conditions = {c["type"]: c["status"] for c in status["conditions"]}
            assert conditions["AbleToScale"] == "True" and conditions["ScalingLimited"] == "True"

    asyncio.run(main())
