"""`/stats/summary`: what the node, its pods and their containers use now.

Numbers of CPU and memory come straight from the control groups; a rate (`usageNanoCores`) is the difference to the
look before, so it is there from the second look on. Disk use of writable layers is the runtime's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.kubelet.cri.runtime import RpcError
from peavine.kubelet.node import machine
from peavine.kubelet.pods.status import stamp
from peavine.linux import cgroups
from peavine.linux.cgroups import Usage

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.pods.worker import PodWorker

Object = dict[str, Any]
# Two looks closer than this give no meaningful rate: the older sample is kept.
RATE_SECONDS_MIN = 1.0


@dataclass
class _Sample:
    at: float
    nanoseconds: int
    rate: int | None = None


class Rates:
    """CPU rates by group. Kept by the kubelet between requests."""

    def __init__(self) -> None:
        self._samples: dict[str, _Sample] = {}

    def rate(self, group: str, nanoseconds: int, now: float) -> int | None:
        """Nanocores since the look before; None at the first."""
        last = self._samples.get(group)
        if last is None or nanoseconds < last.nanoseconds:
            self._samples[group] = _Sample(now, nanoseconds)
            return None
        if now - last.at < RATE_SECONDS_MIN:
            return last.rate
        rate = int((nanoseconds - last.nanoseconds) / (now - last.at))
        self._samples[group] = _Sample(now, nanoseconds, rate)
        return rate

    def keep_only(self, groups: set[str]) -> None:
        for group in self._samples.keys() - groups:
            del self._samples[group]


def container_group(kubelet: Kubelet, worker: PodWorker, container_id: str) -> str:
    return f"{kubelet.pod_group(worker.pod)}/{container_id}"


def cpu(kubelet: Kubelet, group: str, usage: Usage, now: float) -> Object:
    found: Object = {"time": stamp(now), "usageCoreNanoSeconds": usage.cpu_nanoseconds}
    rate = kubelet.rates.rate(group, usage.cpu_nanoseconds, now)
    if rate is not None:
        found["usageNanoCores"] = rate
    return found


def memory(usage: Usage, now: float) -> Object:
    found: Object = {
        "time": stamp(now),
        "usageBytes": usage.memory_bytes,
        "workingSetBytes": usage.working_set_bytes,
        "rssBytes": usage.rss_bytes,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
    }
    # A limit near 2^63 is version 1's way to say none.
    if 0 < usage.memory_limit_bytes < 1 << 60:
        found["availableBytes"] = max(0, usage.memory_limit_bytes - usage.working_set_bytes)
    return found


def _fs(disk: machine.Disk, used: int, now: float) -> Object:
    return {
        "time": stamp(now),
        "availableBytes": disk.available,
        "capacityBytes": disk.capacity,
        "usedBytes": used,
        "inodesFree": disk.inodes_free,
        "inodes": disk.inodes,
        "inodesUsed": disk.inodes - disk.inodes_free,
    }


def directory_bytes(path: Path) -> int:
    """Blocks that the files below `path` take, other file systems left out."""
    total, device = 0, None
    for directory, names, files in os.walk(path):
        try:
            stat = os.lstat(directory)
            if device is None:
                device = stat.st_dev
            if stat.st_dev != device:
                names[:] = []
                continue
            total += stat.st_blocks * 512
            for name in files:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
        except OSError:
            continue
    return total


def network(pid: int, now: float) -> Object | None:
    """Counters of every interface that a process sees; None if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return None
    interfaces = []
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.strip() != "lo" and len(words) >= 11:
            interfaces.append(
                {
                    "name": name.strip(),
                    "rxBytes": int(words[0]),
                    "rxErrors": int(words[2]),
                    "txBytes": int(words[8]),
                    "txErrors": int(words[10]),
                }
            )
    first = next((i for i in interfaces if i["name"] == "eth0"), interfaces[0] if interfaces else {})
    return {"time": stamp(now), **first, "interfaces": interfaces}


