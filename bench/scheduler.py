"""Pods a second, on upstream's scheduler_perf workloads (same names, 5,000 nodes unless the name says otherwise).

python bench/scheduler.py                          all workloads, against an API server in this process
python bench/scheduler.py SchedulingBasic ...      some of them
python bench/scheduler.py --api KUBECONFIG NAME    against a real API server that is empty: pods are created first,
                                                   then a scheduler process is started and timed
--scale 0.2                                        a fifth of the nodes and pods
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peavine.base.lifetimes import scope
from peavine.client import Client
from peavine.client.rest import wait_ready
from peavine.machinery.errors import ApiError
from peavine.scheduler.scheduler import Scheduler
from tests.scheduler.fake_api import FakeApi

Object = dict[str, Any]
ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
REQUIRED, PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)


def node(n: int, zones: tuple[str, ...] = ()) -> Object:
    name = f"scheduler-perf-{n}"
    labels = {HOSTNAME: name} | ({ZONE: zones[n % len(zones)]} if zones else {})
    room = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": room, "capacity": room},
    }


_numbers = itertools.count()


def pod(cpu: str = "100m", memory: str = "500Mi", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    name = f"pod-{next(_numbers)}"
    container = {"name": "pause", "image": "registry.k8s.io/pause:3.10.1", "ports": [{"containerPort": 80}]}
    amounts = {"cpu": cpu, "memory": memory}
    container["resources"] = {"requests": amounts, "limits": amounts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def _term(color: str, key: str) -> Object:
    return {"labelSelector": {"matchLabels": {"color": color}}, "topologyKey": key}


def anti_affinity() -> Object:
    return pod(labels={"color": "green"}, affinity={"podAntiAffinity": {REQUIRED: [_term("green", HOSTNAME)]}})


def affinity() -> Object:
    return pod(labels={"color": "blue"}, affinity={"podAffinity": {REQUIRED: [_term("blue", ZONE)]}})


def preferred_affinity() -> Object:
    term = [{"weight": 1, "podAffinityTerm": _term("red", HOSTNAME)}]
    return pod(labels={"color": "red"}, affinity={"podAffinity": {PREFERRED: term}})


def preferred_anti_affinity() -> Object:
    term = [{"weight": 1, "podAffinityTerm": _term("yellow", HOSTNAME)}]
    return pod(labels={"color": "yellow"}, affinity={"podAntiAffinity": {PREFERRED: term}})


def node_affinity() -> Object:
    expression = {"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}
    return pod(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}})


def spreading() -> Object:
    constraint = {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"color": "blue"}}
    return pod(labels={"color": "blue"}, topologySpreadConstraints=[constraint])


def daemon(n: int) -> Object:
    field_ = {"key": "metadata.name", "operator": "In", "values": [f"scheduler-perf-{n}"]}
    term = {"nodeSelectorTerms": [{"matchFields": [field_]}]}
    return pod(cpu="10m", memory="20Mi", affinity={"nodeAffinity": {REQUIRED: term}})


def many(make: Callable[[], Object], number: int) -> Iterator[Object]:
    return (make() for _ in range(number))


@dataclass
class Workload:
    goal: int
    upstream: int
    pods: Callable[[float], Iterator[Object]]
    before: Callable[[float], Iterator[Object]] = lambda scale: iter(())
    zones: tuple[str, ...] = ()
    nodes: int = 5000
    churn: bool = False
    volumes: bool = False
    hopeless: int = 0  # pods that fit nowhere, there from the start
    notes: list[str] = field(default_factory=list)


def _all_kinds(scale: float) -> Iterator[Object]:
    n = int(1000 * scale)
    for make in (pod, affinity, preferred_affinity, preferred_anti_affinity):
        yield from many(make, n)


WORKLOADS = {
    "SchedulingBasic": Workload(3000, 680, lambda s: many(pod, int(10000 * s)), lambda s: many(pod, int(1000 * s))),
    "SchedulingPodAntiAffinity": Workload(
        1000, 60, lambda s: many(anti_affinity, int(2000 * s)), lambda s: many(anti_affinity, int(1000 * s))
    ),
    "SchedulingPodAffinity": Workload(
        1000, 35, lambda s: many(affinity, int(5000 * s)), lambda s: many(affinity, int(5000 * s)), ("zone1",)
    ),
    "PreferredPodAffinity": Workload(
        1000, 90, lambda s: many(preferred_affinity, int(5000 * s)), lambda s: many(preferred_affinity, int(5000 * s))
    ),
    "SchedulingNodeAffinity": Workload(
        2000,
        220,
        lambda s: many(node_affinity, int(10000 * s)),
        lambda s: many(node_affinity, int(5000 * s)),
        ("zone1",),
    ),
    "TopologySpreading": Workload(
        1500,
        460,
        lambda s: many(spreading, int(5000 * s)),
        lambda s: many(pod, int(5000 * s)),
        ("moon-1", "moon-2", "moon-3"),
    ),
    "MixedSchedulingBasePod": Workload(1000, 140, lambda s: many(pod, int(5000 * s)), _all_kinds, ("zone1",)),
    "PreemptionAsync": Workload(
        800,
        570,
        lambda s: many(lambda: pod(cpu="3000m", priority=10), int(5000 * s)),
        lambda s: many(lambda: pod(cpu="900m"), int(20000 * s)),
    ),
    "Unschedulable": Workload(2000, 590, lambda s: many(pod, int(10000 * s)), hopeless=200),
    "SchedulingWithMixedChurn": Workload(2000, 710, lambda s: many(pod, int(10000 * s)), churn=True),
    "SchedulingCSIPVs": Workload(
        500, 100, lambda s: many(pod, int(5000 * s)), lambda s: many(pod, int(5000 * s)), volumes=True
    ),
    "SchedulingDaemonset/15000Nodes": Workload(
        3000, 1100, lambda s: (daemon(n) for n in range(int(15000 * s))), nodes=15000
    ),
}


def with_volume(api: FakeApi, obj: Object) -> Object:
    """As upstream's CSI workload: each pod has a claim of its own, bound to a volume of its own."""
    name = obj["metadata"]["name"]
    driver = {"driver": "ebs.csi.aws.com", "volumeHandle": name}
    api.put(
        "persistentvolumes",
        {
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "capacity": {"storage": "1Gi"},
                "csi": driver,
                "claimRef": {"namespace": "default", "name": name},
            },
        },
    )
    api.put(
        "persistentvolumeclaims",
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "annotations": {"pv.kubernetes.io/bind-completed": "true"},
            },
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": name,
            },
            "status": {"phase": "Bound"},
        },
    )
    obj["spec"]["volumes"] = [{"name": "vol", "persistentVolumeClaim": {"claimName": name}}]
    return obj


