"""Scenario files and lost nodes."""

import asyncio

import pytest

from peavine.testing import AsyncCluster
from peavine.testing.stages import from_stage, load_stages
from tests.controllers.conftest import eventually, workload

CRASH = """
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: crash
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
    - {key: '.metadata.labels["fate"]', operator: In, values: [crash]}
    - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
  delay: {durationMilliseconds: 2000}
  next:
    statusTemplate: |
      containerStatuses:
      - name: main
        state: {terminated: {exitCode: 3}}
"""


def test_a_stage_becomes_a_script_and_what_is_beyond_it_is_refused(tmp_path):
    file = tmp_path / "crash.yaml"
    file.write_text(CRASH)
    match = {"labels": {"fate": "crash"}, "container": "main"}
    assert load_stages(file) == [{"match": match, "script": {"run-for": 2.0, "exit-code": 3}}]
    file.write_text("- {match: {pod: a}, script: {run-for: 1}}")
    assert load_stages(file) == [{"match": {"pod": "a"}, "script": {"run-for": 1}}]
    file.write_text(CRASH.replace("exitCode: 3", "exitCode: {{ .code }}"))
    with pytest.raises(ValueError, match="Stage crash: a Go template is not implemented"):
        load_stages(file)
    with pytest.raises(ValueError, match="a Stage of Node"):
        from_stage({"metadata": {"name": "n"}, "spec": {"resourceRef": {"kind": "Node"}}})
    file.write_text("kind: Pod")
    with pytest.raises(ValueError, match="kind Stage"):
        load_stages(file)


@pytest.mark.slow
def test_pods_crash_as_the_scenario_says(tmp_path):
    file = tmp_path / "crash.yaml"
    file.write_text(CRASH)

    async def main():
        async with AsyncCluster(stages=file) as cluster:
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