async def layers(kubelet: Kubelet) -> dict[str, int]:
    """Container id -> bytes of its writable layer."""
    try:
        stats = await kubelet.runtime.container_stats()
    except RpcError:
        return {}
    return {
        s.get("attributes", {}).get("id", ""): s.get("writable_layer", {}).get("used_bytes", {}).get("value", 0)
        for s in stats
    }


async def summary(kubelet: Kubelet, *, only_cpu_memory: bool = False) -> Object:
    now = kubelet.clock.time()
    written = {} if only_cpu_memory else await layers(kubelet)
    disk = machine.disk(kubelet.options.root_dir)
    pods = []
    groups = {"/"}
    for worker in list(kubelet.workers.values()):
        if worker.record.running():
            pods.append(_pod(kubelet, worker, now, written, disk, only_cpu_memory, groups))
    node = _node(kubelet, now, disk, only_cpu_memory, groups)
    kubelet.rates.keep_only(groups)
    return {"node": node, "pods": pods}


def node_usage() -> Usage:
    """Of the whole machine: the root group has no memory file in version 2, so /proc tells."""
    found = machine.memory()
    stat = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    busy = sum(int(n) for i, n in enumerate(stat) if i not in (3, 4))
    total, available = found.get("MemTotal", 0), found.get("MemAvailable", 0)
    return Usage(
        cpu_nanoseconds=busy * 1_000_000_000 // os.sysconf("SC_CLK_TCK"),
        memory_bytes=total - found.get("MemFree", 0),
        working_set_bytes=total - available,
        rss_bytes=found.get("AnonPages", 0),
    )


def _node(kubelet: Kubelet, now: float, disk: machine.Disk, only_cpu_memory: bool, groups: set[str]) -> Object:
    usage = node_usage()
    found: Object = {
        "nodeName": kubelet.options.node_name,
        "startTime": stamp(kubelet.started_at),
        "cpu": cpu(kubelet, "/", usage, now),
        "memory": {**memory(usage, now), "availableBytes": machine.memory().get("MemAvailable", 0)},
        "swap": _swap(machine.swap_bytes() - machine.memory().get("SwapFree", 0), machine.swap_bytes(), now),
        "systemContainers": _system_containers(kubelet, now, groups),
    }
    if not only_cpu_memory:
        image_disk = machine.disk(kubelet.options.image_fs_dir or kubelet.options.root_dir)
        found["fs"] = _fs(disk, disk.used, now)
        of_images = _fs(image_disk, image_disk.used, now)
        found["runtime"] = {"imageFs": of_images, "containerFs": of_images}
        found["network"] = network(os.getpid(), now)
        found["rlimit"] = {"time": stamp(now), "maxpid": machine.pids_max(), "curproc": machine.processes()}
    return found


def _swap(used: int, total: int, now: float) -> Object:
    return {"time": stamp(now), "swapUsageBytes": max(0, used), "swapAvailableBytes": max(0, total - used)}


def own_usage() -> Usage:
    """Of this process: its control group, if it has one of its own, is nobody's business here."""
    times = os.times()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    nanoseconds = int((times.user + times.system) * 1e9)
    return Usage(cpu_nanoseconds=nanoseconds, memory_bytes=resident, working_set_bytes=resident, rss_bytes=resident)


def _system_containers(kubelet: Kubelet, now: float, groups: set[str]) -> list[Object]:
    """The kubelet itself, and all pods together."""
    root = f"{kubelet.options.cgroup_root.rstrip('/')}/kubepods"
    found = []
    for name, key, usage in (("kubelet", "kubelet", own_usage()), ("pods", root, cgroups.usage(root))):
        groups.add(key)
        numbers = {"cpu": cpu(kubelet, key, usage, now), "memory": memory(usage, now)}
        found.append({"name": name, "startTime": stamp(kubelet.started_at), **numbers})
    return found


