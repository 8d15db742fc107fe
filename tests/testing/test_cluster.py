"""The cluster inside a process, used as its users do."""

import asyncio

import pytest

from peavine.testing import AsyncCluster, Cluster
from tests.controllers.conftest import eventually, workload


@pytest.mark.slow
def test_a_deployment_runs_on_simulated_nodes():
    async def main():
        async with AsyncCluster(nodes=3) as cluster:
            deployments = cluster.client.resource("apps/v1", "deployments")
            await deployments.create(workload(replicas=6))

            async def available():
                return ((await deployments.get("web", "default")).get("status") or {}).get("availableReplicas") == 6

            await eventually(available, 20)
            pods = (await cluster.client.resource("v1", "pods").list("default"))["items"]
            assert {p["spec"]["nodeName"] for p in pods} == {"node-0", "node-1", "node-2"}

    asyncio.run(main())


@pytest.mark.slow
def test_the_python_client_works_unchanged():
    kubernetes = pytest.importorskip("kubernetes")
    with Cluster(controllers=False, scheduler=False, nodes=0) as cluster:
        api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(cluster.kubeconfig)))
        body = kubernetes.client.V1ConfigMap(
            metadata=kubernetes.client.V1ObjectMeta(name="settings"), data={"color": "green"}
        )
        api.create_namespaced_config_map("default", body)
        assert api.read_namespaced_config_map("settings", "default").data == {"color": "green"}
        events = kubernetes.watch.Watch().stream(api.list_namespaced_config_map, "default", timeout_seconds=1)
        assert [e["object"].metadata.name for e in events if e["type"] == "ADDED"] == ["settings"]
