"""`/metrics/cadvisor`: pods and containers under cAdvisor's names, from control groups and /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from peavine.kubelet.node import machine
from peavine.kubelet.server.stats import container_group, layers
from peavine.linux import cgroups

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

Families = dict[str, tuple[str, list[tuple[str, float]]]]

# Metric -> (type, field of cgroups.Details, factor)
OF_GROUPS: dict[str, tuple[str, str, float]] = {
    "container_cpu_user_seconds_total": ("counter", "cpu_user_nanoseconds", 1e-9),
    "container_cpu_system_seconds_total": ("counter", "cpu_system_nanoseconds", 1e-9),
    "container_cpu_cfs_periods_total": ("counter", "periods", 1),
    "container_cpu_cfs_throttled_periods_total": ("counter", "throttled_periods", 1),
    "container_cpu_cfs_throttled_seconds_total": ("counter", "throttled_nanoseconds", 1e-9),
    "container_memory_cache": ("gauge", "cache_bytes", 1),
    "container_memory_mapped_file": ("gauge", "mapped_bytes", 1),
    "container_memory_max_usage_bytes": ("gauge", "peak_bytes", 1),
    "container_memory_failcnt": ("counter", "memory_failures", 1),
    "container_oom_events_total": ("counter", "oom_kills", 1),
    "container_spec_cpu_period": ("gauge", "cpu_period", 1),
    "container_spec_cpu_shares": ("gauge", "cpu_shares", 1),
}
# Column of /proc/PID/net/dev -> metric
OF_NETWORKS = {
    0: "container_network_receive_bytes_total",
    1: "container_network_receive_packets_total",
    2: "container_network_receive_errors_total",
    3: "container_network_receive_packets_dropped_total",
    8: "container_network_transmit_bytes_total",
    9: "container_network_transmit_packets_total",
    10: "container_network_transmit_errors_total",
    11: "container_network_transmit_packets_dropped_total",
}
NO_LIMIT = 1 << 60


class _Collected:
    def __init__(self) -> None:
        self.families: Families = {}

    def add(self, name: str, labels: str, value: float, type_: str = "gauge") -> None:
        self.families.setdefault(name, (type_, []))[1].append((labels, value))


def _labels(**labels: str) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in labels.items()}
    return ",".join(f'{name}="{value}"' for name, value in sorted(escaped.items()))


async def collect(kubelet: Kubelet) -> Families:
    found, written, now = _Collected(), await layers(kubelet), kubelet.clock.time()
    for worker in list(kubelet.workers.values()):
        running = worker.record.running()
        if not running:
            continue
        meta, group = worker.pod["metadata"], kubelet.pod_group(worker.pod)
        pod = {"namespace": meta.get("namespace", "default"), "pod": meta["name"]}
        labels = {**pod, "container": "", "id": group, "image": "", "name": ""}
        _add_group(found, group, labels, now)
        if not (worker.pod.get("spec") or {}).get("hostNetwork"):
            _add_network(found, group, labels)
        for container in running:
            inner = container_group(kubelet, worker, container.id)
            own = {**pod, "container": container.name, "id": inner, "image": container.image, "name": container.id}
            _add_group(found, inner, own, now)
            found.add("container_start_time_seconds", _labels(**own), container.started_at / 1e9)
            on_disk = _labels(**own, device="")
            found.add("container_fs_usage_bytes", on_disk, written.get(container.id, 0))
            disk = machine.disk(kubelet.options.image_fs_dir or kubelet.options.root_dir)
            found.add("container_fs_limit_bytes", on_disk, disk.capacity)
            found.add("container_fs_inodes_total", on_disk, disk.inodes)
            found.add("container_fs_inodes_free", on_disk, disk.inodes_free)
    found.add("container_scrape_error", "", 0)
    _add_machine(found)
    return found.families


def _add_group(found: _Collected, group: str, labels: dict[str, str], now: float) -> None:
    usage, details, text = cgroups.usage(group), cgroups.details(group), _labels(**labels)
    cpu = _labels(**labels, cpu="total")
    found.add("container_cpu_usage_seconds_total", cpu, usage.cpu_nanoseconds / 1e9, "counter")
    for name, (type_, field, factor) in OF_GROUPS.items():
        found.add(name, text, getattr(details, field) * factor, type_)
    if details.cpu_quota > 0:
        found.add("container_spec_cpu_quota", text, details.cpu_quota)
    found.add("container_memory_usage_bytes", text, usage.memory_bytes)
    found.add("container_memory_working_set_bytes", text, usage.working_set_bytes)
    found.add("container_memory_rss", text, usage.rss_bytes)
    found.add("container_memory_swap", text, usage.swap_bytes)
    for kind, count in (("pgfault", usage.page_faults), ("pgmajfault", usage.major_page_faults)):
        counted = _labels(**labels, failure_type=kind, scope="hierarchy")
        found.add("container_memory_failures_total", counted, count, "counter")
    limit = usage.memory_limit_bytes
    found.add("container_spec_memory_limit_bytes", text, limit if limit < NO_LIMIT else 0)
    found.add("container_processes", text, len(cgroups.members(group)))
    found.add("container_threads", text, usage.pids)
    if details.pids_max:
        found.add("container_threads_max", text, details.pids_max)
    found.add("container_last_seen", text, int(now))


def _add_network(found: _Collected, group: str, labels: dict[str, str]) -> None:
    pid = next(iter(cgroups.members(group)), None)
    for interface, columns in _interfaces(pid) if pid is not None else ():
        text = _labels(**labels, interface=interface)
        for column, name in OF_NETWORKS.items():
            found.add(name, text, columns[column], "counter")


def _interfaces(pid: int) -> Iterator[tuple[str, list[int]]]:
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return
    for line in lines:
        name, _, rest = line.partition(":")
        columns = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(columns) >= 12:
            yield name.strip(), columns


def _add_machine(found: _Collected) -> None:
    from peavine.kubelet.allocation import numa

    topology, memory = numa.read(usable=set(range(machine.cpus()))), machine.memory()
    found.add("machine_cpu_cores", "", machine.cpus())
    found.add("machine_cpu_physical_cores", "", len({cpu.core for cpu in topology.cpus}))
    found.add("machine_cpu_sockets", "", len({cpu.socket for cpu in topology.cpus}))
    found.add("machine_memory_bytes", "", memory.get("MemTotal", 0))
    found.add("machine_swap_bytes", "", memory.get("SwapTotal", 0))
    found.add("machine_scrape_error", "", 0)
    version = _labels(
        kernelVersion=os.uname().release, osVersion=machine.os_image(), cadvisorVersion="", dockerVersion=""
    )
    found.add("cadvisor_version_info", version, 1)
