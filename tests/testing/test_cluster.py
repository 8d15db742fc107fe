"""The cluster inside a process, used as its users do."""

import asyncio

import pytest

from peavine.machinery.errors import ApiError
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


@pytest.mark.slow
def test_logs_of_simulated_pods_are_read_through_the_api_server():
    async def main():
        async with AsyncCluster(controllers=["serviceaccount-controller"]) as cluster:
            await cluster.create_namespace("talk")
            meta = {"name": "p", "annotations": {"simulated.peavine.io/logs": "hello from nowhere"}}
            spec = {"containers": [{"name": "main", "image": "work"}], "tolerations": [{"operator": "Exists"}]}
            await cluster.client.resource("v1", "pods").create({"metadata": meta, "spec": spec}, "talk")

            async def logged():
                try:
                    answer = await cluster.client.raw("GET", "/api/v1/namespaces/talk/pods/p/log")
                except ApiError as error:
                    assert error.code == 400, error  # the container is waiting to start
                    return False
                return await answer.read() == b"hello from nowhere\n"

            await eventually(logged, 30)

    asyncio.run(main())


def test_a_reset_brings_back_what_was_and_takes_away_what_was_not():
    async def main():
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster:
            maps = cluster.client.resource("v1", "configmaps")
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "1"}}
            await maps.create(body, "default")
            before = await cluster.snapshot()
            await maps.patch("kept", {"data": {"a": "2"}}, "default")
            await maps.create({**body, "metadata": {"name": "new"}}, "default")
            await cluster.reset(before)
            names = {m["metadata"]["name"]: m.get("data") for m in (await maps.list("default"))["items"]}
            assert names.get("kept") == {"a": "1"} and "new" not in names

    asyncio.run(main())


def test_faults_strike_by_rule_and_requests_are_counted():
    async def main():
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster:
            maps = cluster.client.resource("v1", "configmaps")
            cluster.requests.fail(verb="create", resource="configmaps", times=1)
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
            with pytest.raises(ApiError, match="injected"):
                await maps.create(body, "default")
            await maps.create(body, "default")
            assert cluster.requests.count(verb="create", resource="configmaps", user="kubernetes-admin") == 2
            with pytest.raises(TypeError):
                cluster.requests.count(colour="green")

    asyncio.run(main())


def test_fifty_requests_at_once_are_all_answered():
    async def main():
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster:
            maps = cluster.client.resource("v1", "configmaps")
            bodies = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{i}"}} for i in range(50)]
            await asyncio.gather(*(maps.create(body, "default") for body in bodies))
            assert len((await maps.list("default"))["items"]) == 50

    asyncio.run(main())


def test_dropped_watches_end_and_informers_come_again():
    async def main():
        from peavine.base.lifetimes import scope
        from peavine.client.informer import Informer

        async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster, scope() as tasks:
            maps = cluster.client.resource("v1", "configmaps")
            informer = Informer(maps)
            running = tasks.start(informer.run(), name="informer")

            async def watched():
                return await cluster.drop_watches("configmaps") == 1

            await eventually(watched, 10)
            cluster.requests.fail(verb="watch", resource="configmaps", code=410, reason="Expired", times=1)
            await maps.create({"metadata": {"name": "late"}}, "default")

            async def seen():
                return informer.get("default", "late") is not None

            await eventually(seen, 10)
            running.cancel()

    asyncio.run(main())


@pytest.mark.slow
def test_a_cluster_in_a_child_process_does_what_one_in_a_thread_does():
    with Cluster(process=True, controllers=["serviceaccount-controller"], scheduler=False, nodes=0) as cluster:
        before = cluster.snapshot()
        cluster.create_namespace("mine")
        assert [o["kind"] for o in cluster.objects("mine")] == ["ServiceAccount"]
        assert cluster.requests.count(verb="create", resource="namespaces") == 1
        assert cluster.requests.seen[-1].verb
        cluster.requests.fail(resource="pods", code=418, reason="Teapot", times=1)
        with pytest.raises(ApiError, match="injected: Teapot"):
            cluster.get("/api/v1/pods")
        with pytest.raises(TypeError, match="no such part"):
            cluster.requests.count(colour="green")
        cluster.reset(before)
        assert "mine" not in [n["metadata"]["name"] for n in cluster.get("/api/v1/namespaces")["items"]]
        cluster.advance(60)


def test_a_child_that_cannot_start_says_why():
    with pytest.raises(LookupError, match=r"no definitions of Kubernetes 1\.2"):
        Cluster(process=True, kubernetes_version="1.2", controllers=False, scheduler=False, nodes=0).__enter__()
