"""The static memory manager: guaranteed pods get their memory and huge pages from chosen NUMA nodes.

What was given is written down in upstream's file, `memory_manager_state`. Nodes that serve a container together serve
no container alone meanwhile, as upstream has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peavine.api.core.podstate import GUARANTEED, qos_class
from peavine.api.core.resources import is_sidecar
from peavine.kubelet.allocation.numa import Topology, format_cpus
from peavine.kubelet.allocation.topology import Hint, Hints, subsets
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]
# NUMA node -> resource -> bytes
Amounts = dict[int, dict[str, int]]


def wanted(pod: Object, container: Object) -> dict[str, int]:
    """Memory and huge pages, in bytes, that a container has for certain; empty unless its pod is guaranteed."""
    if qos_class(pod) != GUARANTEED:
        return {}
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {
        name: parse_quantity(amount).value()
        for name, amount in asked.items()
        if (name == "memory" or name.startswith("hugepages-")) and parse_quantity(amount).value() > 0
    }


def pod_wanted(pod: Object) -> dict[str, int]:
    """The most that a pod has at one time: init containers end before others begin, sidecars stay."""
    spec = pod.get("spec") or {}
    stay: dict[str, int] = {}
    most: dict[str, int] = {}
    for container in spec.get("initContainers") or []:
        for name, amount in wanted(pod, container).items():
            if is_sidecar(container):
                stay[name] = stay.get(name, 0) + amount
            else:
                most[name] = max(most.get(name, 0), stay.get(name, 0) + amount)
    for container in spec.get("containers") or []:
        for name, amount in wanted(pod, container).items():
            stay[name] = stay.get(name, 0) + amount
    return {name: max(stay.get(name, 0), most.get(name, 0)) for name in {*stay, *most}}


class MemoryManager:
    """`reserved`: what each NUMA node keeps for the system."""

    def __init__(self, file: Path, topology: Topology, reserved: Amounts) -> None:
        self._file = file
        self._room: Amounts = {
            node: {name: max(0, amount - reserved.get(node, {}).get(name, 0)) for name, amount in amounts.items()}
            for node, amounts in topology.memory.items()
        }
        # pod uid -> container -> {"nodes": [...], "amounts": {resource: bytes}}
        self.entries: dict[str, dict[str, Object]] = {}
        try:
            self.entries = json.loads(file.read_text()).get("entries") or {}
        except (OSError, ValueError):
            self.entries = {}

    def of(self, uid: str, container: str) -> str:
        """The NUMA nodes of a container as CRI wants them (`0,2-3`); empty: any."""
        entry = self.entries.get(uid, {}).get(container)
        return format_cpus(entry["nodes"]) if entry else ""

    def described(self) -> list[Object]:
        """ContainerMemory of the pod resources API: what can be given at all."""
        return [
            {"memory_type": kind, "size": size, "topology": {"nodes": [{"ID": node}]}}
            for node, amounts in sorted(self._room.items())
            for kind, size in amounts.items()
        ]

    def _used(self, pod: Object) -> tuple[dict[frozenset[int], dict[str, int]], set[int]]:
        """(what sets of nodes have given, nodes that serve in sets of several). What one-shot init containers of
        this pod had counts as free."""
        uid = pod["metadata"]["uid"]
        over = {c["name"] for c in (pod.get("spec") or {}).get("initContainers") or [] if not is_sidecar(c)}
        used: dict[frozenset[int], dict[str, int]] = {}
        joined: set[int] = set()
        for owner, containers in self.entries.items():
            for name, entry in containers.items():
                if owner == uid and name in over:
                    continue
                nodes = frozenset(entry["nodes"])
                amounts = used.setdefault(nodes, {})
                for resource, amount in entry["amounts"].items():
                    amounts[resource] = amounts.get(resource, 0) + amount
                if len(nodes) > 1:
                    joined |= nodes
        return used, joined

    def _fits(self, pod: Object, nodes: frozenset[int], amounts: dict[str, int]) -> bool:
        used, joined = self._used(pod)
        # A node in a set serves only that set; one that serves alone joins no set.
        if len(nodes) == 1 and nodes & joined:
            return False
        if len(nodes) > 1 and any(held & nodes and held != nodes for held in used):
            return False
        given = used.get(nodes, {})
        return all(
            sum(self._room.get(node, {}).get(name, 0) for node in nodes) - given.get(name, 0) >= amount
            for name, amount in amounts.items()
        )

    def hints(self, pod: Object, container: Object | None) -> Hints:
        amounts = pod_wanted(pod) if container is None else wanted(pod, container)
        if not amounts:
            return {}
        if container is not None:
            had = self.entries.get(pod["metadata"]["uid"], {}).get(container["name"])
            if had is not None:
                return {name: [Hint(frozenset(had["nodes"]), True)] for name in amounts}
        least = len(self._room)
        for nodes in subsets(self._room):
            room = {name: sum(self._room[node].get(name, 0) for node in nodes) for name in amounts}
            if all(room[name] >= amount for name, amount in amounts.items()):
                least = min(least, len(nodes))
        found = [Hint(nodes, len(nodes) == least) for nodes in subsets(self._room) if self._fits(pod, nodes, amounts)]
        return dict.fromkeys(amounts, found)

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        amounts, uid, name = wanted(pod, container), pod["metadata"]["uid"], container["name"]
        if not amounts or name in self.entries.get(uid, {}):
            return
        choices = [nodes for nodes in subsets(self._room) if self._fits(pod, nodes, amounts)]
        # Within the hint if that is enough; else the hint's nodes and what more it takes.
        near = [n for n in choices if hint.nodes is None or n >= hint.nodes] or choices
        if not near:
            shown = ", ".join(f"{resource}={amount}" for resource, amount in sorted(amounts.items()))
            raise ValueError(f"[memorymanager] failed to find NUMA nodes with enough of {shown}")
        entry = {"nodes": sorted(near[0]), "amounts": amounts}
        self.entries.setdefault(uid, {})[name] = entry
        self._save()

    def release(self, uid: str) -> bool:
        if self.entries.pop(uid, None) is None:
            return False
        self._save()
        return True

    def _save(self) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps({"policyName": "Static", "entries": self.entries}))
        draft.replace(self._file)