async def in_memory(name: str, workload: Workload, scale: float) -> str:
    api = FakeApi()
    nodes = int(workload.nodes * scale)
    for n in range(nodes):
        api.put("nodes", node(n, workload.zones))
        if workload.volumes:
            drivers = [{"name": "ebs.csi.aws.com", "allocatable": {"count": 39}}]
            api.put("csinodes", {"metadata": {"name": f"scheduler-perf-{n}"}, "spec": {"drivers": drivers}})
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
        started = time.perf_counter()
        await _run(api, measured)
        took = time.perf_counter() - started
        print(
            f"{name:32} {len(measured) / took:8.0f} pods/s   goal {workload.goal:5}   upstream's threshold "
            f"{workload.upstream:5}   {nodes} nodes, {len(before)} + {len(measured)} pods in {took:.1f} s, "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB",
            flush=True,
        )
    return ""


async def _run(api: FakeApi, pods: list[Object]) -> None:
    """Create pods and return once all of these are bound."""
    waiting = {obj["metadata"]["name"] for obj in pods}
    watch = api.resource("v1", "pods").watch(resource_version="0")

    async def follow() -> None:
        async for _, obj in watch:
            if obj["spec"].get("nodeName"):
                waiting.discard(obj["metadata"]["name"])
                if not waiting:
                    return

    if not pods:
        return
    async with scope() as tasks:
        following = tasks.start(follow())
        await asyncio.sleep(0)
        for n, obj in enumerate(pods):
            api.put("pods", obj)
            if n % 100 == 99:
                await asyncio.sleep(0)
        await following
    await watch.aclose()


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


async def against_api(name: str, workload: Workload, scale: float, kubeconfig: str) -> None:
    client = Client.from_kubeconfig(kubeconfig)
    await wait_ready(client)
    gate = asyncio.Semaphore(32)
    nodes, pods = client.resource("v1", "nodes"), client.resource("v1", "pods")

    # No controller runs here that would make it.
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    with contextlib.suppress(ApiError):
        await client.resource("v1", "serviceaccounts").create(account)

    async def create_node(obj: Object) -> None:
        async with gate:
            await nodes.create(obj)
            await nodes.patch(obj["metadata"]["name"], {"status": obj["status"]}, subresource="status")
            # Admission taints a new node until it is ready, and nothing here will make it so.
            await nodes.patch(obj["metadata"]["name"], {"spec": {"taints": None}})

    async def create_pod(obj: Object) -> None:
        async with gate:
            await pods.create(obj)

    await asyncio.gather(*(create_node(node(n, workload.zones)) for n in range(int(workload.nodes * scale))))
    number = 0
    for obj in itertools.chain(workload.before(scale), workload.pods(scale)):
        obj["spec"].pop("priority", None)
        number += 1
        await create_pod(obj) if number % 32 == 0 else asyncio.ensure_future(create_pod(obj))
    listed = await pods.list("default", limit=1)
    while (listed["metadata"].get("remainingItemCount") or 0) + len(listed["items"]) < number:
        await asyncio.sleep(0.2)
        listed = await pods.list("default", limit=1)
    version = listed["metadata"]["resourceVersion"]
    flags = ["--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port", "0", "-v", "0"]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "peavine.cmd.main", "scheduler", *flags)
    try:
        bound: set[str] = set()
        first = 0.0
        async for _, obj in pods.watch("default", resource_version=version):
            if obj.get("spec", {}).get("nodeName"):
                first = first or time.perf_counter()
                bound.add(obj["metadata"]["name"])
                if len(bound) == number:
                    break
        took = time.perf_counter() - first
        memory = memory_peak_kb(process.pid)
        print(
            f"{name:32} {number / took:8.0f} pods/s against the API server's process, {number} pods in {took:.1f} s, "
            f"the scheduler had {memory // 1024} MB"
        )
    finally:
        process.terminate()
        await process.wait()


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


def memory_peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*")
    options.add_argument("--scale", type=float, default=1.0)
    options.add_argument("--api", default="")
    args = options.parse_args()
    names = args.names or [*WORKLOADS, "Memory"]
    for name in names:
        if args.api:
            await against_api(name, WORKLOADS[name], args.scale, args.api)
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
