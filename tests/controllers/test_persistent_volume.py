import asyncio

from peavine.controllers.persistent_volume.matching import best_match
from peavine.controllers.persistent_volume.provision import volume_for
from tests.controllers.conftest import cluster, eventually

CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local-path"},
    "provisioner": "peavine.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
}


def claim(name="c", size="1Gi", storage_class=""):
    resources = {"requests": {"storage": size}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": storage_class}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def volume(name, size="1Gi", policy="Retain"):
    spec = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": policy,
        "hostPath": {"path": "/nowhere"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def test_the_smallest_volume_that_is_large_enough_is_taken():
    wanted = claim(size="2Gi")
    wanted["metadata"]["uid"] = "u"
    found = best_match(wanted, [volume("small"), volume("large", "10Gi"), volume("right", "3Gi")])
    assert found is not None and found["metadata"]["name"] == "right"


def test_a_claim_binds_to_a_volume_and_releases_it_when_it_goes():
    async def main():
        async with cluster("persistentvolume-binder-controller") as (client, _):
            claims, volumes = (
                client.resource("v1", "persistentvolumeclaims"),
                client.resource("v1", "persistentvolumes"),
            )
            await volumes.create(volume("v", "5Gi"))
            await claims.create(claim())

            async def bound():
                now = await claims.get("c", "default")
                return now["status"].get("phase") == "Bound" and now["spec"].get("volumeName") == "v"

            await eventually(bound)
            assert (await claims.get("c", "default"))["status"]["capacity"] == {"storage": "5Gi"}
            assert (await volumes.get("v"))["status"]["phase"] == "Bound"
            await claims.patch("c", {"metadata": {"finalizers": None}}, "default")
            await claims.delete("c", "default")

            async def released():
                return (await volumes.get("v"))["status"]["phase"] == "Released"

            await eventually(released)

    asyncio.run(main())


def test_a_claim_of_the_local_class_gets_a_directory_on_the_node_of_its_pod_and_takes_it_along():
    async def main():
        async with cluster("persistentvolume-binder-controller") as (client, _):
            claims, volumes = (
                client.resource("v1", "persistentvolumeclaims"),
                client.resource("v1", "persistentvolumes"),
            )
            labels = {"kubernetes.io/hostname": "n1"}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
            await client.resource("v1", "nodes").create(node)
            await client.resource("storage.k8s.io/v1", "storageclasses").create(CLASS)
            await claims.create(claim(storage_class="local-path"))
            await asyncio.sleep(0.3)
            assert not (await volumes.list())["items"]
            mark = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}
            await claims.patch("c", mark, "default")

            async def bound():
                return (await claims.get("c", "default"))["status"].get("phase") == "Bound"

            await eventually(bound)
            made = (await volumes.list())["items"][0]
            term = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]
            assert term["matchExpressions"][0]["values"] == ["n1"]
            assert made["spec"]["hostPath"]["type"] == "DirectoryOrCreate"
            await claims.patch("c", {"metadata": {"finalizers": None}}, "default")
            await claims.delete("c", "default")
            # The protection finalizer is another controller's, which does not run here.
            await eventually(lambda: _deleted(volumes))

    asyncio.run(main())


async def _deleted(volumes):
    found = (await volumes.list())["items"]
    return not found or found[0]["metadata"].get("deletionTimestamp")


def test_the_directory_of_a_released_local_volume_is_removed_by_a_pod_on_its_node_before_the_volume_goes():
    async def main():
        async with cluster("persistentvolume-binder-controller") as (client, nodes):
            seen = []

            def ran(pod):
                seen.append(pod["spec"]["containers"][0]["command"])
                return "Succeeded"

            nodes.outcome = ran
            volumes = client.resource("v1", "persistentvolumes")
            labels = {"kubernetes.io/hostname": "n1"}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}}
            node["status"] = {"nodeInfo": {"containerRuntimeVersion": "containerd://1.7"}}
            await client.resource("v1", "nodes").create(node)
            meta = {"name": "c", "namespace": "default", "uid": "u", "resourceVersion": "1"}
            gone = {"metadata": meta, "spec": claim()["spec"]}
            made = volume_for(gone, {**CLASS, "reclaimPolicy": "Delete"}, node, "/volumes")
            await volumes.create(made)
            await eventually(lambda: _deleted(volumes))
            assert seen == [["rm", "-rf", "/volumes/pvc-u_default_c"]]

    asyncio.run(main())
