"""All managers of one node, as the options want them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from peavine.kubelet.allocation import numa
from peavine.kubelet.allocation.cpus import OPTIONS as CPU_OPTIONS
from peavine.kubelet.allocation.cpus import CpuManager, take
from peavine.kubelet.allocation.memory import MemoryManager
from peavine.kubelet.allocation.topology import NUMA_NODES_MAX, Provider, TopologyManager
from peavine.kubelet.cri.runtime import RpcError
from peavine.machinery.quantity import ZERO, parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.options import Options

log = logging.getLogger(__name__)
Object = dict[str, Any]

TOPOLOGY_OPTIONS = ("prefer-closest-numa-nodes", "max-allowable-numa-nodes")


class OptionsError(ValueError):
    """The node cannot do what the options ask for; the kubelet does not start."""


def check_swap(options: Options) -> None:
    """Raises OptionsError."""
    from peavine.kubelet.node import machine
    from peavine.linux import cgroups

    if options.swap_behavior == "LimitedSwap" and not cgroups.is_unified():
        raise OptionsError("swapBehavior LimitedSwap needs control groups of version 2; this machine has version 1")
    if options.fail_swap_on and machine.swap_bytes():
        raise OptionsError(
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
        )


def reserved_cpus(options: Options, topology: numa.Topology) -> set[int]:
    """The CPUs that the system keeps: those that are named, or as many as are reserved. Raises OptionsError."""
    if options.reserved_cpus:
        return numa.parse_cpus(options.reserved_cpus)
    total = ZERO
    for reserved in (options.system_reserved, options.kube_reserved):
        total = total + parse_quantity(reserved.get("cpu", "0"))
    if total.sign() <= 0:
        raise OptionsError(
            "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero"
        )
    return take({cpu.id for cpu in topology.cpus}, -(-total.milli() // 1000), topology)


def reserved_memory(options: Options, reserved: dict[str, int]) -> dict[int, dict[str, int]]:
    """`--reserved-memory` by NUMA node; its sums must be what is `reserved`. Raises OptionsError."""
    found: dict[int, dict[str, int]] = {}
    for entry in options.reserved_memory:
        amounts = {name: parse_quantity(text).value() for name, text in (entry.get("limits") or {}).items()}
        found[int(entry.get("numaNode", 0))] = amounts
    for name, amount in reserved.items():
        given = sum(amounts.get(name, 0) for amounts in found.values())
        if given != amount:
            raise OptionsError(
                f'the total amount "{given}" of type "{name}" is not equal to the value "{amount}"'
                " determined by Node Allocatable feature"
            )
    return found


def reserved_amounts(capacity: dict[str, str], allocatable: dict[str, str]) -> dict[str, int]:
    """Memory and huge pages that no pod gets: what capacity has more than allocatable."""
    return {
        name: parse_quantity(text).value() - parse_quantity(allocatable[name]).value()
        for name, text in capacity.items()
        if name == "memory" or name.startswith("hugepages-")
    }


def check_options(options: Options) -> None:
    """Raises OptionsError for what this machine cannot do, before anything is begun."""
    from peavine.kubelet.node.node import allocatable_of, read_capacity

    check_swap(options)
    if options.cpu_manager_policy == "static":
        reserved_cpus(options, numa.read())
    if options.memory_manager_policy == "Static":
        capacity = read_capacity(options)
        reserved_memory(options, reserved_amounts(capacity, allocatable_of(capacity, options)))


class Managers:
    """`admit` and `release` are the pods' beginning and end; the rest is asked when a container is made."""

    def __init__(self, kubelet: Kubelet, more: list[Provider], topology: numa.Topology | None = None) -> None:
        self._kubelet, options = kubelet, kubelet.options
        machine = topology or numa.read()
        self.cpus: CpuManager | None = None
        self.memory: MemoryManager | None = None
        if options.cpu_manager_policy == "static":
            given = {name for name, value in options.cpu_manager_policy_options.items() if value == "true"}
            if unknown := sorted(options.cpu_manager_policy_options.keys() - set(CPU_OPTIONS)):
                raise OptionsError(f"unknown CPU manager policy option: {unknown[0]}")
            file = options.root_dir / "cpu_manager_state"
            self.cpus = CpuManager(file, reserved_cpus(options, machine), machine, given)
        if options.memory_manager_policy == "Static":
            node = next(iter(kubelet.nodes.values()))
            kept = reserved_memory(options, reserved_amounts(node.capacity, node.allocatable))
            self.memory = MemoryManager(options.root_dir / "memory_manager_state", machine, kept)
        chosen = options.topology_manager_policy_options
        if unknown := sorted(chosen.keys() - set(TOPOLOGY_OPTIONS)):
            raise OptionsError(f"unknown topology manager policy option: {unknown[0]}")
        most = int(chosen.get("max-allowable-numa-nodes", NUMA_NODES_MAX))
        if options.topology_manager_policy != "none" and len(machine.nodes) > most:
            raise OptionsError(f"unsupported on machines with more than {most} NUMA Nodes")
        providers: list[Provider] = [p for p in (self.cpus, self.memory) if p is not None]
        self.topology = TopologyManager(
            options.topology_manager_policy,
            options.topology_manager_scope,
            machine.nodes,
            [*providers, *more],
            closest=machine.distances if chosen.get("prefer-closest-numa-nodes") == "true" else None,
        )

    def admit(self, pod: Object) -> None:
        """Choose everything for every container. Raises topology.Refused."""
        before = self.cpus.shared if self.cpus is not None else ""
        self.topology.admit(pod)
        self._shared_may_have_changed(before)

    def release(self, uid: str) -> None:
        before = self.cpus.shared if self.cpus is not None else ""
        self.topology.release(uid)
        self._shared_may_have_changed(before)

    def keep_only(self, uids: set[str]) -> None:
        """What pods had that are gone without a word (while no kubelet ran) is free."""
        held = {uid for manager in (self.cpus, self.memory) if manager is not None for uid in manager.entries}
        for uid in held - uids:
            self.release(uid)

    def fill(self, uid: str, container: str, resources: Object) -> None:
        """Put what was chosen into CRI's LinuxContainerResources."""
        if self.cpus is not None:
            alone = self.cpus.of(uid, container)
            resources["cpuset_cpus"] = alone or self.cpus.shared
            if alone:
                # Who has CPUs alone cannot take them from others: a quota would only slow it down.
                resources.pop("cpu_quota", None)
                resources.pop("cpu_period", None)
        if self.memory is not None and (nodes := self.memory.of(uid, container)):
            resources["cpuset_mems"] = nodes

    def _shared_may_have_changed(self, before: str) -> None:
        if self.cpus is not None and self.cpus.shared != before:
            self._kubelet.scope.start(self._confine_others(), name="shared cpus")

    async def _confine_others(self) -> None:
        """Containers that own no CPU are moved to those that nobody owns."""
        assert self.cpus is not None
        for worker in list(self._kubelet.workers.values()):
            for container in worker.record.running():
                if not self.cpus.of(worker.uid, container.name):
                    try:
                        await self._kubelet.runtime.update_resources(container.id, {"cpuset_cpus": self.cpus.shared})
                    except RpcError as error:
                        log.info("cpus of %s: %s", container.id, error)
