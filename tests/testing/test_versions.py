"""Any version's surface: groups, kinds and fields of the version that a test names."""

import asyncio

import pytest

from peavine.machinery.errors import ApiError
from peavine.testing import AsyncCluster


def test_an_older_version_serves_its_own_groups_and_fields_only():
    async def main():
        options = {"controllers": False, "scheduler": False, "nodes": 0}
        async with AsyncCluster(kubernetes_version="1.28", **options) as cluster:
            get = cluster.client.json
            version = await get("GET", "/version")
            assert (version["minor"], version["gitVersion"]) == ("28", "v1.28.0")
            groups = {g["name"] for g in (await get("GET", "/apis"))["groups"]}
            assert "apps" in groups and "resource.k8s.io" not in groups
            admission = await get("GET", "/apis/admissionregistration.k8s.io/v1")
            kinds = {r["kind"] for r in admission["resources"]}
            assert kinds == {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
            for path in (
                "admissionregistration.k8s.io/v1/validatingadmissionpolicies",
                "resource.k8s.io/v1/deviceclasses",
            ):
                with pytest.raises(ApiError) as missing:
                    await get("GET", f"/apis/{path}")
                assert missing.value.code == 404
            pods = cluster.client.resource("v1", "pods")
            container = {"name": "main", "image": "i", "resizePolicy": []}
            spec = {"containers": [container], "hostnameOverride": "other", "automountServiceAccountToken": False}
            await cluster.client.resource("v1", "serviceaccounts").create({"metadata": {"name": "default"}}, "default")
            made = await pods.create({"metadata": {"name": "p"}, "spec": spec}, "default")
            assert "hostnameOverride" not in made["spec"]

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.25", "1.31"])
def test_controllers_and_nodes_work_below_an_older_surface(version):
    async def main():
        from tests.controllers.conftest import eventually, workload

        async with AsyncCluster(kubernetes_version=version) as cluster:
            deployments = cluster.client.resource("apps/v1", "deployments")
            await deployments.create(workload(replicas=2))

            async def available():
                return ((await deployments.get("web", "default")).get("status") or {}).get("availableReplicas") == 2

            await eventually(available, 30)

    asyncio.run(main())


def test_a_version_that_nobody_knows_is_refused():
    async def main():
        with pytest.raises(LookupError, match=r"1\.99"):
            async with AsyncCluster(kubernetes_version="1.99"):
                pass

    asyncio.run(main())