def _pod(
    kubelet: Kubelet,
    worker: PodWorker,
    now: float,
    written: dict[str, int],
    disk: machine.Disk,
    only_cpu_memory: bool,
    groups: set[str],
) -> Object:
    meta, group = worker.pod["metadata"], kubelet.pod_group(worker.pod)
    usage = cgroups.usage(group)
    groups.add(group)
    found: Object = {
        "podRef": {"name": meta["name"], "namespace": meta.get("namespace", "default"), "uid": worker.uid},
        "startTime": (worker.reporter.status or {}).get("startTime"),
        "containers": [],
        "cpu": cpu(kubelet, group, usage, now),
        "memory": memory(usage, now),
        "swap": {"time": stamp(now), "swapUsageBytes": usage.swap_bytes},
    }
    total = 0
    for container in worker.record.running():
        inner = container_group(kubelet, worker, container.id)
        groups.add(inner)
        own = cgroups.usage(inner)
        entry: Object = {
            "name": container.name,
            "startTime": stamp(container.started_at / 1e9),
            "cpu": cpu(kubelet, inner, own, now),
            "memory": memory(own, now),
            "swap": {"time": stamp(now), "swapUsageBytes": own.swap_bytes},
        }
        if not only_cpu_memory:
            logs = directory_bytes(Path(container.log_path).parent) if container.log_path else 0
            layer = written.get(container.id, 0)
            entry["rootfs"], entry["logs"] = _fs(disk, layer, now), _fs(disk, logs, now)
            total += logs + layer
        found["containers"].append(entry)
    if not only_cpu_memory:
        _add_disk_and_network(kubelet, worker, found, group, now, disk, total)
    found["process_stats"] = {"process_count": usage.pids}
    return found


def claim_volumes(kubelet: Kubelet) -> Iterator[tuple[str, str, Object]]:
    """(namespace, claim, statistics) of every claim that is mounted here."""
    if not kubelet.options.cgroups:
        return
    for worker in list(kubelet.workers.values()):
        for volume in (worker.pod.get("spec") or {}).get("volumes") or []:
            claim = claim_of(worker.pod, volume)
            for path in _mounted(kubelet, worker, volume) if claim else ():
                disk = machine.disk(path)
                yield worker.pod["metadata"]["namespace"], claim, _fs(disk, disk.used, kubelet.clock.time())


def claim_of(pod: Object, volume: Object) -> str:
    """The name of the claim behind a volume; empty if there is none."""
    if "ephemeral" in volume:
        return f"{pod['metadata']['name']}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))


def _mounted(kubelet: Kubelet, worker: PodWorker, volume: Object) -> list[Path]:
    """Where the volume's files are; drivers mount into a directory of their own below."""
    found = (kubelet.paths.pod(worker.uid) / "volumes").glob(f"*/{volume['name']}")
    return [path / "mount" if (path / "mount").is_dir() else path for path in found]


def _add_disk_and_network(
    kubelet: Kubelet, worker: PodWorker, found: Object, group: str, now: float, disk: machine.Disk, total: int
) -> None:
    volumes = []
    for volume in (worker.pod.get("spec") or {}).get("volumes") or []:
        claim = claim_of(worker.pod, volume)
        for path in _mounted(kubelet, worker, volume):
            # A claim's volume has a file system of its own.
            used = machine.disk(path).used if claim else directory_bytes(path)
            entry: Object = {"name": volume["name"], **_fs(machine.disk(path), used, now)}
            if claim:
                entry["pvcRef"] = {"name": claim, "namespace": worker.pod["metadata"]["namespace"]}
            volumes.append(entry)
            if "emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory":
                total += used
    found["volume"] = volumes
    found["ephemeral-storage"] = _fs(disk, total, now)
    if not (worker.pod.get("spec") or {}).get("hostNetwork"):
        pid = next(iter(cgroups.members(group)), None)
        counters = network(pid, now) if pid is not None else None
        if counters is not None:
            found["network"] = counters
