"""Scenario files and lost nodes."""

import asyncio

import pytest

from peavine.testing import AsyncCluster
from peavine.testing.kwok import parse_stages
from peavine.testing.stages import load_scenario
from tests.controllers.conftest import eventually, workload

STAGES = """
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
    - {key: .status.podIP, operator: DoesNotExist}
  delay: {durationMilliseconds: 1000, jitterDurationMilliseconds: 2000}
  next:
    event: {type: Normal, reason: Played, message: a pod is ready}
    finalizers: {add: [{value: example.org/kept}]}
    statusTemplate: |
      {{ $now := Now }}
      phase: Running
      startTime: {{ $now | Quote }}
      hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
      {{ $host := or .spec.hostNetwork false }}
      podIP: {{ PodIPWith .spec.nodeName $host .metadata.uid .metadata.name .metadata.namespace | Quote }}
      conditions:
      - {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
      containerStatuses:
      {{ range .spec.containers }}
      - image: {{ .image | Quote }}
        name: {{ .name | Quote }}
        ready: true
        restartCount: 0
        state: {running: {startedAt: {{ $now | Quote }}}}
      {{ end }}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-crash}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchLabels: {fate: crash}
    matchExpressions:
    - {key: '.status.containerStatuses.[].state.running', operator: Exists}
  delay:
    durationFrom: {expressionFrom: '.metadata.annotations["crash-after"]'}
  next:
    statusTemplate: |
      phase: Failed
      containerStatuses:
      - name: main
        image: work
        imageID: ""
        ready: false
        restartCount: 0
        state: {terminated: {exitCode: 3}}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-delete}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: .metadata.deletionTimestamp, operator: Exists}
  next:
    finalizers: {empty: true}
    delete: true
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
    - {key: '.status.conditions.[] | select( .type == "Ready" ) | .status', operator: NotIn, values: ["True"]}
    - {key: '.metadata.labels["fate"]', operator: NotIn, values: [lost]}
  next:
    statusTemplate: |
      conditions:
      {{ YAML NodeConditions }}
      allocatable: {cpu: 8, memory: 8Gi, pods: 110}
      capacity: {cpu: 8, memory: 8Gi, pods: 110}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: node-loss}
spec:
  resourceRef: {apiGroup: v1, kind: Node}
  selector:
    matchExpressions:
    - {key: '.metadata.labels["fate"]', operator: In, values: [lost]}
    - {key: '.status.conditions.[] | select( .type == "Ready" ) | .status', operator: In, values: ["True"]}
  next:
    patches:
    - subresource: status
      type: strategic
      template: |
        status:
          conditions:
          - {type: Ready, status: "False", reason: Played, message: lost}
"""


def test_a_scenario_is_scripts_or_stages_and_nothing_else(tmp_path):
    file = tmp_path / "scenario.yaml"
    file.write_text("- {match: {pod: a}, script: {run-for: 1}}")
    assert load_scenario(file) == ([{"match": {"pod": "a"}, "script": {"run-for": 1}}], [])
    file.write_text(STAGES)
    assert load_scenario(file).stages[0]["metadata"]["name"] == "pod-ready"
    file.write_text("kind: Pod")
    with pytest.raises(ValueError, match="kind Stage"):
        load_scenario(file)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"resourceRef": {"kind": "Service"}}, "a Stage of Service is not implemented"),
        ({"resourceRef": {"kind": "Pod"}, "next": {"exec": {}}}, "next.exec is not implemented"),
        ({"resourceRef": {"kind": "Pod"}, "selector": {"matchExpressions": [{"key": ".a", "operator": "Gt"}]}}, "Gt"),
        (
            {"resourceRef": {"kind": "Pod"}, "selector": {"matchExpressions": [{"key": "(", "operator": "Exists"}]}},
            "Stage s: \\(:",
        ),
    ],
)
def test_what_a_stage_asks_beyond_is_refused_by_name(spec, why):
    pytest.importorskip("jq")
    with pytest.raises(ValueError, match=why):
        parse_stages([{"metadata": {"name": "s"}, "spec": spec}])


