import asyncio
import json

from peavine.controllers.history import template_patch
from tests.controllers.conftest import cluster, eventually, workload


def daemon_set(**spec):
    body = workload("DaemonSet", "agent", **spec)
    del body["spec"]["replicas"]
    return body


def node(name, labels=None, taints=None):
    spec = {"taints": taints} if taints else {}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


async def join(client, body):
    """A new node is tainted as not ready until it says otherwise: these are ready at once."""
    nodes = client.resource("v1", "nodes")
    await nodes.create(body)
    await nodes.patch(body["metadata"]["name"], {"spec": {"taints": body["spec"].get("taints")}})


def target(pod):
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0]


async def targets(client):
    pods = (await client.resource("v1", "pods").list("default"))["items"]
    return sorted(target(p) for p in pods if "deletionTimestamp" not in p["metadata"])


async def on(client, wanted):
    return await targets(client) == wanted


def test_every_node_that_fits_gets_one_pod_as_nodes_come_and_go():
    async def main():
        async with cluster("daemonset-controller") as (client, _):
            nodes = client.resource("v1", "nodes")
            taint = {"key": "special", "value": "yes", "effect": "NoSchedule"}
            for body in (node("one"), node("two"), node("tainted", taints=[taint])):
                await join(client, body)
            await client.resource("apps/v1", "daemonsets").create(daemon_set())
            await eventually(lambda: on(client, ["one", "two"]))
            await join(client, node("three"))
            await eventually(lambda: on(client, ["one", "three", "two"]))
            await nodes.delete("one")
            await eventually(lambda: on(client, ["three", "two"]))

            async def status():
                s = (await client.resource("apps/v1", "daemonsets").get("agent", "default"))["status"]
                return s if s.get("numberReady") == 2 and s["desiredNumberScheduled"] == 2 else None

            seen = await eventually(status)
            assert seen["currentNumberScheduled"] == 2
            assert seen["numberMisscheduled"] == 0

    asyncio.run(main())


def test_a_node_selector_is_followed_when_labels_change():
    async def main():
        async with cluster("daemonset-controller") as (client, _):
            nodes = client.resource("v1", "nodes")
            await join(client, node("one", {"disk": "ssd"}))
            await join(client, node("two"))
            body = daemon_set()
            body["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "ssd"}
            await client.resource("apps/v1", "daemonsets").create(body)
            await eventually(lambda: on(client, ["one"]))
            await nodes.patch("two", {"metadata": {"labels": {"disk": "ssd"}}})
            await eventually(lambda: on(client, ["one", "two"]))
            await nodes.patch("one", {"metadata": {"labels": {"disk": None}}})
            await eventually(lambda: on(client, ["two"]))

    asyncio.run(main())


def test_a_rolling_update_replaces_one_node_at_a_time():
    async def main():
        async with cluster("daemonset-controller") as (client, nodes_):
            for name in ("one", "two", "three"):
                await join(client, node(name))
            sets = client.resource("apps/v1", "daemonsets")
            await sets.create(daemon_set())
            await eventually(lambda: _available(sets, 3))
            lowest = [3]

            def alive(_):
                pods = nodes_.informer.list("default")
                lowest.append(sum("deletionTimestamp" not in p["metadata"] for p in pods))

            nodes_.informer.add_handler(updated=lambda old, new: alive(new), deleted=alive)
            change = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}}}
            await sets.patch("agent", change, "default", type="strategic")
            await eventually(lambda: _updated(client, sets, 3))
            assert min(lowest) >= 2

    asyncio.run(main())


async def _available(sets, count):
    status = (await sets.get("agent", "default")).get("status") or {}
    return status.get("numberAvailable") == count


async def _updated(client, sets, count):
    obj = await sets.get("agent", "default")
    status = obj["status"]
    pods = (await client.resource("v1", "pods").list("default"))["items"]
    return (
        status.get("observedGeneration") == obj["metadata"]["generation"]
        and status.get("updatedNumberScheduled") == status.get("numberAvailable") == count
        and {p["spec"]["containers"][0]["image"] for p in pods} == {"web:2"}
    )


def test_a_revisions_data_has_its_keys_in_order_as_clients_in_go_compare_bytes():
    template = {"spec": {"hostNetwork": True, "containers": [{"name": "c", "image": "i"}]}, "metadata": {"labels": {}}}
    patch = json.dumps(template_patch({"spec": {"template": template}}))
    assert patch == json.dumps(json.loads(patch), sort_keys=True)
