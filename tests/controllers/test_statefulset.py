import asyncio

from tests.controllers.conftest import cluster, eventually, workload


def stateful_set(name="db", **spec):
    return workload("StatefulSet", name, serviceName=name, **spec)


async def pods_of(client):
    pods = (await client.resource("v1", "pods").list("default"))["items"]
    return {p["metadata"]["name"]: p for p in pods}


def ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())


def test_pods_come_one_after_the_other_with_names_and_identity():
    async def main():
        async with cluster("statefulset-controller") as (client, nodes):
            nodes.hold = lambda pod: pod["metadata"]["name"] == "db-1"
            await client.resource("apps/v1", "statefulsets").create(stateful_set())
            await eventually(lambda: _names(client, {"db-0", "db-1"}))
            await asyncio.sleep(0.3)
            assert set(await pods_of(client)) == {"db-0", "db-1"}
            nodes.hold = lambda pod: False
            await client.resource("v1", "pods").patch("db-1", {"metadata": {"labels": {"poke": "1"}}}, "default")
            await eventually(lambda: _names(client, {"db-0", "db-1", "db-2"}))
            pod = (await pods_of(client))["db-2"]
            assert pod["spec"]["hostname"] == "db-2" and pod["spec"]["subdomain"] == "db"
            assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "2"

    asyncio.run(main())


def test_parallel_sets_do_not_wait():
    async def main():
        async with cluster("statefulset-controller") as (client, nodes):
            nodes.hold = lambda pod: True
            await client.resource("apps/v1", "statefulsets").create(stateful_set(podManagementPolicy="Parallel"))
            await eventually(lambda: _names(client, {"db-0", "db-1", "db-2"}))

    asyncio.run(main())


def test_scaling_down_takes_the_highest_ordinal_first_and_claims_stay():
    async def main():
        async with cluster("statefulset-controller") as (client, _):
            sets = client.resource("apps/v1", "statefulsets")
            claim = {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
            await sets.create(stateful_set(volumeClaimTemplates=[claim]))
            await eventually(lambda: _settled(sets, 3))
            await sets.patch("db", {"spec": {"replicas": 1}}, "default")
            await eventually(lambda: _names(client, {"db-0"}))
            claims = (await client.resource("v1", "persistentvolumeclaims").list("default"))["items"]
            assert {c["metadata"]["name"] for c in claims} == {"data-db-0", "data-db-1", "data-db-2"}

    asyncio.run(main())


def test_a_rolling_update_goes_from_the_highest_down_to_the_partition():
    async def main():
        async with cluster("statefulset-controller") as (client, _):
            sets = client.resource("apps/v1", "statefulsets")
            strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
            await sets.create(stateful_set(updateStrategy=strategy))
            await eventually(lambda: _settled(sets, 3))
            change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}}}
            await sets.patch("db", change, "default", type="strategic")

            async def updated():
                images = {n: p["spec"]["containers"][0]["image"] for n, p in (await pods_of(client)).items()}
                return images == {"db-0": "web:1", "db-1": "web:2", "db-2": "web:2"}

            await eventually(updated)
            await sets.patch("db", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}, "default")
            await eventually(lambda: _all_image(client, "web:2", 3))
            status = await eventually(lambda: _rolled(sets))
            assert status["currentRevision"] == status["updateRevision"]
            revisions = (await client.resource("apps/v1", "controllerrevisions").list("default"))["items"]
            assert sorted(r["revision"] for r in revisions) == [1, 2]

    asyncio.run(main())


def test_a_pod_that_is_deleted_comes_back_under_its_name():
    async def main():
        async with cluster("statefulset-controller") as (client, _):
            sets = client.resource("apps/v1", "statefulsets")
            await sets.create(stateful_set(replicas=2))
            await eventually(lambda: _settled(sets, 2))
            uid = (await pods_of(client))["db-0"]["metadata"]["uid"]
            await client.resource("v1", "pods").delete("db-0", "default")

            async def replaced():
                pod = (await pods_of(client)).get("db-0")
                return pod is not None and pod["metadata"]["uid"] != uid and ready(pod)

            await eventually(replaced)

    asyncio.run(main())


async def _names(client, wanted):
    return set(await pods_of(client)) == wanted


async def _all_image(client, image, count):
    pods = (await pods_of(client)).values()
    return len(pods) == count and all(p["spec"]["containers"][0]["image"] == image and ready(p) for p in pods)


async def _settled(sets, count):
    status = (await sets.get("db", "default")).get("status") or {}
    return status.get("availableReplicas") == count and status.get("updatedReplicas") == count


async def _rolled(sets):
    status = (await sets.get("db", "default"))["status"]
    return status if status.get("currentRevision") == status.get("updateRevision") else None
