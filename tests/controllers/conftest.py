"""Controllers against a real API server in the same loop; pods "run" because the fake kubelet here says so."""

import asyncio
import contextlib

from peavine.base.lifetimes import scope
from peavine.client import Informer
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now
from peavine.testing import AsyncCluster


async def eventually(check, seconds=10.0, why=""):
    """The first true result of `check()`; looked at again and again until `seconds` have passed."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        result = check()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(why or f"not within {seconds} s")
        await asyncio.sleep(0.02)


class FakeNodes:
    """Binds every pod, marks it Running and Ready, ends it when it is deleted. `hold` names pods left Pending."""

    def __init__(self, client):
        self.pods = client.resource("v1", "pods")
        self.informer = Informer(self.pods)
        self.hold = lambda pod: False
        self.outcome = lambda pod: "Running"
        self._queue: asyncio.Queue = asyncio.Queue()
        self._address = 0

    async def run(self):
        self.informer.add_handler(self._queue.put_nowait, lambda old, new: self._queue.put_nowait(new))
        async with scope() as tasks:
            tasks.start(self.informer.run())
            while True:
                pod = await self._queue.get()
                with contextlib.suppress(ApiError):
                    await self._step(pod)

    async def _step(self, pod):
        meta, status = pod["metadata"], pod.get("status") or {}
        if "deletionTimestamp" in meta:
            await self.pods.delete(meta["name"], meta["namespace"], grace_period_seconds=0, uid=meta["uid"])
        elif status.get("phase", "Pending") == "Pending" and not self.hold(pod):
            self._address += 1
            ip = f"172.7.0.{self._address % 250 + 1}"
            phase = self.outcome(pod)
            ready = "True" if phase == "Running" else "False"
            conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": now()}]
            change = {"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
            await self.pods.patch(meta["name"], {"status": change}, meta["namespace"], subresource="status")


@contextlib.asynccontextmanager
async def cluster(*names, **options):
    """An API server with the named controllers (all unless named) and fake nodes: yields (client, nodes)."""
    wanted = (*names, "serviceaccount-controller") if names else True
    async with AsyncCluster(controllers=wanted, scheduler=False, nodes=0, **options) as running:
        nodes = FakeNodes(running.client)
        async with scope() as tasks:
            tasks.start(nodes.run())
            await eventually(lambda: _has_default_account(running.client))
            yield running.client, nodes


async def _has_default_account(client):
    """Pods are refused until the namespace has its ServiceAccount."""
    return (await client.resource("v1", "serviceaccounts").list("default"))["items"]


def workload(kind="Deployment", name="web", replicas=3, api_version="apps/v1", image="web:1", **spec):
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": image}]}}
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
    }
