"""The topology manager: joins what CPU, memory and device managers would like, and says whether a pod may start.

Policies and their comparisons are upstream's: `none` asks nobody, `best-effort` takes the best there is, `restricted`
refuses what is not preferred, `single-numa-node` refuses what does not fit into one node.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]

POLICIES = ("none", "best-effort", "restricted", "single-numa-node")
SCOPES = ("container", "pod")
# Hints are asked for every set of nodes: beyond this many nodes there are too many sets.
NUMA_NODES_MAX = 8


@dataclass(frozen=True)
class Hint:
    """`nodes`: NUMA nodes that would do together; None: any. `preferred`: it cannot be done with fewer."""

    nodes: frozenset[int] | None
    preferred: bool


# Resource -> its hints; None: it does not matter; empty: it cannot be had at all.
Hints = Mapping[str, list[Hint] | None]
ANY = Hint(None, True)


class Refused(ValueError):
    """The pod may not start here: `reason` as the pod's status shows it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class Provider(Protocol):
    """A manager of something that lies near some NUMA nodes. `container` None: the pod as a whole."""

    def hints(self, pod: Object, container: Object | None) -> Hints: ...

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        """Give the container what it asks for, the same as before if it has it already. Raises ValueError."""

    def release(self, uid: str) -> bool:
        """True if the pod had something."""


def subsets(nodes: Iterable[int]) -> list[frozenset[int]]:
    """All sets of nodes but the empty one, the smallest first."""
    chosen = sorted(nodes)
    return [frozenset(c) for size in range(1, len(chosen) + 1) for c in itertools.combinations(chosen, size)]


def _filtered(providers: Iterable[Hints]) -> list[list[Hint]]:
    found: list[list[Hint]] = []
    for hints in providers:
        if not hints:
            found.append([ANY])
        for offered in hints.values():
            if offered is None:
                found.append([ANY])
            else:
                found.append(offered or [Hint(None, False)])
    return found


def _one(permutation: Iterable[Hint], everything: frozenset[int]) -> Hint:
    nodes, first, preferred = everything, None, True
    for hint in permutation:
        preferred = preferred and hint.preferred
        if hint.nodes is not None:
            first = hint.nodes if first is None else first
            preferred = preferred and hint.nodes == first
            nodes = nodes & hint.nodes
    return Hint(nodes, preferred)


class Merger:
    def __init__(self, nodes: Iterable[int], *, closest: dict[int, list[int]] | None = None) -> None:
        self._all = frozenset(nodes)
        # With distances, near nodes are better than low ones.
        self._distances = closest

    def _narrower(self, a: frozenset[int], b: frozenset[int]) -> bool:
        if len(a) != len(b):
            return len(a) < len(b)
        if self._distances is not None and (near := self._distance(a)) != (far := self._distance(b)):
            return near < far
        return sorted(a) < sorted(b)

    def _distance(self, nodes: frozenset[int]) -> float:
        assert self._distances is not None
        row = self._distances
        return sum(row[a][b] for a in nodes for b in nodes if b < len(row[a])) / len(nodes) ** 2

    def best(self, offered: list[list[Hint]]) -> Hint:
        smallest = [min((len(h.nodes) for h in hints if h.nodes is not None), default=0) for hints in offered]
        wanted = max(smallest, default=0)
        best: Hint | None = None
        for permutation in itertools.product(*offered):
            candidate = _one(permutation, self._all)
            if candidate.nodes and (best is None or self._better(candidate, best, wanted)):
                best = candidate
        return best or Hint(self._all, False)

    def _better(self, new: Hint, old: Hint, wanted: int) -> bool:
        assert new.nodes is not None and old.nodes is not None
        if new.preferred != old.preferred:
            return new.preferred
        if new.preferred:
            return self._narrower(new.nodes, old.nodes)
        # Nobody is content: as near as can be to the number of nodes that the neediest wants.
        if len(old.nodes) > wanted:
            return self._narrower(new.nodes, old.nodes)
        if len(old.nodes) == wanted:
            return len(new.nodes) == wanted and self._narrower(new.nodes, old.nodes)
        if len(new.nodes) > wanted:
            return False
        if len(new.nodes) != len(old.nodes):
            return len(new.nodes) > len(old.nodes)
        return self._narrower(new.nodes, old.nodes)


class TopologyManager:
    def __init__(
        self,
        policy: str,
        scope: str,
        nodes: Iterable[int],
        providers: list[Provider],
        *,
        closest: dict[int, list[int]] | None = None,
    ) -> None:
        self.policy, self.scope, self.providers = policy, scope, providers
        self._nodes = frozenset(nodes)
        self._merger = Merger(self._nodes, closest=closest)
        # (pod uid, container) -> what was agreed on
        self.agreed: dict[tuple[str, str], Hint] = {}

    def admit(self, pod: Object) -> None:
        """Give every container its own. Raises Refused, with nothing kept."""
        uid = pod["metadata"]["uid"]
        try:
            self._admit(pod, uid)
        except ValueError as error:
            self.release(uid)
            if isinstance(error, Refused):
                raise
            message = f"Allocate failed due to {error}, which is unexpected"
            raise Refused("UnexpectedAdmissionError", message) from error

    def _admit(self, pod: Object, uid: str) -> None:
        spec = pod.get("spec") or {}
        whole = self._agree(pod, None) if self.policy != "none" and self.scope == "pod" else None
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
            hint = Hint(None, False)
            if whole is not None:
                hint = whole
            elif self.policy != "none":
                hint = self._agree(pod, container)
            self.agreed[uid, container["name"]] = hint
            for provider in self.providers:
                provider.allocate(pod, container, hint)

    def _agree(self, pod: Object, container: Object | None) -> Hint:
        offered = _filtered(provider.hints(pod, container) for provider in self.providers)
        if self.policy == "single-numa-node":
            offered = [
                [h for h in hints if h.preferred and (h.nodes is None or len(h.nodes) == 1)] for hints in offered
            ]
        hint = self._merger.best(offered)
        if self.policy != "best-effort" and not hint.preferred:
            raise Refused("TopologyAffinityError", "Resources cannot be allocated with Topology locality")
        # All nodes are no wish.
        return Hint(None, hint.preferred) if hint.nodes == self._nodes else hint

    def release(self, uid: str) -> bool:
        for key in [key for key in self.agreed if key[0] == uid]:
            del self.agreed[key]
        # All of them: not `any`, which would stop at the first.
        return True in [provider.release(uid) for provider in self.providers]
