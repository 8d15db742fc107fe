"""How much is written: while Deployments settle as much as they need, and then nothing but signs of life."""

import asyncio
from collections import Counter

import pytest

from peavine.testing import AsyncCluster
from peavine.testing.requests import WRITES
from tests.controllers.conftest import STORAGE_CLASS, eventually, workload
from tests.controllers.test_job_options import ENDS, job
from tests.controllers.test_statefulset_options import CLAIM

DEPLOYMENTS, REPLICAS = 20, 3


@pytest.mark.slow
def test_deployments_settle_with_few_writes_and_a_settled_cluster_writes_signs_of_life_only():
    async def main():
        async with AsyncCluster(nodes=2) as cluster:
            client = cluster.client
            await client.resource("storage.k8s.io/v1", "storageclasses").create(STORAGE_CLASS)
            await cluster.create_namespace("work")
            cluster.requests.forget()
            for i in range(DEPLOYMENTS):
                await make(client, workload(name=f"web-{i}", replicas=REPLICAS))
            await eventually(lambda: available(client, DEPLOYMENTS * REPLICAS), 60)
            await cluster.advance(2)
            count = Counter((r.verb, r.resource, r.subresource) for r in cluster.requests.writes())
            pods = DEPLOYMENTS * REPLICAS
            # Some room for writes that came too early or too late and are done again; a loop would be far beyond.
            assert count["create", "replicasets", ""] <= 2 * DEPLOYMENTS
            assert count["create", "pods", ""] <= 1.5 * pods and count["create", "pods", "binding"] <= 1.5 * pods
            assert count["patch", "pods", "status"] + count["update", "pods", "status"] <= 4 * pods
            assert count["update", "deployments", ""] <= 2 * DEPLOYMENTS, "its revision"
            assert count["update", "deployments", "status"] <= 6 * DEPLOYMENTS
            assert count["update", "replicasets", "status"] <= 6 * DEPLOYMENTS

            await make(client, workload("DaemonSet", name="daemon"))
            await make(client, workload("StatefulSet", name="db", replicas=2, volumeClaimTemplates=[CLAIM]))
            await make(client, job("once", script=ENDS))
            budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web-0"}}}
            await make(client, {"kind": "PodDisruptionBudget", "metadata": {"name": "some"}, "spec": budget})
            service = {"selector": {"app": "web-0"}, "ports": [{"port": 80}]}
            await make(client, {"kind": "Service", "metadata": {"name": "web"}, "spec": service})
            hard = {"spec": {"hard": {"pods": "500", "count/deployments.apps": "100"}}}
            await make(client, {"kind": "ResourceQuota", "metadata": {"name": "much"}, **hard})
            await eventually(lambda: available(client, pods + 5), 60)
            await cluster.advance(60)
            cluster.requests.forget()
            await cluster.advance(330)
            late = {(r.resource, r.subresource) for r in cluster.requests.seen if r.verb in WRITES}
            assert late <= {("leases", ""), ("nodes", "status"), ("serviceaccounts", "token")}, late

    asyncio.run(main())


async def make(client, obj):
    plural, api_version = {
        "Deployment": ("deployments", "apps/v1"),
        "DaemonSet": ("daemonsets", "apps/v1"),
        "StatefulSet": ("statefulsets", "apps/v1"),
        "Job": ("jobs", "batch/v1"),
        "PodDisruptionBudget": ("poddisruptionbudgets", "policy/v1"),
        "Service": ("services", "v1"),
        "ResourceQuota": ("resourcequotas", "v1"),
    }[obj["kind"]]
    await client.resource(api_version, plural).create({**obj, "metadata": {**obj["metadata"], "namespace": "work"}})


async def available(client, wanted):
    pods = (await client.resource("v1", "pods").list("work"))["items"]
    phases = Counter((p.get("status") or {}).get("phase") for p in pods)
    return phases["Running"] + phases["Succeeded"] == wanted
