"""Every option of a DaemonSet, on three simulated nodes."""

import contextlib

import pytest

from tests.controllers.conftest import PROBED, on_cluster, workload

pytestmark = pytest.mark.slow

SIMULATED = "simulated.peavine.io/"


def daemon(**spec):
    body = workload("DaemonSet", name="agent", image="agent:1", **spec)
    del body["spec"]["replicas"]
    return body


def image(name, **script):
    annotations = {SIMULATED + key.replace("_", "-"): str(value) for key, value in script.items()}
    container = {"name": "main", "image": name, **(PROBED if "ready_after" in script else {})}
    return {"spec": {"template": {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}}}


def pod_spec(**more):
    return {"spec": {"template": {"spec": more}}}


async def everywhere(c, count=3, **more):
    wanted = {"numberAvailable": count, "desiredNumberScheduled": count, **more}
    return await c.until_status("DaemonSet", "agent", lambda s: all(s.get(k) == v for k, v in wanted.items()))


async def nodes_of(c):
    return sorted(p["spec"].get("nodeName", "") for p in await c.pods() if not p["metadata"].get("deletionTimestamp"))


@contextlib.asynccontextmanager
async def tainted(c, node, *taints):
    nodes = c.client.resource("v1", "nodes")
    await nodes.patch(node, {"spec": {"taints": list(taints)}})
    try:
        yield
    finally:
        await nodes.patch(node, {"spec": {"taints": []}})


@on_cluster
async def test_daemon_pods_tolerate_what_befalls_nodes_and_avoid_other_taints(c):
    await c.create(daemon())
    await everywhere(c)
    tolerated = {t["key"].rpartition("/")[2] for t in (await c.pods())[0]["spec"]["tolerations"]}
    assert {
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
    } <= tolerated
    async with tainted(c, "node-2", {"key": "example.com/special", "effect": "NoExecute"}):

        async def two():
            return await nodes_of(c) == ["node-0", "node-1"]

        await c.until(two)
        await everywhere(c, 2)
        toleration = {"key": "example.com/special", "operator": "Exists"}
        await c.patch("DaemonSet", "agent", pod_spec(tolerations=[toleration]))
        await everywhere(c, 3, updatedNumberScheduled=3)
    await everywhere(c)


@on_cluster
async def test_a_taint_without_execution_keeps_running_pods_and_they_count_as_misscheduled(c):
    await c.create(daemon())
    await everywhere(c)
    async with tainted(c, "node-1", {"key": "example.com/full", "effect": "NoSchedule"}):
        status = await c.until_status("DaemonSet", "agent", lambda s: s.get("numberMisscheduled") == 1)
        assert status["desiredNumberScheduled"] == 2 and len(await c.pods()) == 3


@on_cluster
async def test_selectors_and_affinity_choose_the_nodes(c):
    body = daemon()
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["node-0"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    body["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": required}
    await c.create(body)
    await everywhere(c, 2)
    assert await nodes_of(c) == ["node-1", "node-2"]
    await c.patch("DaemonSet", "agent", pod_spec(nodeSelector={"kubernetes.io/hostname": "node-2"}))
    await everywhere(c, 1, updatedNumberScheduled=1)


@on_cluster
async def test_on_delete_leaves_old_pods_until_somebody_deletes_them(c):
    await c.create(daemon(updateStrategy={"type": "OnDelete"}))
    await everywhere(c)
    await c.patch("DaemonSet", "agent", image("agent:2"), type="strategic")
    status = await c.until_status("DaemonSet", "agent", lambda s: s.get("observedGeneration") == 2)
    assert status.get("updatedNumberScheduled", 0) == 0
    victim = (await c.pods())[0]["metadata"]["name"]
    await c.delete("Pod", victim)
    await c.until_status("DaemonSet", "agent", lambda s: s.get("updatedNumberScheduled") == 1)


@on_cluster
async def test_max_unavailable_limits_how_many_nodes_are_without(c):
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
    await c.create(daemon(updateStrategy=rolling))
    await everywhere(c)
    await c.patch("DaemonSet", "agent", image("agent:2", ready_after="never"), type="strategic")
    status = await c.until_status("DaemonSet", "agent", lambda s: s.get("updatedNumberScheduled") == 2)
    assert status["numberUnavailable"] == 2 and status["numberAvailable"] == 1
    await c.patch("DaemonSet", "agent", image("agent:3", ready_after="0"), type="strategic")
    await everywhere(c, updatedNumberScheduled=3)


@on_cluster
async def test_with_a_surge_the_old_pod_goes_when_the_new_one_is_ready(c):
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await c.create(daemon(updateStrategy=rolling))
    await everywhere(c)
    await c.patch("DaemonSet", "agent", image("agent:2", ready_after="never"), type="strategic")

    async def surging():
        return len(await c.pods()) == 4

    await c.until(surging)
    assert (await c.status("DaemonSet", "agent"))["numberAvailable"] == 3
    await c.patch("DaemonSet", "agent", image("agent:3", ready_after="0"), type="strategic")
    await everywhere(c, updatedNumberScheduled=3)

    async def settled():
        return len(await c.pods()) == 3

    await c.until(settled)


@on_cluster
async def test_failed_daemon_pods_are_replaced_after_a_growing_wait(c):
    await c.create(daemon())
    await everywhere(c)
    victim = next(p for p in await c.pods() if p["spec"]["nodeName"] == "node-0")["metadata"]["name"]
    await c.patch("Pod", victim, {"status": {"phase": "Failed"}}, subresource="status")

    async def replaced():
        return victim not in {p["metadata"]["name"] for p in await c.pods()} and len(await c.pods()) == 3

    await c.until(replaced)
    assert await c.messages("FailedDaemonPod")
    await everywhere(c)


@on_cluster
async def test_cordoned_nodes_keep_their_daemons_and_min_ready_seconds_delay_availability(c):
    await c.create(daemon(minReadySeconds=50))
    status = await c.until_status("DaemonSet", "agent", lambda s: s.get("numberReady") == 3)
    assert status["numberUnavailable"] == 3
    nodes = c.client.resource("v1", "nodes")
    await nodes.patch("node-0", {"spec": {"unschedulable": True}})
    try:
        await c.cluster.advance(55)
        await everywhere(c)
    finally:
        await nodes.patch("node-0", {"spec": {"unschedulable": None}})
