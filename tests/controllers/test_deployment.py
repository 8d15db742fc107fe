import asyncio

from peavine.controllers.deployment.arithmetic import (
    fenceposts,
    new_replica_set_size,
    old_replica_set_sizes,
    proportional_sizes,
)
from tests.controllers.conftest import cluster, eventually, workload


def replica_set(name, replicas, available=None, created="2026-01-01T00:00:00Z", **annotations):
    return {
        "metadata": {"name": name, "creationTimestamp": created, "annotations": annotations},
        "spec": {"replicas": replicas},
        "status": {"availableReplicas": replicas if available is None else available},
    }


def deployment(replicas=10, surge="25%", unavailable="25%"):
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"spec": {"replicas": replicas, "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}


def test_surge_rounds_up_and_unavailable_rounds_down():
    assert fenceposts(deployment(10)) == (3, 2)
    assert fenceposts(deployment(3)) == (1, 0)
    assert fenceposts(deployment(10, 0, 0)) == (0, 1)


def test_the_new_replica_set_grows_only_into_the_surge():
    assert new_replica_set_size(deployment(10), [replica_set("old", 10)], 0) == 3
    assert new_replica_set_size(deployment(10), [replica_set("old", 8), replica_set("new", 5)], 5) == 5


def test_old_pods_that_are_not_available_go_first():
    old = [replica_set("broken", 3, available=0), replica_set("good", 8)]
    new = replica_set("new", 1, available=0)
    assert old_replica_set_sizes(deployment(10), new, old) == {"broken": 0}


def test_scaling_in_the_middle_of_a_rollout_is_proportional():
    key = "deployment.kubernetes.io/max-replicas"
    active = [replica_set("old", 8, **{key: "13"}), replica_set("new", 5, **{key: "13"})]
    sizes = proportional_sizes(deployment(15, 3, 2), active)
    assert sum(sizes.values()) == 18 and sizes["old"] > 8 and sizes["new"] > 5


def test_a_deployment_gets_its_pods_and_says_so():
    async def main():
        async with cluster("deployment-controller", "replicaset-controller") as (client, _):
            deployments = client.resource("apps/v1", "deployments")
            await deployments.create(workload())

            async def available():
                status = (await deployments.get("web", "default")).get("status") or {}
                return status if status.get("availableReplicas") == 3 else None

            status = await eventually(available)
            assert status["updatedReplicas"] == status["readyReplicas"] == 3
            reasons = {c["type"]: c["reason"] for c in status["conditions"]}
            assert reasons["Available"] == "MinimumReplicasAvailable"
            events = await eventually(lambda: _reasons(client, "web", "ScalingReplicaSet"))
            assert events[0].startswith("Scaled up replica set web-") and events[0].endswith(" from 0 to 3")

    asyncio.run(main())


def test_a_rolling_update_never_has_fewer_than_allowed_and_can_be_undone():
    async def main():
        async with cluster("deployment-controller", "replicaset-controller") as (client, nodes):
            deployments = client.resource("apps/v1", "deployments")
            await deployments.create(workload(replicas=4))
            await eventually(lambda: _complete(deployments))
            lowest = [4]
            nodes.informer.add_handler(
                deleted=lambda _: lowest.append(sum(_ready(p) for p in nodes.informer.list("default")))
            )
            patch = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}}}
            await deployments.patch("web", patch, "default", type="strategic")
            await eventually(lambda: _complete(deployments), 15)
            assert min(lowest) >= 3
            sets = (await client.resource("apps/v1", "replicasets").list("default"))["items"]
            assert sorted(s["spec"]["replicas"] for s in sets) == [0, 4]
            revisions = {s["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for s in sets}
            assert revisions == {"1", "2"}

    asyncio.run(main())


def test_a_rollout_that_makes_no_progress_misses_its_deadline():
    async def main():
        async with cluster("deployment-controller", "replicaset-controller") as (client, nodes):
            nodes.hold = lambda pod: True
            deployments = client.resource("apps/v1", "deployments")
            await deployments.create(workload(progressDeadlineSeconds=1, minReadySeconds=0))

            async def exceeded():
                conditions = ((await deployments.get("web", "default")).get("status") or {}).get("conditions") or ()
                return any(c.get("reason") == "ProgressDeadlineExceeded" for c in conditions)

            await eventually(exceeded)

    asyncio.run(main())


def _ready(pod):
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return "deletionTimestamp" not in pod["metadata"] and any(
        c["type"] == "Ready" and c["status"] == "True" for c in conditions
    )


async def _complete(deployments):
    obj = await deployments.get("web", "default")
    status, wanted = obj.get("status") or {}, obj["spec"]["replicas"]
    return (
        status.get("observedGeneration") == obj["metadata"]["generation"]
        and status.get("updatedReplicas") == status.get("availableReplicas") == status.get("replicas") == wanted
    )


async def _reasons(client, name, reason):
    events = (await client.resource("v1", "events").list("default"))["items"]
    return [e["message"] for e in events if e["reason"] == reason and e["involvedObject"]["name"] == name]
