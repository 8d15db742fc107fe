"""The endpoints of `kube-dns` in a real API server: what the DNS processes of several nodes make of it together."""

import asyncio

from peavine.base.lifetimes import scope
from peavine.client import InformerFactory
from peavine.dns.publish import Publisher
from peavine.testing.cluster import AsyncCluster


def node(name, ready):
    status = {"type": "Ready", "status": "True" if ready else "Unknown", "reason": "x", "message": ""}
    return {"metadata": {"name": name}, "status": {"conditions": [status]}}


def running(work):
    async def main():
        async with AsyncCluster(controllers=[], scheduler=False, nodes=0) as cluster, scope() as tasks:
            nodes = cluster.client.resource("v1", "nodes")
            await nodes.create({"metadata": {"name": "one"}})
            await nodes.create({"metadata": {"name": "two"}})
            await say(cluster.client, "one", True)
            await say(cluster.client, "two", True)
            publishers = []
            for name, address in (("one", "10.0.0.1"), ("two", "10.0.0.2")):
                informers = InformerFactory(cluster.client)
                publisher = Publisher(informers, name, address, 10053, "192.168.0.2")
                publishers.append(publisher)
                tasks.start(informers.run())
                tasks.start(publisher.run())
            await until(cluster.client, {"10.0.0.1": "ready", "10.0.0.2": "ready"})
            await work(cluster.client, publishers)

    asyncio.run(main())


async def say(client, name, ready):
    await client.resource("v1", "nodes").patch(name, node(name, ready), type="merge", subresource="status")


async def until(client, wanted):
    """Returns once the slices of kube-dns say this: address to `ready`, `last resort` or `out`."""
    slices = client.resource("discovery.k8s.io/v1", "endpointslices")
    found = None
    async with asyncio.timeout(30):
        while found != wanted:
            await asyncio.sleep(0.02)
            listed = await slices.list("kube-system", label_selector="kubernetes.io/service-name=kube-dns")
            found = {e["addresses"][0]: state(e["conditions"]) for s in listed["items"] for e in s["endpoints"]}


def state(conditions):
    if conditions["ready"]:
        return "ready"
    return "last resort" if conditions["serving"] and conditions["terminating"] else "out"


def test_the_endpoint_of_a_lost_node_is_the_last_resort_until_the_node_is_back():
    async def work(client, _):
        await say(client, "two", False)
        await until(client, {"10.0.0.1": "ready", "10.0.0.2": "last resort"})
        await say(client, "two", True)
        await until(client, {"10.0.0.1": "ready", "10.0.0.2": "ready"})

    running(work)


def test_the_endpoint_of_a_node_that_was_deleted_goes():
    async def work(client, _):
        slices = client.resource("discovery.k8s.io/v1", "endpointslices")
        # Left by a process that is no more.
        old = await slices.get("kube-dns-two", "kube-system")
        meta = {"name": "kube-dns-three", "namespace": "kube-system", "labels": old["metadata"]["labels"]}
        gone = [{**old["endpoints"][0], "addresses": ["10.0.0.3"], "nodeName": "three"}]
        await client.resource("v1", "nodes").create({"metadata": {"name": "three"}})
        await slices.create({**old, "metadata": meta, "endpoints": gone}, "kube-system")
        await until(client, {"10.0.0.1": "ready", "10.0.0.2": "ready", "10.0.0.3": "ready"})
        await client.resource("v1", "nodes").delete("three")
        await until(client, {"10.0.0.1": "ready", "10.0.0.2": "ready"})

    running(work)


def test_a_service_with_a_selector_belongs_to_somebody_else():
    async def work(client, publishers):
        services = client.resource("v1", "services")
        slices = client.resource("discovery.k8s.io/v1", "endpointslices")
        await services.patch("kube-dns", {"spec": {"selector": {"k8s-app": "coredns"}}}, "kube-system", type="merge")
        await slices.delete("kube-dns-two", "kube-system")
        for publisher in publishers:
            await publisher.publish()
        listed = await slices.list("kube-system", label_selector="kubernetes.io/service-name=kube-dns")
        assert [(s["metadata"]["name"], state(s["endpoints"][0]["conditions"])) for s in listed["items"]] == [
            ("kube-dns-one", "ready")
        ]

    running(work)
