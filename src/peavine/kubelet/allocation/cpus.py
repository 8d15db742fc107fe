"""The static CPU manager: containers of guaranteed pods that ask for whole CPUs get them alone.

Everybody else shares what is left. The assignment is written down in upstream's file, `cpu_manager_state`, so that a
restarted kubelet keeps it. Whole cores, caches, sockets and NUMA nodes are preferred to pieces of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from peavine.api.core.podstate import GUARANTEED, qos_class
from peavine.api.core.resources import is_sidecar
from peavine.kubelet.allocation.numa import Cpu, Topology, format_cpus, parse_cpus
from peavine.kubelet.allocation.topology import Hint, Hints, Refused, subsets
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]

FULL_CORES, SPREAD_NODES, ALIGN_SOCKETS = "full-pcpus-only", "distribute-cpus-across-numa", "align-by-socket"
SPREAD_CORES, STRICT, CACHES = (
    "distribute-cpus-across-cores",
    "strict-cpu-reservation",
    "prefer-align-cpus-by-uncorecache",
)
OPTIONS = (FULL_CORES, SPREAD_NODES, ALIGN_SOCKETS, SPREAD_CORES, STRICT, CACHES)


def exclusive_count(pod: Object, container: Object) -> int:
    """How many whole CPUs a container gets alone; 0 for most."""
    if qos_class(pod) != GUARANTEED:
        return 0
    request = ((container.get("resources") or {}).get("requests") or {}).get("cpu")
    if request is None:
        request = ((container.get("resources") or {}).get("limits") or {}).get("cpu", "0")
    milli = parse_quantity(request).milli()
    return milli // 1000 if milli % 1000 == 0 else 0


def pod_count(pod: Object) -> int:
    """The most that the containers of a pod have alone at one time."""
    spec = pod.get("spec") or {}
    sidecars, most = 0, 0
    for container in spec.get("initContainers") or []:
        count = exclusive_count(pod, container)
        if is_sidecar(container):
            sidecars += count
        else:
            most = max(most, sidecars + count)
    return max(most, sidecars + sum(exclusive_count(pod, c) for c in spec.get("containers") or []))


class NotEnough(ValueError):
    """Fewer CPUs are free than were asked for."""


def take(free: set[int], count: int, topology: Topology, options: frozenset[str] = frozenset()) -> set[int]:
    """The best `count` of the free CPUs. Raises NotEnough."""
    if len(free) < count:
        raise NotEnough(f"not enough cpus available to satisfy request: requested={count}, available={len(free)}")
    cpus = [cpu for cpu in topology.cpus if cpu.id in free]
    if SPREAD_NODES in options and (spread := _spread(cpus, count, topology, options)) is not None:
        return spread
    chosen: set[int] = set()
    levels: list[Callable[[Cpu], int]] = [lambda c: c.node, lambda c: c.socket]
    if CACHES in options:
        levels.append(lambda c: c.cache)
    for level in levels:
        chosen |= _whole_groups(topology, level, free - chosen, count - len(chosen))
    if CACHES in options and len(chosen) < count:
        chosen |= _from_one_cache(cpus, count - len(chosen), chosen)
    if SPREAD_CORES not in options:
        chosen |= _whole_groups(topology, lambda c: c.core, free - chosen, count - len(chosen))
    rest = [cpu for cpu in cpus if cpu.id not in chosen]
    chosen |= {cpu.id for cpu in _singles(rest, chosen, topology, options)[: count - len(chosen)]}
    return chosen


def _groups(cpus: Iterable[Cpu], level: Callable[[Cpu], int]) -> list[set[int]]:
    found: dict[int, set[int]] = {}
    for cpu in cpus:
        found.setdefault(level(cpu), set()).add(cpu.id)
    return [found[key] for key in sorted(found)]


def _whole_groups(topology: Topology, level: Callable[[Cpu], int], free: set[int], count: int) -> set[int]:
    """Groups that are wholly free, as long as they are wholly needed."""
    chosen: set[int] = set()
    for group in _groups(topology.cpus, level):
        if group <= free and len(group) <= count - len(chosen):
            chosen |= group
    return chosen


def _from_one_cache(cpus: list[Cpu], count: int, chosen: set[int]) -> set[int]:
    """The whole remainder from the fullest-fitting cache, if there is one."""
    groups = [group - chosen for group in _groups(cpus, lambda c: c.cache)]
    fitting = sorted((group for group in groups if len(group) >= count), key=len)
    return set(sorted(fitting[0])[:count]) if fitting else set()


def _singles(cpus: list[Cpu], chosen: set[int], topology: Topology, options: frozenset[str]) -> list[Cpu]:
    """Single threads in the order of taking: from sockets and cores in use already, or (spread) from fresh cores."""
    taken_sockets = {cpu.socket for cpu in topology.cpus if cpu.id in chosen}
    left: dict[int, int] = {}
    for cpu in cpus:
        left[cpu.core] = left.get(cpu.core, 0) + 1
    if SPREAD_CORES in options:
        order: dict[int, int] = {}
        ranked = []
        for cpu in sorted(cpus, key=lambda c: (c.node, c.socket, c.core, c.id)):
            order[cpu.core] = order.get(cpu.core, 0) + 1
            ranked.append((order[cpu.core], cpu.socket not in taken_sockets, cpu.node, cpu.core, cpu.id, cpu))
        return [entry[-1] for entry in sorted(ranked, key=lambda e: e[:-1])]
    return sorted(cpus, key=lambda c: (c.socket not in taken_sockets, left[c.core], c.node, c.socket, c.core, c.id))


def _spread(cpus: list[Cpu], count: int, topology: Topology, options: frozenset[str]) -> set[int] | None:
    """Evenly over as few NUMA nodes as can hold it; None if it fits into one, or not evenly."""
    by_node = {node: {c.id for c in cpus if c.node == node} for node in topology.nodes}
    group = topology.threads_per_core if FULL_CORES in options else 1
    for nodes in subsets(by_node):
        share, rest = divmod(count, len(nodes))
        if rest or share % group or any(len(by_node[node]) < share for node in nodes):
            continue
        if len(nodes) == 1:
            return None
        return set().union(*(take(by_node[node], share, topology, options - {SPREAD_NODES}) for node in nodes))
    return None


class CpuManager:
    """`reserved` CPUs are never given to one container alone."""

    def __init__(self, file: Path, reserved: set[int], topology: Topology, options: Iterable[str] = ()) -> None:
        self._file, self._reserved, self._topology, self._options = file, reserved, topology, frozenset(options)
        self._online = {cpu.id for cpu in topology.cpus}
        # pod uid -> container -> CPUs
        self.entries: dict[str, dict[str, str]] = {}
        try:
            self.entries = json.loads(file.read_text()).get("entries") or {}
        except (OSError, ValueError):
            self.entries = {}

    def _taken(self) -> set[int]:
        return {cpu for containers in self.entries.values() for text in containers.values() for cpu in parse_cpus(text)}

    def _free(self, pod: Object) -> set[int]:
        """For a container of this pod: one-shot init containers have ended before others begin."""
        own = self.entries.get(pod["metadata"]["uid"], {})
        inits = [c for c in (pod.get("spec") or {}).get("initContainers") or [] if not is_sidecar(c)]
        again = {cpu for c in inits for cpu in parse_cpus(own.get(c["name"], ""))}
        others = {
            cpu for name, text in own.items() for cpu in parse_cpus(text) if name not in {c["name"] for c in inits}
        }
        return (self._online - self._taken() | again) - others - self._reserved

    @property
    def shared(self) -> str:
        """Where everybody else runs."""
        kept = self._reserved if STRICT in self._options else set()
        return format_cpus(self._online - self._taken() - kept)

    @property
    def assignable(self) -> set[int]:
        """What containers can have alone, whether somebody has it now or not."""
        return self._online - self._reserved

    def of(self, uid: str, container: str) -> str:
        """What the container has alone; empty if nothing."""
        return self.entries.get(uid, {}).get(container, "")

    def hints(self, pod: Object, container: Object | None) -> Hints:
        count = pod_count(pod) if container is None else exclusive_count(pod, container)
        if not count:
            return {}
        had = self.entries.get(pod["metadata"]["uid"], {}).get(container["name"]) if container else None
        mine = {cpu.node for cpu in self._topology.cpus if had and cpu.id in parse_cpus(had)}
        free = parse_cpus(had) if had else self._free(pod)
        possible, least = [], len(self._topology.nodes)
        for nodes in subsets(self._topology.nodes):
            total = {cpu.id for cpu in self._topology.cpus if cpu.node in nodes}
            if len(total - (set() if had else self._reserved)) >= count:
                least = min(least, len(nodes))
            if len(total & free) >= count and (not mine or nodes == mine):
                possible.append(nodes)
        return {"cpu": [Hint(nodes, self._is_near(nodes, least)) for nodes in possible]}

    def _is_near(self, nodes: frozenset[int], least: int) -> bool:
        if ALIGN_SOCKETS in self._options:
            by_socket: dict[int, set[int]] = {}
            for cpu in self._topology.cpus:
                by_socket.setdefault(cpu.socket, set()).add(cpu.node)
            return any(nodes <= of_socket for of_socket in by_socket.values())
        return len(nodes) == least

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        count, uid, name = exclusive_count(pod, container), pod["metadata"]["uid"], container["name"]
        if not count or self.of(uid, name):
            return
        threads = self._topology.threads_per_core
        if FULL_CORES in self._options and count % threads:
            raise Refused(
                "SMTAlignmentError",
                f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}",
            )
        free = self._free(pod)
        near = {cpu.id for cpu in self._topology.cpus if hint.nodes is not None and cpu.node in hint.nodes} & free
        chosen: set[int] = set()
        if near:
            chosen = take(near, min(count, len(near)), self._topology, self._options)
        chosen |= take(free - chosen, count - len(chosen), self._topology, self._options)
        self.entries.setdefault(uid, {})[name] = format_cpus(chosen)
        self._save()

    def release(self, uid: str) -> bool:
        if self.entries.pop(uid, None) is None:
            return False
        self._save()
        return True

    def _save(self) -> None:
        state = {"policyName": "static", "defaultCpuSet": self.shared, "entries": self.entries}
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(state))
        draft.replace(self._file)
