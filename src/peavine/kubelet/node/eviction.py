"""Eviction: when memory, disk or process numbers run short, pods go, in upstream's order, until there is room again.

Observations and choices are pure functions; `Evictor.run` looks every `housekeeping_seconds`. Limits of single pods
(emptyDir sizes, ephemeral storage) are enforced here too.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.kubelet.node import machine
from peavine.kubelet.node.admission import is_critical
from peavine.machinery.quantity import Quantity, parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.options import Options
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]

# signal -> (condition of the node, resource that pods are ranked by)
SIGNALS = {
    "memory.available": ("MemoryPressure", "memory"),
    "nodefs.available": ("DiskPressure", "ephemeral-storage"),
    "nodefs.inodesFree": ("DiskPressure", "inodes"),
    "imagefs.available": ("DiskPressure", "ephemeral-storage"),
    "imagefs.inodesFree": ("DiskPressure", "inodes"),
    "pid.available": ("PIDPressure", "pids"),
}


@dataclass(frozen=True)
class Observation:
    available: int
    capacity: int


@dataclass(frozen=True)
class Threshold:
    signal: str
    value: str
    hard: bool
    grace_seconds: float = 0.0
    reclaim: str = ""

    def amount(self, capacity: int) -> int:
        return _absolute(self.value, capacity)


@dataclass(frozen=True)
class Candidate:
    """A pod as the ranking sees it: usage and request of the starved resource."""

    worker: Any
    priority: int
    usage: int
    request: int


def _absolute(value: str, capacity: int) -> int:
    if value.endswith("%"):
        return int(capacity * float(value[:-1]) / 100)
    return parse_quantity(value).value()


def thresholds(options: Options) -> list[Threshold]:
    found = [
        Threshold(signal, value, True, 0.0, options.eviction_minimum_reclaim.get(signal, ""))
        for signal, value in options.eviction_hard.items()
    ]
    found += [
        Threshold(
            signal,
            value,
            False,
            options.eviction_soft_grace_seconds.get(signal, 0.0),
            options.eviction_minimum_reclaim.get(signal, ""),
        )
        for signal, value in options.eviction_soft.items()
    ]
    return [t for t in found if t.signal in SIGNALS]


def met(all_: list[Threshold], seen: Mapping[str, Observation], *, with_reclaim: bool = False) -> list[Threshold]:
    """The thresholds that are crossed; with `with_reclaim`, those not yet left behind by the minimum reclaim."""
    found = []
    for threshold in all_:
        observation = seen.get(threshold.signal)
        if observation is None:
            continue
        limit = threshold.amount(observation.capacity)
        if with_reclaim and threshold.reclaim:
            limit += _absolute(threshold.reclaim, observation.capacity)
        if observation.available < limit:
            found.append(threshold)
    return found


def rank(candidates: list[Candidate]) -> list[Candidate]:
    """Who goes first: those above their request, of low priority, the furthest above it."""
    return sorted(candidates, key=lambda c: (c.usage <= c.request, c.priority, -(c.usage - c.request)))


def observe(options: Options) -> dict[str, Observation]:
    memory = machine.memory()
    node, image = machine.disk(options.root_dir), machine.disk(options.image_fs_dir or options.root_dir)
    pids = machine.pids_max()
    return {
        "memory.available": Observation(memory.get("MemAvailable", 0), memory.get("MemTotal", 0)),
        "nodefs.available": Observation(node.available, node.capacity),
        "nodefs.inodesFree": Observation(node.inodes_free, node.inodes),
        "imagefs.available": Observation(image.available, image.capacity),
        "imagefs.inodesFree": Observation(image.inodes_free, image.inodes),
        "pid.available": Observation(pids - machine.processes(), pids),
    }


def _shown(amount: int) -> str:
    return str(parse_quantity(f"{amount // 1024}Ki")) if amount >= 1024 else str(Quantity.of(amount))


class Evictor:
    def __init__(self, kubelet: Kubelet, look: Callable[[Options], dict[str, Observation]] = observe) -> None:
        self._kubelet, self._look = kubelet, look
        self._thresholds = thresholds(kubelet.options)
        self._first_met: dict[Threshold, float] = {}
        self._last_met: dict[str, float] = {}

    async def run(self) -> None:
        """Ends by cancellation."""
        while True:
            try:
                await self.enforce_limits()
                await self.look()
            except OSError as error:
                log.info("eviction: %s", error)
            await self._kubelet.clock.sleep(self._kubelet.options.housekeeping_seconds)

    async def look(self) -> None:
        """Set the node's conditions, and evict at most one pod."""
        kubelet, now = self._kubelet, self._kubelet.clock.monotonic()
        seen = self._look(kubelet.options)
        crossed = met(self._thresholds, seen)
        # What was crossed stays so until there is as much more as the minimum reclaim asks for.
        crossed += [t for t in met(list(self._first_met), seen, with_reclaim=True) if t not in crossed]
        self._first_met = {t: self._first_met.get(t, now) for t in crossed}
        for threshold in crossed:
            self._last_met[SIGNALS[threshold.signal][0]] = now
        hold = kubelet.options.eviction_pressure_transition_seconds
        self._set_pressures({c for c, at in self._last_met.items() if now - at < hold or at == now})
        due = [t for t in crossed if now - self._first_met[t] >= t.grace_seconds]
        if not due:
            return
        # Memory first: it kills at once what disk kills slowly.
        due.sort(key=lambda t: (SIGNALS[t.signal][1] != "memory", not t.hard))
        threshold = due[0]
        kubelet.recorder.event(
            {"kind": "Node", "name": kubelet.options.node_name, "uid": kubelet.options.node_name},
            "Warning",
            "EvictionThresholdMet",
            f"Attempting to reclaim {SIGNALS[threshold.signal][1]}",
        )
        if SIGNALS[threshold.signal][1] == "ephemeral-storage" and await self._reclaimed_images(threshold):
            return
        self._evict_one(threshold, seen[threshold.signal])

    def _set_pressures(self, wanted: set[str]) -> None:
        for name, node in self._kubelet.nodes.items():
            if node.pressures != wanted:
                node.pressures = set(wanted)
                self._kubelet.registrars[name].nudge()

    async def _reclaimed_images(self, threshold: Threshold) -> bool:
        """Whether removing unused images was enough."""
        from peavine.kubelet.images.collector import remove_unused

        await remove_unused(self._kubelet)
        return threshold not in met([threshold], self._look(self._kubelet.options), with_reclaim=True)

    def _evict_one(self, threshold: Threshold, observation: Observation) -> None:
        resource = SIGNALS[threshold.signal][1]
        ranked = rank(self._candidates(resource))
        for candidate in ranked:
            worker = candidate.worker
            if is_critical(worker.pod):
                continue
            limit = threshold.amount(observation.capacity)
            message = (
                f"The node was low on resource: {resource}. Threshold quantity: {_shown(limit)},"
                f" available: {_shown(observation.available)}. "
            )
            if candidate.usage > candidate.request and resource in ("memory", "ephemeral-storage"):
                names = [c.name for c in worker.record.running()]
                message += (
                    f"Container {', '.join(names)} was using {_shown(candidate.usage)}, request is"
                    f" {_shown(candidate.request)}, has larger consumption of {resource}. "
                )
            grace = 0.0 if threshold.hard else float(self._kubelet.options.eviction_max_pod_grace_seconds)
            evict(worker, message, grace)
            return
        log.warning("eviction: no pod is left to evict for %s", threshold.signal)

    def _candidates(self, resource: str) -> list[Candidate]:
        from peavine.api.core.resources import pod_requests
        from peavine.linux import cgroups

        found = []
        for worker in self._kubelet.workers.values():
            if worker.grace is not None or not worker.record.running():
                continue
            usage, request = 0, 0
            measured = cgroups.usage(self._kubelet.pod_group(worker.pod))
            requests = pod_requests(worker.pod)
            if resource == "memory":
                usage = measured.working_set_bytes
            elif resource == "pids":
                usage = measured.pids
            elif resource == "ephemeral-storage":
                usage = sum(pod_disk_usage(self._kubelet, worker).values())
            if resource in requests:
                request = requests[resource].value()
            priority = (worker.pod.get("spec") or {}).get("priority") or 0
            found.append(Candidate(worker, priority, usage, request))
        return found

    async def enforce_limits(self) -> None:
        """Evict pods that have outgrown a limit of their own."""
        from peavine.kubelet.server.stats import layers

        if any(_limits_of_disk(worker.pod) for worker in self._kubelet.workers.values()):
            self._kubelet.writable_layers = await layers(self._kubelet)
        for worker in list(self._kubelet.workers.values()):
            if worker.grace is None and worker.record.running():
                message = over_limit(worker.pod, functools.partial(pod_disk_usage, self._kubelet, worker))
                if message:
                    evict(worker, message, 0.0)


