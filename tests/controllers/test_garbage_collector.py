import asyncio
import logging

from peavine.client import WorkQueue
from peavine.controllers.controller import Controller
from peavine.machinery.errors import ApiError
from tests.controllers.conftest import cluster, eventually, on_cluster, workload


async def _names(client, api_version, plural):
    return {o["metadata"]["name"] for o in (await client.resource(api_version, plural).list("default"))["items"]}


def _config_map(name, owner=None, **meta):
    if owner is not None:
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}
        meta["ownerReferences"] = [reference]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", **meta}}


def test_dependents_go_with_their_owner_and_its_owner():
    async def main():
        names = ("deployment-controller", "replicaset-controller", "garbage-collector-controller")
        async with cluster(*names) as (client, _):
            deployments = client.resource("apps/v1", "deployments")
            await deployments.create(workload(replicas=2))
            await eventually(lambda: _names(client, "v1", "pods"))
            await deployments.delete("web", "default", propagation_policy="Background")

            async def gone():
                return not await _names(client, "v1", "pods") and not await _names(client, "apps/v1", "replicasets")

            await eventually(gone)

    asyncio.run(main())


def test_orphan_deletion_leaves_the_dependents_without_the_reference():
    async def main():
        async with cluster("garbage-collector-controller") as (client, _):
            maps = client.resource("v1", "configmaps")
            owner = await maps.create(_config_map("owner"))
            await maps.create(_config_map("dependent", owner))
            await asyncio.sleep(0.3)
            await maps.delete("owner", "default", propagation_policy="Orphan")

            async def orphaned():
                names = await _names(client, "v1", "configmaps")
                dependent = await maps.get("dependent", "default")
                return "owner" not in names and not dependent["metadata"].get("ownerReferences")

            await eventually(orphaned)

    asyncio.run(main())


def test_a_foreground_deletion_waits_for_the_dependents():
    async def main():
        async with cluster("garbage-collector-controller") as (client, _):
            maps = client.resource("v1", "configmaps")
            owner = await maps.create(_config_map("owner"))
            await maps.create(_config_map("dependent", owner, finalizers=["example.com/hold"]))
            await asyncio.sleep(0.3)
            await maps.delete("owner", "default", propagation_policy="Foreground")
            dying = await eventually(lambda: _deleting(maps, "dependent"))
            assert await _deleting(maps, "owner")
            await maps.patch("dependent", {"metadata": {"finalizers": None}}, "default")
            await eventually(lambda: _gone(maps, "owner"))
            assert dying

    asyncio.run(main())


def test_a_dependent_of_an_owner_that_never_was_goes():
    async def main():
        async with cluster("garbage-collector-controller") as (client, _):
            maps = client.resource("v1", "configmaps")
            ghost = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ghost", "uid": "no-such-uid"}}
            await maps.create(_config_map("dependent", ghost))
            await eventually(lambda: _gone(maps, "dependent"))

    asyncio.run(main())


async def _deleting(resource, name):
    return "deletionTimestamp" in (await resource.get(name, "default"))["metadata"]


async def _gone(resource, name):
    try:
        await resource.get(name, "default")
    except ApiError as error:
        return error.code == 404
    return False


@on_cluster
async def test_a_circle_of_owners_goes_in_foreground_deletion(c):
    made = {}
    for name in ("one", "two", "three"):
        spec = {"containers": [{"name": "main", "image": "web:1"}]}
        pod = await c.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        made[name] = pod["metadata"]["uid"]
    for name, owner in (("one", "three"), ("two", "one"), ("three", "two")):
        reference = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": made[owner]}
        reference |= {"controller": True, "blockOwnerDeletion": True}
        await c.patch("Pod", name, {"metadata": {"ownerReferences": [reference]}})
    await c.delete("Pod", "one", propagation_policy="Foreground", grace_period_seconds=0)

    async def gone():
        return not await c.pods()

    await c.until(gone)


def test_a_queue_that_is_never_empty_does_not_hold_up_the_others():
    class Restless(Controller):
        name, account, workers, looks = "restless", "", 1, 0

        async def reconcile(self, key):
            self.looks += 1
            self.queue.add(key)
            return None

    async def main():
        restless = Restless.__new__(Restless)
        restless.queue, restless.log = WorkQueue(), logging.getLogger("restless")
        restless.queue.add("key")
        work = asyncio.ensure_future(restless._work())
        for _ in range(5):
            await asyncio.sleep(0)
        work.cancel()
        assert 0 < restless.looks < 10

    asyncio.run(main())
