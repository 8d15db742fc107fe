"""The tree of control groups below which all pods of a node run: limits of the whole, of each class, of each pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peavine.api.core.podstate import BURSTABLE
from peavine.kubelet.cri.runtime import Message
from peavine.kubelet.node import machine
from peavine.kubelet.node.node import node_memory
from peavine.kubelet.pods import resources
from peavine.linux import cgroups
from peavine.machinery.quantity import parse_quantity

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

Object = dict[str, Any]


class PodGroups:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._root = f"{kubelet.options.cgroup_root.rstrip('/')}/kubepods"

    def prepare(self) -> None:
        """The groups above the pods', with what is allocatable as their bound."""
        options, node = self._kubelet.options, next(iter(self._kubelet.nodes.values()))
        cpu = parse_quantity(node.allocatable["cpu"]).milli()
        memory = node_memory(node.capacity, options) if "pods" in options.enforce_allocatable else -1
        limits = cgroups.Limits(cpu_shares=resources.milli_to_shares(cpu), memory_bytes=memory)
        cgroups.create(self._root, limits)
        for middle in ("burstable", "besteffort"):
            group = f"{self._root}/{middle}"
            # One that is there has pods, and the weight that they ask for.
            least = None if cgroups.exists(group) else cgroups.Limits(cpu_shares=resources.SHARES_MIN)
            cgroups.create(group, least)

    def share_out(self) -> None:
        """Burstable pods together weigh what they ask for, against the guaranteed ones beside them."""
        total = sum(
            worker.held.requests["cpu"].milli()
            for worker in self._kubelet.workers.values()
            if worker.admitted and not worker.finished
            if worker.held.quality == BURSTABLE and "cpu" in worker.held.requests
        )
        cgroups.apply(f"{self._root}/burstable", cgroups.Limits(cpu_shares=resources.milli_to_shares(total)))

    def prepare_pod(self, pod: Object) -> None:
        """Its own group."""
        kubelet = self._kubelet
        self.share_out()
        limits = resources.pod_limits_of_group(pod, kubelet.options.pod_pids_limit)
        cgroups.create(kubelet.pod_group(pod), limits)

    def limit_swap(self, pod: Object, container: Object, found: Message, *, memory_capacity: int) -> None:
        """Put into CRI's resources what a container may swap; only version 2 has a word for it."""
        if cgroups.is_unified() and (total := machine.swap_bytes()):
            behavior = self._kubelet.options.swap_behavior
            limit = resources.swap_bytes(pod, container, behavior, memory_capacity=memory_capacity, swap_capacity=total)
            found["unified"] = {"memory.swap.max": str(limit)}
