"""The machine as NUMA sees it: CPUs with their cores, sockets and caches, nodes with their memory, from /sys."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


def parse_cpus(text: str) -> set[int]:
    """`0-2,5` as a set."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first:
            found |= set(range(int(first), int(last if dash else first) + 1))
    return found


def format_cpus(cpus: Iterable[int]) -> str:
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


@dataclass(frozen=True)
class Cpu:
    """`core` and `cache` are unique on the machine; `cache` is the last-level cache."""

    id: int
    core: int
    socket: int = 0
    node: int = 0
    cache: int = 0


@dataclass(frozen=True)
class Topology:
    """`memory`: NUMA node -> `memory` or `hugepages-SIZE` -> bytes. `distances`: node -> distance to each node."""

    cpus: tuple[Cpu, ...]
    memory: dict[int, dict[str, int]] = field(default_factory=dict)
    distances: dict[int, list[int]] = field(default_factory=dict)

    @property
    def nodes(self) -> list[int]:
        return sorted({cpu.node for cpu in self.cpus} | self.memory.keys())

    @property
    def threads_per_core(self) -> int:
        cores = {cpu.core for cpu in self.cpus}
        return len(self.cpus) // len(cores) if cores else 1


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path, default: int) -> int:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else default


def read(system: Path = Path("/sys/devices/system"), usable: set[int] | None = None) -> Topology:
    """Of this machine; where the kernel says nothing, everything is one node. `usable`: the CPUs that count."""
    usable = set(os.sched_getaffinity(0)) if usable is None else usable
    node_of: dict[int, int] = {}
    memory: dict[int, dict[str, int]] = {}
    distances: dict[int, list[int]] = {}
    for directory in sorted(system.glob("node/node[0-9]*")):
        number = int(directory.name.removeprefix("node"))
        node_of |= dict.fromkeys(parse_cpus(_text(directory / "cpulist")), number)
        distances[number] = [int(word) for word in _text(directory / "distance").split()]
        amounts = {"memory": _total_memory(directory)}
        for pages in directory.glob("hugepages/hugepages-*kB"):
            kilobytes = int(pages.name.removeprefix("hugepages-").removesuffix("kB"))
            size = f"{kilobytes // 1024}Mi" if kilobytes < 1 << 20 else f"{kilobytes >> 20}Gi"
            amounts[f"hugepages-{size}"] = _number(pages / "nr_hugepages", 0) * kilobytes * 1024
        memory[number] = amounts
    cpus = []
    for cpu in sorted(usable):
        at = system / "cpu" / f"cpu{cpu}"
        socket = max(0, _number(at / "topology" / "physical_package_id", 0))
        # Core numbers repeat in every socket; the lowest thread of a core names it for the whole machine.
        siblings = parse_cpus(_text(at / "topology" / "thread_siblings_list")) or {cpu}
        shared = parse_cpus(_text(at / "cache" / "index3" / "shared_cpu_list"))
        cpus.append(Cpu(cpu, min(siblings), socket, node_of.get(cpu, 0), min(shared) if shared else socket))
    return Topology(tuple(cpus), memory or {0: {"memory": _all_memory()}}, distances)


def _total_memory(directory: Path) -> int:
    for line in _text(directory / "meminfo").splitlines():
        words = line.split()
        if len(words) >= 4 and words[2] == "MemTotal:":
            return int(words[3]) * 1024
    return 0


def _all_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
