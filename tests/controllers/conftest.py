"""Controllers against a real API server in the same loop; pods "run" because the fake kubelet here says so."""

import asyncio
import contextlib
import functools
import inspect
import os
import threading

import pytest

from peavine.base.lifetimes import scope
from peavine.client import Informer
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now
from peavine.testing import AsyncCluster


async def eventually(check, seconds=60.0, why=""):
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


class Case:
    """One test's view of the shared cluster: a namespace of its own."""

    def __init__(self, cluster, namespace):
        self.cluster, self.client, self.namespace = cluster, cluster.client, namespace
        self.recorded = cluster.requests

    def resource(self, obj_or_kind):
        kind = obj_or_kind if isinstance(obj_or_kind, str) else obj_or_kind["kind"]
        api_version = next((v for v, kinds in KINDS.items() if kind in kinds), "v1")
        plural = kind.lower() + ("es" if kind.endswith("s") else "s")
        return self.client.resource(api_version, plural)

    async def create(self, obj):
        return await self.resource(obj).create({**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}})

    async def get(self, kind, name):
        return await self.resource(kind).get(name, self.namespace)

    async def status(self, kind, name):
        return (await self.get(kind, name)).get("status") or {}

    async def list(self, kind, selector=""):
        return (await self.resource(kind).list(self.namespace, label_selector=selector))["items"]

    async def pods(self, selector=""):
        return await self.list("Pod", selector)

    async def patch(self, kind, name, patch, **more):
        return await self.resource(kind).patch(name, patch, self.namespace, **more)

    async def delete(self, kind, name, **more):
        return await self.resource(kind).delete(name, self.namespace, **more)

    async def messages(self, reason, name=""):
        """What events of this reason say (about `name`)."""
        found = await self.list("Event")
        return [e["message"] for e in found if e["reason"] == reason and e["involvedObject"]["name"].startswith(name)]

    async def until(self, check, why=""):
        """The first true result of `check()`, which may be a coroutine."""
        return await eventually(check, 60.0, why)

    async def until_status(self, kind, name, check):
        """The status of an object once `check(status)` holds."""

        async def met():
            seen[0] = await self.status(kind, name)
            return seen[0] if check(seen[0]) else None

        seen = [{}]
        try:
            return await eventually(met, 60.0)
        except AssertionError:
            raise AssertionError(f"{kind} {name}: {seen[0]}") from None

    async def until_true(self, kind, name, type_):
        """The condition of this type once it is True."""
        status = await self.until_status(kind, name, lambda status: type_ in true_conditions(status))
        return next(c for c in status["conditions"] if c["type"] == type_)


KINDS = {
    "apps/v1": ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ControllerRevision"),
    "batch/v1": ("Job", "CronJob"),
    "policy/v1": ("PodDisruptionBudget",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "resource.k8s.io/v1": ("ResourceClaim", "ResourceClaimTemplate"),
}


def true_conditions(status):
    return {c["type"] for c in status.get("conditions") or () if c["status"] == "True"}


# Whether a simulated container is ready is asked of it only where it is probed.
PROBED = {"readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1}}

STORAGE_CLASS = {
    "metadata": {"name": "local-path", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "peavine.io/local-path",
    "volumeBindingMode": "WaitForFirstConsumer",
    "allowVolumeExpansion": True,
}


class World:
    """A cluster with every controller, the scheduler and three simulated nodes, in a thread and a loop of its own."""

    def __init__(self, **options):
        self._options = {"nodes": 3, **options}
        self._ready, self._failed = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            raise self._failed

    async def _live(self):
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with AsyncCluster(**self._options) as self._cluster:
                await self._cluster.client.resource("storage.k8s.io/v1", "storageclasses").create(STORAGE_CLASS)
                self._ready.set()
                await self._end.wait()
        except BaseException as error:
            self._failed = error
            self._ready.set()

    def run(self, test, **given):
        if self._failed is not None:
            raise AssertionError("the shared cluster ended") from self._failed
        asyncio.run_coroutine_threadsafe(self._in_namespace(test, given), self._loop).result()

    async def _in_namespace(self, test, given):
        name = f"t-{os.urandom(4).hex()}"
        await self._cluster.create_namespace(name)
        try:
            await test(Case(self._cluster, name), **given)
        finally:
            await self._cluster.client.resource("v1", "namespaces").delete(name)

    def stop(self):
        if self._failed is None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.fixture(scope="session")
def world():
    shared = World()
    yield shared
    shared.stop()


def on_cluster(test):
    """Makes a test of `async def test_...(c: Case)`, run on the shared cluster."""

    @functools.wraps(test)
    def run(world, **given):
        world.run(test, **given)

    names = [p for p in inspect.signature(test).parameters.values() if p.name != "c"]
    kept = [p.replace(kind=p.KEYWORD_ONLY) for p in names]
    world = inspect.Parameter("world", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = inspect.Signature([world, *kept])
    return run
