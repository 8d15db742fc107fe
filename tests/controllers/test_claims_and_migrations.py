import asyncio

from peavine.controllers.attach_detach import attachment_name
from tests.controllers.conftest import cluster, eventually, workload

RESOURCE = "resource.k8s.io/v1"


def meta(name, **more):
    return {"name": name, "namespace": "default", **more}


def test_a_pod_gets_a_device_claim_of_its_own_from_a_template():
    async def main():
        async with cluster("resourceclaim-controller") as (client, nodes):
            nodes.hold = lambda pod: True
            request = {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}
            spec = {"spec": {"devices": {"requests": [request]}}}
            template = {"apiVersion": RESOURCE, "kind": "ResourceClaimTemplate", "metadata": meta("t"), "spec": spec}
            await client.resource(RESOURCE, "resourceclaimtemplates").create(template)
            pod = workload("Pod")["spec"]["template"]["spec"]
            pod["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "t"}]
            pods = client.resource("v1", "pods")
            await pods.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta("p"), "spec": pod})

            async def named():
                status = (await pods.get("p", "default")).get("status") or {}
                return status.get("resourceClaimStatuses")

            statuses = await eventually(named)
            claim = await client.resource(RESOURCE, "resourceclaims").get(statuses[0]["resourceClaimName"], "default")
            assert claim["metadata"]["ownerReferences"][0]["kind"] == "Pod"
            assert claim["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1

    asyncio.run(main())


def test_a_csi_volume_is_attached_while_a_pod_on_the_node_needs_it():
    async def main():
        async with cluster("persistentvolume-attach-detach-controller") as (client, _):
            csi = {"driver": "disk.example.com", "volumeHandle": "h"}
            size = {"storage": "1Gi"}
            volume = {"capacity": size, "accessModes": ["ReadWriteOnce"], "csi": csi}
            made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": volume}
            await client.resource("v1", "persistentvolumes").create(made)
            claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "volumeName": "v"}
            body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta("c"), "spec": claim}
            await client.resource("v1", "persistentvolumeclaims").create(body)
            volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]
            spec = workload("Pod")["spec"]["template"]["spec"] | {"nodeName": "n", "volumes": volumes}
            pods, attachments = client.resource("v1", "pods"), client.resource("storage.k8s.io/v1", "volumeattachments")
            await pods.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta("p"), "spec": spec})

            async def names():
                return [a["metadata"]["name"] for a in (await attachments.list())["items"]]

            found = await eventually(names)
            assert found == [attachment_name("h", "disk.example.com", "n")]
            await pods.delete("p", "default", grace_period_seconds=0)

            async def none():
                return not await names()

            await eventually(none)

    asyncio.run(main())


def test_a_migration_rewrites_and_says_so_and_a_range_of_addresses_is_ready():
    async def main():
        async with cluster("storage-version-migrator-controller", "service-cidr-controller") as (client, _):
            migrations = client.resource("storagemigration.k8s.io/v1", "storageversionmigrations")
            body = {"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration"}
            spec = {"resource": {"group": "", "resource": "configmaps"}}
            await migrations.create({**body, "metadata": {"name": "m"}, "spec": spec})

            async def succeeded():
                found = (await migrations.get("m")).get("status") or {}
                return any(c["type"] == "Succeeded" for c in found.get("conditions") or ())

            await eventually(succeeded)
            ranges = client.resource("networking.k8s.io/v1", "servicecidrs")
            own = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "r"}}
            await ranges.create({**own, "spec": {"cidrs": ["10.99.0.0/24"]}})

            async def ready():
                found = (await ranges.get("r")).get("status") or {}
                return any(c["type"] == "Ready" and c["status"] == "True" for c in found.get("conditions") or ())

            await eventually(ready)
            await ranges.delete("r")

            async def gone():
                return "r" not in {r["metadata"]["name"] for r in (await ranges.list())["items"]}

            await eventually(gone)

    asyncio.run(main())


def test_the_servers_authority_is_published_as_a_trust_bundle():
    async def main():
        async with cluster("kube-apiserver-serving-clustertrustbundle-publisher-controller") as (client, _):
            bundles = client.resource("certificates.k8s.io/v1", "clustertrustbundles")

            async def published():
                return [b for b in (await bundles.list())["items"] if "BEGIN CERT" in b["spec"]["trustBundle"]]

            found = await eventually(published)
            assert found[0]["metadata"]["name"].startswith("kubernetes.io:kube-apiserver-serving:")

    asyncio.run(main())
