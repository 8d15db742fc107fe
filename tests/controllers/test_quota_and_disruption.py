import asyncio

from peavine.machinery.errors import ApiError
from tests.controllers.conftest import cluster, eventually, workload


def test_a_quota_counts_what_there_is_and_forgets_what_goes():
    async def main():
        async with cluster("resourcequota-controller", "replicaset-controller") as (client, _):
            quotas, maps = client.resource("v1", "resourcequotas"), client.resource("v1", "configmaps")
            hard = {"pods": "5", "requests.cpu": "2", "count/replicasets.apps": "3"}
            meta = {"name": "q", "namespace": "default"}
            await quotas.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})

            async def used():
                return ((await quotas.get("q", "default")).get("status") or {}).get("used") or {}

            await eventually(lambda: used())
            sets = client.resource("apps/v1", "replicasets")
            made = workload("ReplicaSet", replicas=2)
            made["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
            await sets.create(made)

            async def counts(pods, cpu):
                now = await used()
                return (now.get("pods"), now.get("requests.cpu")) == (pods, cpu)

            await eventually(lambda: counts("2", "200m"))
            await sets.patch("web", {"spec": {"replicas": 0}}, "default")
            await eventually(lambda: counts("0", "0"))
            del maps

    asyncio.run(main())


def test_a_budget_allows_what_leaves_enough_healthy_pods():
    async def main():
        async with cluster("disruption-controller", "replicaset-controller", "deployment-controller") as (client, _):
            await client.resource("apps/v1", "deployments").create(workload(replicas=3))
            budgets = client.resource("policy/v1", "poddisruptionbudgets")
            spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}
            meta = {"name": "b", "namespace": "default"}
            made = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec}
            await budgets.create(made)

            async def status():
                return (await budgets.get("b", "default")).get("status") or {}

            async def settled(**wanted):
                now = await status()
                return {k: now.get(k) for k in wanted} == wanted

            await eventually(lambda: settled(expectedPods=3, desiredHealthy=2, currentHealthy=3, disruptionsAllowed=1))
            pods = client.resource("v1", "pods")
            name = (await pods.list("default"))["items"][0]["metadata"]["name"]
            eviction = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": name, "namespace": "default"},
            }
            await pods.create_subresource(name, "eviction", eviction, "default")
            second = (await pods.list("default"))["items"][1]["metadata"]["name"]
            eviction["metadata"]["name"] = second
            try:
                await pods.create_subresource(second, "eviction", eviction, "default")
                refused = 0
            except ApiError as error:
                refused = error.code
            assert refused == 429
            await eventually(lambda: settled(currentHealthy=3, disruptionsAllowed=1))

    asyncio.run(main())


def test_a_claim_in_use_stays_until_its_pod_is_gone():
    async def main():
        async with cluster("persistentvolumeclaim-protection-controller") as (client, _):
            claims, pods = client.resource("v1", "persistentvolumeclaims"), client.resource("v1", "pods")
            spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            meta = {"name": "c", "namespace": "default"}
            claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
            await claims.create(claim)
            volume = {"name": "v", "persistentVolumeClaim": {"claimName": "c"}}
            pod = workload("Pod")["spec"]["template"]["spec"] | {"volumes": [volume], "nodeName": "n"}
            await pods.create(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": pod}
            )
            await eventually(lambda: _has_finalizer(claims))
            await claims.delete("c", "default")
            await asyncio.sleep(0.2)
            assert (await claims.get("c", "default"))["metadata"]["deletionTimestamp"]
            await pods.delete("p", "default", grace_period_seconds=0)

            async def gone():
                return not (await claims.list("default"))["items"]

            await eventually(gone)

    asyncio.run(main())


async def _has_finalizer(claims):
    meta = (await claims.get("c", "default"))["metadata"]
    return "kubernetes.io/pvc-protection" in (meta.get("finalizers") or [])