def evict(worker: PodWorker, message: str, grace: float) -> None:
    """End the pod as failed, with the condition that tells controllers why."""
    worker.kubelet.recorder.event(worker.pod, "Warning", "Evicted", message)
    worker.more_conditions.append(
        {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message}
    )
    # A hard threshold leaves no grace but the least.
    worker.end(max(1.0, grace), forced=("Failed", "Evicted", message))


def pod_disk_usage(kubelet: Kubelet, worker: PodWorker) -> dict[str, int]:
    """Bytes by `volume/NAME` (emptyDirs on disk) and `logs/CONTAINER`; writable layers are in `layer/CONTAINER`."""
    from peavine.kubelet.server.stats import directory_bytes

    found = {}
    for volume in (worker.pod.get("spec") or {}).get("volumes") or []:
        if "emptyDir" in volume:
            path = kubelet.paths.volume(worker.uid, "kubernetes.io/empty-dir", volume["name"])
            found[f"volume/{volume['name']}"] = directory_bytes(path)
    for container in worker.record.running():
        if container.log_path:
            found[f"logs/{container.name}"] = directory_bytes(Path(container.log_path).parent)
        upper = kubelet.writable_layers.get(container.id)
        if upper is not None:
            found[f"layer/{container.name}"] = upper
    return found


