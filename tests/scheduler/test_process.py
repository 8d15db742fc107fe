"""The scheduler's process against the API server's process, killed again and again."""

import asyncio
import socket
import subprocess
import sys
import time

import pytest

from peavine.client import Client
from peavine.client.rest import wait_ready
from peavine.machinery.errors import ApiError

NODES, PODS_A_NODE, KILLS = 20, 10, 5


def _start(*args, log):
    return subprocess.Popen([sys.executable, "-m", "peavine.cmd.main", *args], stdout=log, stderr=log)


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _node(name):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def _pod(name):
    container = {"name": "c", "image": "pause", "resources": {"requests": {"cpu": "1"}}}
    spec = {"containers": [container], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def follow(pods, version, places):
    async for _, pod in pods.watch("default", resource_version=version):
        if node := pod.get("spec", {}).get("nodeName"):
            places.setdefault(pod["metadata"]["name"], set()).add(node)


async def seen(places, bound, following):
    """Wait until the watch has told of all of them, then end it."""
    while len(places) < len(bound):
        await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.wait({following})


@pytest.mark.slow
def test_a_scheduler_that_is_killed_at_any_point_loses_no_pod_and_overfills_no_node(tmp_path):
    async def main(client, start):
        await wait_ready(client)
        try:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            await client.resource("v1", "serviceaccounts").create(account, "default")
        except ApiError as error:
            assert error.code == 409
        nodes, pods = client.resource("v1", "nodes"), client.resource("v1", "pods")
        for n in range(NODES):
            await nodes.create(_node(f"n{n}"))
            room = {"cpu": str(PODS_A_NODE), "memory": "8Gi", "pods": "110"}
            await nodes.patch(f"n{n}", {"status": {"allocatable": room, "capacity": room}}, subresource="status")
            await nodes.patch(f"n{n}", {"spec": {"taints": None}})
        number = NODES * PODS_A_NODE
        places = {}  # of each pod, every node that it was ever seen on
        version = (await pods.list("default"))["metadata"]["resourceVersion"]
        following = asyncio.ensure_future(follow(pods, version, places))
        scheduler = start()
        created = asyncio.gather(*(pods.create(_pod(f"p{n}"), "default") for n in range(number)))
        for kill in range(KILLS):
            while True:  # let it do some work, then kill it in the middle
                await asyncio.sleep(0.02)
                items = (await pods.list("default"))["items"]
                if sum("nodeName" in pod["spec"] for pod in items) >= number * (kill + 1) // (KILLS + 2):
                    break
            scheduler.kill()
            scheduler.wait()
            scheduler = start()
        await created
        deadline = time.monotonic() + 60
        bound = []
        while len(bound) < number and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            bound = [p for p in (await pods.list("default"))["items"] if p["spec"].get("nodeName")]
        scheduler.terminate()
        scheduler.wait(10)
        assert len(bound) == number
        await asyncio.wait_for(seen(places, bound, following), 60)
        assert {name: sorted(nodes) for name, nodes in places.items()} == {
            pod["metadata"]["name"]: [pod["spec"]["nodeName"]] for pod in bound
        }
        by_node = {}
        for pod in bound:
            by_node[pod["spec"]["nodeName"]] = by_node.get(pod["spec"]["nodeName"], 0) + 1
        assert by_node == {f"n{n}": PODS_A_NODE for n in range(NODES)}

    port = _free_port()
    with open(tmp_path / "log", "wb") as log:
        server = _start(
            *("apiserver", "--data-dir", str(tmp_path / "data"), "--secure-port", str(port)),
            *("--bind-address", "127.0.0.1"),
            log=log,
        )
        started = [server]

        def start():
            flags = ("--leader-elect=false", "--secure-port", "0")
            as_scheduler = tmp_path / "data" / "kubeconfigs" / "scheduler.kubeconfig"
            started.append(_start("scheduler", "--kubeconfig", str(as_scheduler), *flags, log=log))
            return started[-1]

        try:
            kubeconfig = tmp_path / "data" / "admin.kubeconfig"
            deadline = time.monotonic() + 60
            while not kubeconfig.exists():
                assert server.poll() is None and time.monotonic() < deadline, "the API server did not start"
                time.sleep(0.02)
            asyncio.run(main(Client.from_kubeconfig(kubeconfig), start))
        finally:
            for process in reversed(started):
                process.kill()
                process.wait(10)