def test_stages_are_drawn_by_weight():
    pytest.importorskip("jq")
    ref = {"kind": "Pod"}
    by_number = {"expressionFrom": '.metadata.annotations["weight"]'}
    spec = {"resourceRef": ref, "weight": 3, "weightFrom": by_number}
    (stage,) = parse_stages([{"metadata": {"name": "s"}, "spec": spec}])
    assert stage.weight({"metadata": {}}) == 3 and stage.weight({"metadata": {"annotations": {"weight": "7"}}}) == 7


@pytest.mark.slow
def test_nodes_and_pods_live_by_the_stages_of_kwok(tmp_path):
    pytest.importorskip("jq")
    file = tmp_path / "stages.yaml"
    file.write_text(STAGES)

    async def main():
        async with AsyncCluster(stages=file, nodes=2) as cluster:
            await cluster.create_namespace("scenario")
            pods, nodes = (cluster.client.resource("v1", plural) for plural in ("pods", "nodes"))
            meta = {"name": "p", "labels": {"fate": "crash"}, "annotations": {"crash-after": "1h"}}
            spec = {"containers": [{"name": "main", "image": "work"}]}
            await pods.create({"metadata": meta, "spec": spec}, "scenario")

            async def reaches(phase):
                return (await pods.get("p", "scenario"))["status"].get("phase") == phase

            await eventually(lambda: reaches("Running"), 60)
            pod = await pods.get("p", "scenario")
            assert pod["metadata"]["finalizers"] == ["example.org/kept"]
            assert pod["status"]["podIP"].startswith("10.1.") and pod["spec"]["nodeName"].startswith("node-")
            await cluster.advance(3700)
            await eventually(lambda: reaches("Failed"), 60)
            await pods.delete("p", "scenario")

            async def gone():
                return not (await pods.list("scenario"))["items"]

            await eventually(gone, 20)
            await nodes.patch("node-1", {"metadata": {"labels": {"fate": "lost"}}})

            async def lost():
                status = (await nodes.get("node-1"))["status"]
                return [c["message"] for c in status["conditions"] if c["type"] == "Ready"] == ["lost"]

            await eventually(lost, 20)

    asyncio.run(main())


@pytest.mark.slow
def test_pods_crash_as_a_script_says():
    script = {"match": {"labels": {"fate": "crash"}, "container": "main"}, "script": {"run-for": 2, "exit-code": 3}}

    async def main():
        async with AsyncCluster(stages=[script]) as cluster:
            await cluster.create_namespace("scenario")
            pods = cluster.client.resource("v1", "pods")
            meta = {"name": "p", "labels": {"fate": "crash"}}
            spec = {"containers": [{"name": "main", "image": "work"}]}
            await pods.create({"metadata": meta, "spec": spec}, "scenario")
            await cluster.advance(120)
            (status,) = (await pods.get("p", "scenario"))["status"]["containerStatuses"]
            assert status["restartCount"] >= 3
            assert status["lastState"]["terminated"]["exitCode"] == 3

    asyncio.run(main())


@pytest.mark.slow
def test_pods_of_a_lost_node_move_to_another():
    async def main():
        async with AsyncCluster(nodes=2) as cluster:
            await cluster.client.resource("apps/v1", "deployments").create(workload(replicas=4))
            pods = cluster.client.resource("v1", "pods")

            async def running(wanted):
                found = (await pods.list("default"))["items"]
                alive = [p for p in found if "deletionTimestamp" not in p["metadata"]]
                ready = {p["spec"].get("nodeName") for p in alive if p["status"]["phase"] == "Running"}
                return len(alive) == 4 and ready == wanted

            await eventually(lambda: running({"node-0", "node-1"}), 30)
            cluster.lose_node("node-1")
            await cluster.advance(120)
            node = await cluster.client.resource("v1", "nodes").get("node-1")
            assert [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"] == ["Unknown"]
            await cluster.advance(400)  # pods tolerate it for 300 seconds
            await eventually(lambda: running({"node-0"}), 30)
            left = [p for p in (await pods.list("default"))["items"] if p["spec"]["nodeName"] == "node-1"]
            assert left and all("deletionTimestamp" in p["metadata"] for p in left), "nobody can say that they ended"
            cluster.return_node("node-1")

            async def back():
                await cluster.advance(20)
                node = await cluster.client.resource("v1", "nodes").get("node-1")
                return [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"] == ["True"]

            await eventually(back, 30)

    asyncio.run(main())
