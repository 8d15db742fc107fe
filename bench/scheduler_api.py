"""A workload against real processes: an API server (TLS, SQLite with fsync, RBAC, fairness, admission) and a scheduler.

The pods that come first, and those that are measured, are created while no scheduler runs; then one is started, and the
measured ones are counted from the first that is bound to the last: the pace of scheduling, creation not in it. With
`burst` the scheduler runs from the start and the time counts from the first creation.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scheduler_workloads import Workload, csi_node, node, pod, volume_of

from peavine.client import Client
from peavine.client.rest import wait_ready

Object = dict[str, Any]
AT_ONCE = 64
# As upstream's harness: no controllers run that these plugins count on.
_WITHOUT = "ServiceAccount,TaintNodesByCondition,Priority"


def memory_kb(pid: int, which: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(which)))


def memory_peak_kb(pid: int) -> int:
    return memory_kb(pid, "VmHWM")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def against_api(name: str, workload: Workload, scale: float, *, burst: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        async with _process("apiserver", "--data-dir", folder, "--secure-port", "0", *_SERVER) as server:
            client = await _connected(data, server)
            run = _Run(client, str(data / "kubeconfigs" / "scheduler.kubeconfig"), workload, scale, server.pid)
            took, number = await run.burst() if burst else await run.backlog()
            print(
                f"{name:32} {number / took:8.0f} pods/s   goal {workload.goal:5}   upstream's threshold "
                f"{workload.upstream:5}   {number} pods in {took:.1f} s{' from their creation' if burst else ''}; "
                f"CPU a pod: scheduler {run.scheduler_cpu / number * 1e6:.0f} us, API server "
                f"{run.server_cpu / number * 1e6:.0f} us; scheduler {run.scheduler_kb // 1024} MB, API server "
                f"{memory_peak_kb(server.pid) // 1024} MB",
                flush=True,
            )
            client.close()


async def memory_with_api(scale: float) -> None:
    """What a scheduler process takes that finds 5,000 nodes and 50,000 running pods."""
    nodes, running = int(5000 * scale), int(50_000 * scale)
    with tempfile.TemporaryDirectory() as folder:
        async with _process("apiserver", "--data-dir", folder, "--secure-port", "0", *_SERVER) as server:
            client = await _connected(Path(folder), server)
            kubeconfig = str(Path(folder) / "kubeconfigs" / "scheduler.kubeconfig")
            workload = Workload(0, 0, lambda _: iter(()))
            run = _Run(client, kubeconfig, workload, scale, server.pid)
            await run._nodes()
            pods = []
            for n in range(running):
                labels = {"app": f"app-{n % 500}", "pod-template-hash": f"{n % 500:x}"}
                pods.append(pod(labels=labels, nodeName=f"scheduler-perf-{n % nodes}"))
            await run._create(pods)
            version = await run._version()
            last = pod()
            async with run._scheduler() as process:
                started = time.perf_counter()
                await run._create([last])
                await run._bound({last["metadata"]["name"]}, version)
                took, most = time.perf_counter() - started, memory_peak_kb(process.pid) // 1024
                print(
                    f"{'Memory':32} {memory_kb(process.pid, 'VmRSS') // 1024:8} MB ({most} at most) for {nodes} nodes, "
                    f"{running} pods (goal 600); the first pod is bound after {took:.1f} s; API server "
                    f"{memory_peak_kb(server.pid) // 1024} MB"
                )
            client.close()


async def _connected(data: Path, server: Any) -> Client:
    kubeconfig = data / "admin.kubeconfig"
    while not kubeconfig.exists():
        assert server.returncode is None, "the API server did not start"
        await asyncio.sleep(0.05)
    client = Client.from_kubeconfig(kubeconfig)
    await wait_ready(client)
    return client


_SERVER = ("--bind-address", "127.0.0.1", "--disable-admission-plugins", _WITHOUT)


@contextlib.asynccontextmanager
async def _process(component: str, *flags: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "peavine.cmd.main", component, *flags, "-v", "0"
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class _Run:
    def __init__(self, client: Client, scheduler: str, workload: Workload, scale: float, server: int) -> None:
        self.client, self.scheduler, self.workload, self.scale = client, scheduler, workload, scale
        self.server = server
        self.scheduler_cpu = self.server_cpu = 0.0
        self.scheduler_kb = 0
        self.pods = client.resource("v1", "pods")

    async def backlog(self) -> tuple[float, int]:
        await self._nodes()
        before = list(self.workload.before(self.scale))
        # What comes first is scheduled first, and not measured.
        await self._create(before)
        if before:
            async with self._scheduler():
                await self._bound({obj["metadata"]["name"] for obj in before}, await self._version())
        version = await self._version()
        measured = list(self.workload.pods(self.scale))
        await self._create(measured)
        async with self._scheduler() as process:
            names = {obj["metadata"]["name"] for obj in measured}
            churn = asyncio.ensure_future(self._churn()) if self.workload.churn else None
            first, last = await self._bound(names, version, process.pid)
            if churn is not None:
                churn.cancel()
            return last - first, len(measured)

    async def burst(self) -> tuple[float, int]:
        await self._nodes()
        async with self._scheduler() as process:
            before = list(self.workload.before(self.scale))
            version = await self._version()
            await self._create(before)
            if before:
                await self._bound({obj["metadata"]["name"] for obj in before}, version)
            version = await self._version()
            measured = list(self.workload.pods(self.scale))
            started = time.perf_counter()
            creating = asyncio.ensure_future(self._create(measured))
            _, last = await self._bound({obj["metadata"]["name"] for obj in measured}, version, process.pid)
            await creating
            return last - started, len(measured)

    def _scheduler(self) -> Any:
        return _process("scheduler", "--kubeconfig", self.scheduler, "--leader-elect=false", "--secure-port", "0")

    async def _version(self) -> str:
        return str((await self.pods.list("default", limit=1))["metadata"]["resourceVersion"])

    async def _nodes(self) -> None:
        number = int(self.workload.nodes * self.scale)
        nodes = [node(n, self.workload.zones) for n in range(number)]
        await self._put("v1", "nodes", nodes)
        if self.workload.volumes:
            made = [csi_node(obj["metadata"]["name"]) for obj in nodes]
            await self._put("storage.k8s.io/v1", "csinodes", made)
        hopeless = [pod(cpu="9", memory="500Gi", labels={"n": str(n)}) for n in range(self.workload.hopeless)]
        await self._put("v1", "pods", hopeless)

    async def _create(self, pods: list[Object]) -> None:
        if self.workload.volumes:
            made = [volume_of(obj) for obj in pods]
            await self._put("v1", "persistentvolumes", [volume for volume, _ in made])
            claims = [claim for _, claim in made]
            await self._put("v1", "persistentvolumeclaims", claims)
            patches = [(claim["metadata"]["name"], {"status": {"phase": "Bound"}}) for claim in claims]
            resource = self.client.resource("v1", "persistentvolumeclaims")
            await _at_once(resource.patch(name, patch, "default", subresource="status") for name, patch in patches)
        await self._put("v1", "pods", pods)

    async def _put(self, api_version: str, plural: str, objects: Iterable[Object]) -> None:
        resource = self.client.resource(api_version, plural)
        await _at_once(resource.create(obj) for obj in objects)

    async def _bound(self, names: set[str], version: str, scheduler: int = 0) -> tuple[float, float]:
        """When the first of these pods was bound, and when the last; and what that took of whom."""
        waiting, first, now, before = set(names), 0.0, 0.0, (0.0, 0.0)
        async for _, obj in self.pods.watch("default", resource_version=version):
            if obj.get("spec", {}).get("nodeName") and obj["metadata"]["name"] in waiting:
                now = time.perf_counter()
                if not first and scheduler:
                    before = cpu_seconds(scheduler), cpu_seconds(self.server)
                first = first or now
                waiting.discard(obj["metadata"]["name"])
                if not waiting:
                    break
        if scheduler:
            self.scheduler_cpu = cpu_seconds(scheduler) - before[0]
            self.server_cpu = cpu_seconds(self.server) - before[1]
            self.scheduler_kb = memory_peak_kb(scheduler)
        return first, now

    async def _churn(self) -> None:
        """A node, a pod that fits nowhere and a Service come each second; the node goes again."""
        for n in itertools.count():
            await self._put("v1", "nodes", [node(1_000_000 + n)])
            port = {"port": 80, "targetPort": 80}
            spec = {"selector": {"app": f"churn-{n}"}, "ports": [port]}
            meta = {"name": f"churn-{n}", "namespace": "default"}
            service = {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
            await self._put("v1", "services", [service])
            await self._put("v1", "pods", [pod(cpu="9", priority=10)])
            await asyncio.sleep(1)
            await self.client.resource("v1", "nodes").delete(f"scheduler-perf-{1_000_000 + n}")


async def _at_once(calls: Iterable[Any]) -> None:
    """Await all of them, some at a time."""
    rest = iter(calls)

    async def work() -> None:
        for call in rest:
            await call

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
