"""Pods a second, on upstream's scheduler_perf workloads (same names, 5,000 nodes unless the name says otherwise).

python bench/scheduler.py                       all workloads, against an API server in this process
python bench/scheduler.py SchedulingBasic ...   some of them
python bench/scheduler.py --api [NAME ...]      against an API server process (SQLite, TLS) and a scheduler process
python bench/scheduler.py --api --burst NAME    the same, but the pods are created while the scheduler runs
--scale 0.2                                     a fifth of the nodes and pods
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scheduler_api import against_api, memory_peak_kb, memory_with_api
from scheduler_workloads import WORKLOADS, Workload, csi_node, node, pod, spreading, volume_of

from peavine.base.lifetimes import scope
from peavine.scheduler.scheduler import Scheduler
from tests.scheduler.fake_api import FakeApi

Object = dict[str, Any]


def with_volume(api: FakeApi, obj: Object) -> Object:
    volume, claim = volume_of(obj)
    api.put("persistentvolumes", volume)
    api.put("persistentvolumeclaims", claim)
    return obj


async def in_memory(name: str, workload: Workload, scale: float) -> str:
    api = FakeApi()
    nodes = int(workload.nodes * scale)
    for n in range(nodes):
        api.put("nodes", node(n, workload.zones))
        if workload.volumes:
            api.put("csinodes", csi_node(f"scheduler-perf-{n}"))
    for n in range(workload.hopeless):
        api.put("pods", pod(cpu="9", memory="500Gi", labels={"n": str(n)}))
    prepare = (lambda obj: with_volume(api, obj)) if workload.volumes else (lambda obj: obj)
    async with scope() as tasks:
        scheduler = Scheduler(api)  # type: ignore[arg-type]
        tasks.start(scheduler.run())
        before = [prepare(obj) for obj in workload.before(scale)]
        await _run(api, before)
        if workload.churn:
            tasks.start(_churn(api))
        measured = [prepare(obj) for obj in workload.pods(scale)]
        await asyncio.sleep(0.2)
        started, cpu = time.perf_counter(), time.process_time()
        await _run(api, measured)
        took, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(
            f"{name:32} {len(measured) / took:8.0f} pods/s ({len(measured) / cpu:.0f} a second of CPU)   goal "
            f"{workload.goal:5}   upstream's threshold {workload.upstream:5}   {nodes} nodes, {len(before)} + "
            f"{len(measured)} pods in {took:.1f} s, {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB",
            flush=True,
        )
    return ""


async def _run(api: FakeApi, pods: list[Object]) -> None:
    """Create pods and return once all of these are bound."""
    waiting = {obj["metadata"]["name"] for obj in pods}
    done = asyncio.Event()

    def bound(name: str) -> None:
        waiting.discard(name)
        if not waiting:
            done.set()

    if not pods:
        return
    api.on_bound = bound
    for n, obj in enumerate(pods):
        api.put("pods", obj)
        if n % 100 == 99:
            await asyncio.sleep(0)
    await done.wait()


async def _churn(api: FakeApi) -> None:
    """Nodes, pods that fit nowhere, and Services come and go, one of each a second."""
    for n in itertools.count():
        api.put("nodes", node(1_000_000 + n % 2))
        api.put(
            "services", {"metadata": {"name": f"s{n % 2}", "namespace": "default"}, "spec": {"selector": {"a": str(n)}}}
        )
        api.put("pods", pod(cpu="9", priority=10))
        await asyncio.sleep(1)
        api.remove("nodes", f"scheduler-perf-{1_000_000 + n % 2}")


def memory(scale: float) -> None:
    """What the scheduler keeps of 5,000 nodes and 50,000 running pods, as they come over the wire."""
    scheduler = Scheduler(FakeApi())  # type: ignore[arg-type]
    before = memory_peak_kb(os.getpid())
    for n in range(int(5000 * scale)):
        scheduler.intake._nodes._put(orjson.loads(orjson.dumps(node(n, ("a", "b", "c")))))
    for n in range(int(50_000 * scale)):
        obj = pod(labels={"app": f"app-{n % 500}", "pod-template-hash": f"{n % 500:x}"})
        obj["metadata"] |= {"uid": f"{n:036}", "resourceVersion": str(n), "creationTimestamp": "2026-01-01T00:00:00Z"}
        obj["metadata"]["managedFields"] = [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:phase": {}}}}]
        obj["spec"]["containers"][0]["env"] = [{"name": f"V{i}", "value": "x" * 30} for i in range(10)]
        obj["spec"]["nodeName"] = f"scheduler-perf-{n % int(5000 * scale)}"
        obj["status"] = {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready"}] * 4}
        scheduler.intake._pods._put(orjson.loads(orjson.dumps(obj)))
    evaluation = scheduler.evaluations.of(
        scheduler.profiles["default-scheduler"], scheduler.templates.of(spreading())[0]
    )
    evaluation.best()
    after = memory_peak_kb(os.getpid())
    print(
        f"{'Memory':32} {after // 1024:8} MB for {len(scheduler.cluster.nodes)} nodes, {len(scheduler.cluster.pods)} "
        f"pods (goal 600); {before // 1024} MB when empty"
    )


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*")
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--api", action="store_true")
    options.add_argument("--burst", action="store_true")
    args = options.parse_args()
    names = args.names or [*WORKLOADS, "Memory"]
    for name in names:
        if args.api and name == "Memory":
            await memory_with_api(args.scale)
        elif args.api:
            await against_api(name, WORKLOADS[name], args.scale, burst=args.burst)
        elif len(names) > 1:  # each in a process of its own: the memory is its own too
            again = [sys.executable, __file__, name, "--scale", str(args.scale)]
            await (await asyncio.create_subprocess_exec(*again)).wait()
        elif name == "Memory":
            memory(args.scale)
        else:
            await in_memory(name, WORKLOADS[name], args.scale)


if __name__ == "__main__":
    gc.set_threshold(50_000, 20, 50)  # as every process of Peavine has it
    uvloop.run(main())