def over_limit(pod: Object, usage: Callable[[], dict[str, int]]) -> str:
    """The message of the eviction if the pod uses more disk than it may; empty if not. Measures only if limited."""
    spec = pod.get("spec") or {}
    sized = [v for v in spec.get("volumes") or [] if ((v.get("emptyDir") or {}).get("sizeLimit"))]
    limits = _limits_of_disk(pod)
    if not sized and not limits:
        return ""
    used = usage()
    for volume in sized:
        limit = volume["emptyDir"]["sizeLimit"]
        if used.get(f"volume/{volume['name']}", 0) > parse_quantity(limit).value() > 0:
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    if limits and len(limits) == len(spec.get("containers") or []):
        total = sum(parse_quantity(limit).value() for limit in limits.values())
        memory = {v["name"] for v in spec.get("volumes") or [] if (v.get("emptyDir") or {}).get("medium") == "Memory"}
        everything = sum(n for key, n in used.items() if key.removeprefix("volume/") not in memory)
        if everything > total:
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {_shown(total)}. "
    for name, limit in limits.items():
        own = used.get(f"logs/{name}", 0) + used.get(f"layer/{name}", 0)
        if own > parse_quantity(limit).value():
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
    return ""


def _limits_of_disk(pod: Object) -> dict[str, str]:
    return {
        c["name"]: limit
        for c in (pod.get("spec") or {}).get("containers") or []
        if (limit := ((c.get("resources") or {}).get("limits") or {}).get("ephemeral-storage"))
    }
